"""A torch module and an nnx module made comparable: float64 copies, run alike, each layer's calls recorded."""

import contextlib
import copy
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from parity_kit.layers import modules


class Call(NamedTuple):
    """One call of a layer."""

    layer: str
    args: tuple[Any, ...]  # arrays; numpy of torch's
    kwargs: dict[str, Any]
    out: Any
    before: Any  # nnx: the layer as it was before the call; torch: None


class Pass(NamedTuple):
    """What one pass of one side gave, in that side's layout."""

    outputs: list[np.ndarray]
    gradients: dict[str, np.ndarray]  # of parameters, by that side's name
    input_gradients: list[np.ndarray | None]


def copy_torch(module: torch.nn.Module) -> torch.nn.Module:
    """A deep copy, also of a module whose spectral norm has left a weight that is no leaf of its graph."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def torch_in(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy that computes in a type and drops nothing: what dropout draws, no other framework does."""
    module = copy_torch(module).to(dtype=dtype)
    for part in module.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    return module


def nnx_in(module: nnx.Module, dtype: Any) -> nnx.Module:
    """The same of an nnx module."""
    module = nnx.clone(module)
    for _, part in modules(module):
        for name, value in list(vars(part).items()):
            if isinstance(value, nnx.Variable) and jnp.issubdtype(_type(value), jnp.floating):
                value.set_value(value.get_value().astype(dtype))
            elif isinstance(value, dict):
                for inner in value.values():
                    if isinstance(inner, nnx.Variable) and jnp.issubdtype(_type(inner), jnp.floating):
                        inner.set_value(inner.get_value().astype(dtype))
            elif name.endswith("dtype") and value is not None and _is_float(value):
                setattr(part, name, jnp.dtype(dtype))
        if isinstance(part, nnx.Dropout):
            part.rate = 0.0
    return module


def _type(variable: nnx.Variable) -> Any:
    return getattr(variable.get_value(), "dtype", np.dtype(object))


def _is_float(dtype: Any) -> bool:
    try:
        return bool(jnp.issubdtype(jnp.dtype(dtype), jnp.floating))
    except TypeError:
        return False


def has_dropout(module: torch.nn.Module) -> bool:
    """Whether something was switched off by torch_in."""
    return any(isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.p for part in module.modules())


def call_nnx(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], train: bool) -> Any:
    """A module's call in training or evaluation, however it is told: by train() and eval(), or by an argument."""
    module.train() if train else module.eval()
    parameters = inspect.signature(type(module).__call__).parameters
    told = {
        "train": train, "training": train, "is_training": train, "deterministic": not train,
        "use_running_average": not train,
    }  # fmt: skip
    return module(*args, **{n: value for n, value in told.items() if n in parameters} | kwargs)


def outputs_of(result: Any) -> list[Any]:
    """The arrays of a result: one, or those of a tuple, list or dict, in order."""
    if isinstance(result, dict):
        return [a for name in result for a in outputs_of(result[name])]
    if isinstance(result, (tuple, list)):
        return [a for part in result for a in outputs_of(part)]
    return [] if result is None else [result]


def run_torch(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    train: bool,
    weights: list[np.ndarray] | None,
) -> Pass:
    """One pass and the gradients of sum(output * weights); weights of None: no gradients."""
    module.train(train)
    module.zero_grad()
    tensors = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    named = {n: torch.tensor(a) if isinstance(a, np.ndarray) else a for n, a in kwargs.items()}
    if weights is None:
        with torch.no_grad():
            return Pass([numpy(y) for y in outputs_of(module(*tensors, **named))], {}, [])
    floats = [t for t in (*tensors, *named.values()) if isinstance(t, torch.Tensor) and t.is_floating_point()]
    for t in floats:
        t.requires_grad_()
    # A module that works in place may not do so on a leaf.
    copies = [t.clone() if isinstance(t, torch.Tensor) and t.requires_grad else t for t in tensors]
    named = {n: t.clone() if isinstance(t, torch.Tensor) and t.requires_grad else t for n, t in named.items()}
    outputs = outputs_of(module(*copies, **named))
    total = sum((y * torch.tensor(w, dtype=y.dtype)).sum() for y, w in zip(outputs, weights, strict=True))
    if isinstance(total, torch.Tensor) and total.requires_grad:
        total.backward()
    gradients = {n: numpy(p.grad) if p.grad is not None else np.zeros(p.shape) for n, p in module.named_parameters()}
    inputs = [None if t.grad is None else numpy(t.grad) for t in floats]
    return Pass([numpy(y) for y in outputs], gradients, inputs)


