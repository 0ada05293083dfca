"""The layers of an nnx module in the order in which they were made, and how each of their arrays lies in torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from jax_sngan.nn import batch_norm as own_batch_norm
from jax_sngan.nn import layer_norm as own_layer_norm
from jax_sngan.nn import layers as own

Turn = Callable[[np.ndarray], np.ndarray]
Shape = tuple[int, ...]


@dataclass
class Slot:
    """One array of an nnx module."""

    variable: nnx.Variable
    from_torch: Turn
    torch_shapes: tuple[Shape, ...]  # any of them fits


@dataclass
class NnxLayer:
    """A module that holds arrays itself, with the spectral norm around it or in it."""

    path: str  # dotted, "blocks.0.conv1"
    module: nnx.Module  # the one that is called with the layer's input
    kind: str  # conv, conv_transpose, linear, embed, norm, other
    slots: dict[str, Slot] = field(default_factory=dict)  # by TorchLayer's field
    spectral: bool = False
    turned: bool = False  # its kernel is torch's turned round in space

    @property
    def channels_last(self) -> bool:
        """Whether its maps are [n, …, c] here and [n, c, …] in torch."""
        return self.kind in ("conv", "conv_transpose", "norm")

    @property
    def out_axis(self) -> int:
        """Of torch's kernel, which axis spectral norm's matrix [out, rest] starts with."""
        return 1 if self.kind == "conv_transpose" else 0


_CONVS = (nnx.Conv, own.Conv)
_TRANSPOSED = (nnx.ConvTranspose, own.ConvTranspose)
_LINEARS = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, own.Linear)
_EMBEDS = (nnx.Embed, own.Embedding)
_NORMS = (
    nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm, own_batch_norm.BatchNorm, own_layer_norm.LayerNorm,
)  # fmt: skip
_FIELDS = {
    "kernel": "weight", "embedding": "weight", "scale": "weight", "w": "weight", "b": "bias", "gamma": "weight",
    "beta": "bias", "running_mean": "mean", "running_var": "var", "weight_u": "u", "weight_v": "v",
    "negative_slope": "weight",
}  # fmt: skip


_NAMED = {  # classes of one's own, by what their names hold
    "conv": ("conv",),
    "norm": ("batchnorm", "groupnorm", "instancenorm"),
    "embed": ("embed",),
    "linear": ("linear", "dense"),
}


def kind_of(module: nnx.Module) -> str:
    """What a module is to torch's layouts; other: judged by names and shapes alone."""
    for kind, types in (
        ("conv", _CONVS), ("conv_transpose", _TRANSPOSED), ("linear", _LINEARS), ("embed", _EMBEDS), ("norm", _NORMS),
    ):  # fmt: skip
        if isinstance(module, types):
            return kind
    name = type(module).__name__.lower()
    if "transpose" in name or "deconv" in name:
        return "conv_transpose"
    for kind, words in _NAMED.items():
        if any(word in name for word in words) and _own_variables(module):
            return kind
    return "other"


