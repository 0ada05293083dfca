"""Where gradients part though every result agrees: in a layer, or between two."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jax_sngan.interop import state_dicts
from parity_kit.between import close
from parity_kit.layers import layers_of
from parity_kit.matching import Pair
from parity_kit.sides import Call, copy_torch, nnx_result_gradients, numpy, outputs_of, torch_result_gradients

if TYPE_CHECKING:
    from parity_kit.locate import Layouts, Recorded


def explain(
    start: torch.nn.Module, ours: nnx.Module, pairs: list[Pair], layouts: "Layouts", found: "Recorded",
    inputs: tuple[Any, Any], train: bool,
) -> tuple[Pair | None, str]:  # fmt: skip
    """(the first layer whose own gradient differs, the kind of difference).

    Where no layer's does, it is lost or changed between two layers: the later one is named.

    Args:
      start, ours: both as they were before the pass.
    """
    by_name = {p.torch.name: p for p in pairs}
    seen: set[str] = set()
    for call in found.theirs:
        pair = by_name[call.layer]
        other = found.ours.get((pair.nnx.path, 0))
        if other is None or call.layer in seen:
            continue
        seen.add(call.layer)
        words = _own(dict(start.named_modules())[call.layer], pair, layouts, call, other, train)
        if words:
            return pair, words
    return _between(start, ours, pairs, layouts, found, inputs, train)


def _between(
    start: torch.nn.Module, ours: nnx.Module, pairs: list[Pair], layouts: "Layouts", found: "Recorded",
    inputs: tuple[Any, Any], train: bool,
) -> tuple[Pair | None, str]:  # fmt: skip
    """Of the results whose gradient differs the last one; what comes after it is where the gradient is lost."""
    args, kwargs = inputs
    by_name = {p.torch.name: p for p in pairs}
    weights = [np.random.default_rng(0).normal(size=t.shape) for t in found.outputs[0]]
    theirs = torch_result_gradients(
        copy_torch(start), set(by_name), layouts.to_torch(args), layouts.named(kwargs), train, weights
    )
    turned = [layouts.to_nnx(w) for w in weights]
    own = nnx_result_gradients(ours, [p.nnx.path for p in pairs], args, kwargs, train, turned)
    of_ours: dict[str, list[np.ndarray]] = {}
    for path, g in own:
        of_ours.setdefault(path, []).append(g)
    later: Pair | None = None
    used = {name: sum(n == name for n, _ in theirs) for name in by_name}
    for name, g in reversed(theirs):
        pair = by_name[name]
        used[name] -= 1
        same = of_ours.get(pair.nnx.path, [])
        if used[name] >= len(same):
            continue
        expected, other = layouts.made_by(pair, g), same[used[name]]
        if not close(other, expected) and np.max(np.abs(other - expected), initial=0) > 1e-12:
            told = "gradient stopped" if not np.any(other) else "another gradient, though the result is the same"
            return (later, f"before the layer: {told}") if later else (pair, f"after the layer: {told}")
        later = pair
    first = by_name[theirs[0][0]] if theirs else pairs[0]
    return first, "before the layer: another gradient, though the result is the same"


def _own(layer: torch.nn.Module, pair: Pair, layouts: "Layouts", call: Call, other: Call, train: bool) -> str:
    layer = copy_torch(layer).train(train)
    layer.zero_grad()
    floats = np.asarray(call.args[0]).dtype.kind == "f"
    x = torch.tensor(call.args[0]).requires_grad_(floats)
    rest = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in call.args[1:]]
    named = {n: torch.tensor(a) if isinstance(a, np.ndarray) else a for n, a in call.kwargs.items()}
    y = outputs_of(layer(x.clone() if floats else x, *rest, **named))[0]
    weights = np.random.default_rng(0).normal(size=tuple(y.shape))
    if not y.requires_grad:
        return ""
    (y * torch.tensor(weights)).sum().backward()
    of_x, of_params = _nnx(other, layouts.made_by(pair, weights), layouts.read_by(pair, call.args[0]))
    scale = max((float(np.max(np.abs(a))) for a in of_params.values()), default=1.0)
    for f, found in of_params.items():
        parameter = dict(layer.named_parameters()).get(_leaf(pair, f))
        if parameter is None or parameter.grad is None:
            continue
        expected = layouts.slot(pair, f, numpy(parameter.grad))
        if not close(found, expected) and np.max(np.abs(found - expected)) > 1e-10 * scale:
            return _kind(pair, f, found, expected, layer, layouts)
    if floats and x.grad is not None and not close(of_x, layouts.read_by(pair, numpy(x.grad))):
        told = "stopped" if not np.any(of_x) else "another"
        if pair.nnx.kind == "norm":
            return f"gradient of the layer's input: {told}, as of batch statistics that are held constant"
        return f"gradient of the layer's input: {told}"
    return ""


def _leaf(pair: Pair, field: str) -> str:
    name = pair.torch.names.get(field, field)
    return name[len(pair.torch.name) + 1 :] if pair.torch.name and name.startswith(f"{pair.torch.name}.") else (
        name.rpartition(f"{pair.torch.name}.")[2] if pair.torch.name else name)  # fmt: skip


def _nnx(call: Call, weights: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Gradients in the input and, by field, in the layer's parameters."""
    module: Any = call.before
    graph, *states = nnx.split(module, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, states)

    def run(params: Any, x: Any) -> Any:
        return outputs_of(nnx.merge(graph, params, rest)(x, *call.args[1:], **call.kwargs))[0]

    floats = x.dtype.kind == "f"
    if floats:
        _, back = jax.vjp(run, params, jnp.asarray(x))
        of_params, of_x = back(jnp.asarray(weights))
    else:
        _, back = jax.vjp(lambda p: run(p, jnp.asarray(x)), params)
        (of_params,), of_x = back(jnp.asarray(weights)), np.zeros(())
    nnx.update(module, of_params)  # the copy's parameters now hold their gradients
    layers = layers_of(module)
    slots = layers[0].slots if layers else {}
    return np.asarray(of_x), {
        f: np.asarray(s.variable.get_value()) for f, s in slots.items() if isinstance(s.variable, nnx.Param)
    }


def _kind(
    pair: Pair, field: str, found: np.ndarray, expected: np.ndarray, layer: torch.nn.Module, layouts: "Layouts"
) -> str:
    if not np.any(found):
        return f"gradient stopped: none reaches {field}"
    if pair.torch.spectral and field == "weight":
        # torch's is (G - (u^T G v / …) u v^T) / sigma: what is left of the difference is one matrix u v^T.
        apart = state_dicts.matrix(np.moveaxis(found - expected, -1, 0), 0)
        values = np.linalg.svd(apart, compute_uv=False)
        if len(values) == 1 or values[1] <= 1e-6 * values[0]:
            return "gradient of sigma left out: it is held constant, and torch differentiates it through the kernel"
        return "gradient through u and v, which torch holds constant"
    factor = float(np.vdot(expected, found) / max(float(np.vdot(expected, expected)), 1e-300))
    if close(found, factor * expected):
        return f"gradient of {field}: {factor:.6g} times torch's"
    return f"gradient of {field}"