def run_nnx(
    module: nnx.Module, args: tuple[Any, ...], kwargs: dict[str, Any], train: bool, weights: list[np.ndarray] | None
) -> tuple[Pass, dict[int, np.ndarray]]:
    """The same; its state moves in place. Gradients by the id of the variable."""
    arrays = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
    named = {n: jnp.asarray(a) if isinstance(a, np.ndarray) else a for n, a in kwargs.items()}
    if weights is None:
        return Pass([np.asarray(y) for y in outputs_of(call_nnx(module, tuple(arrays), named, train))], {}, []), {}
    module.train() if train else module.eval()
    graph, *states = nnx.split(module, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, states)  # variables that a trace may write to are made inside of it
    slots = [*arrays, *named.values()]
    places = [i for i, a in enumerate(slots) if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)]

    def passed(params: Any, floats: list[Any]) -> Any:
        full = list(slots)
        for i, a in zip(places, floats, strict=True):
            full[i] = a
        copy = nnx.merge(graph, params, rest)
        given = tuple(full[: len(arrays)]), dict(zip(named, full[len(arrays) :], strict=True))
        outputs = outputs_of(call_nnx(copy, *given, train))
        return outputs, nnx.to_pure_dict(nnx.state(copy))

    outputs, back, after = jax.vjp(passed, params, [slots[i] for i in places], has_aux=True)
    cotangents = [jnp.asarray(w, y.dtype) for w, y in zip(weights, outputs, strict=True)]
    of_params, of_inputs = back(cotangents)
    own = {id(v): np.asarray(_at(of_params, path)) for path, v in _parameters(module)}
    nnx.update(module, after)
    return Pass([np.asarray(y) for y in outputs], {}, [np.asarray(a) for a in of_inputs]), own


def _parameters(module: nnx.Module) -> Iterator[tuple[tuple[Any, ...], nnx.Variable]]:
    for path, value in nnx.iter_graph(module):
        if isinstance(value, nnx.Param):
            yield path, value


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def numpy(t: torch.Tensor) -> np.ndarray:
    """A copy that no later step of the graph works on."""
    return t.detach().cpu().clone().numpy()


def record_torch(
    module: torch.nn.Module, names: set[str], args: tuple[Any, ...], kwargs: dict[str, Any], train: bool
) -> tuple[list[Call], Pass]:
    """The calls of the named layers in one pass without gradients, in their order."""
    calls: list[Call] = []
    handles: list[Any] = []
    for name, part in module.named_modules():
        if name in names:
            handles += _watch(part, name, calls)
    try:
        result = run_torch(module, args, kwargs, train, None)
    finally:
        for handle in handles:
            handle.remove()
    return calls, result


def _watch(part: torch.nn.Module, name: str, calls: list[Call]) -> tuple[Any, Any]:
    pending: list[tuple[Any, Any]] = []

    def array(a: Any) -> Any:
        return numpy(a) if isinstance(a, torch.Tensor) else a

    def before(_: Any, args: Any, kwargs: Any) -> None:
        pending.append((tuple(map(array, args)), {n: array(a) for n, a in kwargs.items()}))

    def after(_: Any, args: Any, kwargs: Any, out: Any) -> None:
        given = pending.pop()
        calls.append(Call(name, *given, array(outputs_of(out)[0]), None))

    return (
        part.register_forward_pre_hook(before, with_kwargs=True),
        part.register_forward_hook(after, with_kwargs=True),
    )