def children(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, nnx module) of all that a module, list or dict holds, in the order in which they were assigned."""
    items: Any
    if isinstance(module, dict):
        items = module.items()
    elif isinstance(module, (list, tuple)):
        items = enumerate(module)
    else:
        items = ((name, value) for name, value in vars(module).items() if not name.startswith("_pytree__"))
    for name, value in items:
        if isinstance(value, (nnx.Module, nnx.Pytree)) and not isinstance(value, nnx.Rngs):
            yield str(name), value
        elif isinstance(value, (dict, list, tuple)):
            for inner, found in children(value):
                yield f"{name}.{inner}", found


def modules(module: Any, path: str = "") -> Iterator[tuple[str, nnx.Module]]:
    """(dotted path, module) of a module and all in it, each once, parents before what they hold."""
    seen: set[int] = set()

    def walk(at: Any, path: str) -> Iterator[tuple[str, nnx.Module]]:
        if id(at) in seen:
            return
        seen.add(id(at))
        yield path, at
        for name, child in children(at):
            yield from walk(child, f"{path}.{name}" if path else name)

    # nnx.Sequential's own list is no level that anybody wrote.
    for at, found in walk(module, path):
        yield at.replace(".layers.", ".") if ".layers." in at else at, found


def _own_variables(module: Any) -> dict[str, nnx.Variable]:
    found: dict[str, nnx.Variable] = {}
    for name, value in vars(module).items():
        if isinstance(value, nnx.Variable) and not isinstance(value, (nnx.RngState, nnx.Cache)):
            found[name] = value
        elif isinstance(value, dict):  # nnx.SpectralNorm keeps ("kernel", "u") and ("kernel", "sigma")
            for key, inner in value.items():
                if isinstance(inner, nnx.Variable):
                    found[str(key[-1] if isinstance(key, tuple) else key)] = inner
    return found


def layers_of(module: nnx.Module) -> list[NnxLayer]:
    """Every layer that holds arrays, in the order in which their modules were assigned."""
    found: list[NnxLayer] = []
    vectors: list[tuple[str, Any, dict[str, nnx.Variable]]] = []
    seen: set[int] = set()
    for path, part in modules(module):
        variables = {_FIELDS.get(n, n): v for n, v in _own_variables(part).items() if id(v) not in seen}
        seen |= {id(v) for v in variables.values()}  # a module may hold another's kernel too
        if "u" in variables:
            vectors.append((path, part, {n: variables.pop(n) for n in ("u", "v", "sigma") if n in variables}))
        if variables:
            found.append(_layer(path, part, kind_of(part), variables))
    for path, part, uv in vectors:
        _attach(found, path, part, uv)
    return found


def _attach(found: list[NnxLayer], path: str, part: nnx.Module, uv: dict[str, nnx.Variable]) -> None:
    """Gives u and v to the layer that they are of: the module itself, what it wraps, or what holds it."""
    parent = path.rpartition(".")[0]
    own_layer = [x for x in found if x.path == path]
    wrapped = [x for x in found if x.path.startswith(f"{path}.") or (x.path and not path)]
    holder = [x for x in found if x.path == parent]
    for layers in (own_layer, wrapped, holder):
        if len(layers) == 1 and "weight" in layers[0].slots:
            layer = layers[0]
            if layers is wrapped:  # it is the wrapper that is called, and that torch has no level for
                layer.path, layer.module = path, part
            layer.spectral = True
            for name in ("u", "v"):
                if name in uv:
                    layer.slots[name] = _vector(uv[name], name, layer)
            return


def _vector(variable: nnx.Variable, name: str, layer: NnxLayer) -> Slot:
    shape, window = tuple(variable.shape), layer.slots["weight"].variable.shape[:-2]
    size = int(np.prod(shape))

    def turn(a: np.ndarray) -> np.ndarray:
        if name == "v" and layer.kind in ("conv", "conv_transpose"):
            a = np.moveaxis(a.reshape(-1, *window), 0, -1)  # (in, kh, kw) -> (kh, kw, in)
            a = np.flip(a, tuple(range(len(window)))) if layer.turned else a
        return a.reshape(shape)

    return Slot(variable, turn, ((size,),))


def _layer(path: str, module: nnx.Module, kind: str, variables: dict[str, nnx.Variable]) -> NnxLayer:
    layer = NnxLayer(path, module, kind)
    layer.turned = isinstance(module, nnx.ConvTranspose) and not module.transpose_kernel
    for name, variable in variables.items():
        shape = tuple(variable.shape)
        if name == "weight" and kind in ("conv", "conv_transpose", "linear"):
            layer.slots[name] = kernel_slot(variable, kind, module)
        elif name == "weight" and kind == "other" and len(shape) in (2, 3, 4, 5):
            guess = "linear" if len(shape) == 2 else "conv"
            layer.slots[name] = kernel_slot(variable, guess, module)
        else:
            layer.slots[name] = Slot(variable, partial(np.reshape, shape=shape), _same_size(shape))
    return layer


def _same_size(shape: Shape) -> tuple[Shape, ...]:
    """An array that both lay out alike; torch may have it flat, or with axes of one number around it."""
    flat = (int(np.prod(shape)),)
    return tuple(dict.fromkeys((shape, flat))) + (((1,), ()) if flat == (1,) else ())


def kernel_slot(variable: nnx.Variable, kind: str, module: Any) -> Slot:
    """A kernel's slot, by what kind of layer it belongs to."""
    shape = tuple(variable.shape)
    if kind == "linear":
        out = shape[-1:]
        if isinstance(module, nnx.LinearGeneral):
            out = tuple(np.atleast_1d(module.out_features).tolist())
        rest = shape[: len(shape) - len(out)]
        torch_shape = (int(np.prod(out)), int(np.prod(rest)))
        return Slot(variable, lambda a: a.T.reshape(shape), (torch_shape,))
    *window, first, last = shape
    space = tuple(range(2, 2 + len(window)))
    if kind == "conv":  # [k, in, out] <- [out, in, k]
        return Slot(variable, lambda a: a.transpose(*space, 1, 0), ((last, first, *window),))
    if isinstance(module, nnx.ConvTranspose) and not module.transpose_kernel:
        # flax correlates with the kernel as it is; torch's is that of the convolution which it transposes.
        def turned(a: np.ndarray) -> np.ndarray:
            return np.flip(a, space).transpose(*space, 0, 1)

        return Slot(variable, turned, ((first, last, *window),))
    return Slot(
        variable, lambda a: a.transpose(*space, 1, 0), ((last, first, *window),)
    )  # [k, out, in] <- [in, out, k]