@contextlib.contextmanager
def _recorded(layers: dict[str, nnx.Module], calls: list[Call], probes: list[Any] | None = None) -> Iterator[None]:
    """Inside, calls of these modules are noted, those within one another once.

    probes: zeros that are added to the result of each call, to differentiate in; the modules are not copied then.
    """
    watched = {id(part): path for path, part in layers.items()}
    classes: dict[type, Any] = {}
    depth: set[int] = set()

    def patch(kind: type) -> None:
        original: Any = kind.__call__

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if id(self) not in watched or id(self) in depth:
                return original(self, *args, **kwargs)
            before = nnx.clone(self) if probes is None else None
            depth.add(id(self))
            try:
                out = original(self, *args, **kwargs)
            finally:
                depth.discard(id(self))
            if probes is not None and len(outputs_of(out)) == 1:
                out = out + probes[len(calls)]
            calls.append(Call(watched[id(self)], args, kwargs, outputs_of(out)[0], before))
            return out

        call.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        classes[kind] = vars(kind).get("__call__")
        setattr(kind, "__call__", call)  # noqa: B010 - of a class that is known by its value alone

    try:
        for kind in {type(part) for part in layers.values()}:
            patch(kind)
        yield
    finally:
        for kind, original in classes.items():
            if original is None:
                delattr(kind, "__call__")
            else:
                setattr(kind, "__call__", original)  # noqa: B010 - of a class that is known by its value alone


def record_nnx(
    module: nnx.Module, layers: dict[str, nnx.Module], args: tuple[Any, ...], kwargs: dict[str, Any], train: bool
) -> tuple[list[Call], Pass]:
    """The calls of the given layers of a module in one pass, in their order; the module's state moves."""
    calls: list[Call] = []
    arrays = tuple(jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args)
    named = {n: jnp.asarray(a) if isinstance(a, np.ndarray) else a for n, a in kwargs.items()}
    with _recorded(layers, calls):
        result = call_nnx(module, arrays, named, train)
    return calls, Pass([np.asarray(y) for y in outputs_of(result)], {}, [])


def torch_result_gradients(
    module: torch.nn.Module, names: set[str], args: tuple[Any, ...], kwargs: dict[str, Any], train: bool,
    weights: list[np.ndarray],
) -> list[tuple[str, np.ndarray]]:  # fmt: skip
    """(layer, gradient in its result) of each call in one pass, in the order of the calls."""
    found: list[list[Any]] = []

    def note(name: str) -> Any:
        def after(_: Any, args: Any, out: Any) -> None:
            own = [name, np.zeros(())]
            found.append(own)
            if isinstance(out, torch.Tensor) and out.requires_grad:
                own[1] = np.zeros(tuple(out.shape))
                out.register_hook(lambda g: own.__setitem__(1, numpy(g)))

        return after

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules() if name in names]
    run_torch(module, args, kwargs, train, weights)
    for handle in handles:
        handle.remove()
    return [(name, g) for name, g in found]


def nnx_result_gradients(
    module: nnx.Module, paths: list[str], args: tuple[Any, ...], kwargs: dict[str, Any], train: bool,
    weights: list[np.ndarray],
) -> list[tuple[str, np.ndarray]]:  # fmt: skip
    """The same of an nnx module, by zeros added to each result."""
    plain = nnx.clone(module)
    calls, _ = record_nnx(plain, {p: dict(modules(plain))[p] for p in paths}, args, kwargs, train)
    graph, state = nnx.split(module)
    pure = nnx.to_pure_dict(state)
    arrays = tuple(jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args)
    named = {n: jnp.asarray(a) if isinstance(a, np.ndarray) else a for n, a in kwargs.items()}

    def run(probes: list[Any]) -> Any:
        copy = nnx.merge(graph, pure)
        here = dict(modules(copy))
        with _recorded({p: here[p] for p in paths}, [], probes):
            return outputs_of(call_nnx(copy, arrays, named, train))

    outputs, back = jax.vjp(run, [jnp.zeros_like(c.out) for c in calls])
    (gradients,) = back([jnp.asarray(w, y.dtype) for w, y in zip(weights, outputs, strict=True)])
    return [(c.layer, np.asarray(g)) for c, g in zip(calls, gradients, strict=True)]
