"""Which layer of a state dict belongs to which layer of an nnx module: by name, by shape, by order."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jax_sngan.interop.state_dicts import TorchLayer
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import listed
from parity_kit.layers import NnxLayer

Names = Mapping[str, str] | Callable[[str], str]


class Pair(NamedTuple):
    """Two layers that hold the same arrays."""

    torch: TorchLayer
    nnx: NnxLayer
    how: str  # "by name", …


def fits(torch: TorchLayer, nnx: NnxLayer) -> bool:
    """Whether a layer has an array of the right shape for each of the other's, u and v apart."""
    wanted = {f for f in nnx.slots if f not in ("u", "v")}
    given = {f for f in torch.arrays if f not in ("u", "v")}
    return wanted == given and all(fits_slot(torch, nnx, f) for f in wanted)


def fits_slot(torch: TorchLayer, nnx: NnxLayer, field: str) -> bool:
    """Whether one array has a shape that its place takes."""
    return tuple(torch.arrays[field].shape) in nnx.slots[field].torch_shapes


def match(torch: list[TorchLayer], nnx: list[NnxLayer], names: Names | None) -> list[Pair]:
    """Pairs, in torch's order; what has no partner is left out.

    First as `names` says, then equal names; the others by the shapes of all their arrays, and where several layers of
    each have the same shapes, by their order.
    """
    given = _given(torch, nnx, names)
    pairs: dict[str, Pair] = {}
    left = {layer.path: layer for layer in nnx}
    for layer in torch:
        for path, how in ((given.get(layer.name), "as `names` says"), (layer.name, "by name")):
            if path in left and layer.name not in pairs and (how != "by name" or fits(layer, left[path])):
                pairs[layer.name] = Pair(layer, left.pop(path), how)
    others = [layer for layer in torch if layer.name not in pairs]
    for layer in others:
        if layer.name in pairs:
            continue
        same = [t for t in others if t.name not in pairs and _alike(t, layer)]
        partners = [n for n in left.values() if fits(layer, n)]
        how = "by shape" if len(same) == len(partners) == 1 else "by shape and order"
        for t, n in zip(same, partners, strict=False):
            if fits(t, n):
                pairs[t.name] = Pair(t, left.pop(n.path), how)
    return [pairs[layer.name] for layer in torch if layer.name in pairs]


def _alike(a: TorchLayer, b: TorchLayer) -> bool:
    def shapes(layer: TorchLayer) -> dict[str, tuple[int, ...]]:
        return {f: tuple(x.shape) for f, x in layer.arrays.items() if f not in ("u", "v")}

    return shapes(a) == shapes(b)


def _given(torch: list[TorchLayer], nnx: list[NnxLayer], names: Names | None) -> dict[str, str]:
    """torch's layer -> ours, from whole names or beginnings of them, written in either direction."""
    if names is None:
        return {}
    theirs, ours = [t.name for t in torch], [n.path for n in nnx]
    if callable(names):
        return {name: _layer_name(names(name), ours) for name in theirs}
    pairs = [(_layer_name(a, [*theirs, *ours]), _layer_name(b, [*theirs, *ours])) for a, b in names.items()]
    if not all(any(_within(name, a) for name in theirs) for a, _ in pairs):
        pairs = [(b, a) for a, b in pairs]
    for a, b in pairs:
        if not any(_within(name, a) for name in theirs) or not any(_within(name, b) for name in ours):
            raise UserError(
                f"names: {a!r} and {b!r} don't both begin a layer's name; "
                f"torch has {listed(theirs, 12)}, nnx {listed(ours, 12)}"
            )
    found: dict[str, str] = {}
    for name in theirs:
        fitting = [(a, b) for a, b in pairs if _within(name, a)]
        if fitting:
            a, b = max(fitting, key=lambda pair: len(pair[0]))
            found[name] = b + name[len(a) :]
    return found


def _layer_name(name: str, layers: list[str]) -> str:
    """A layer's name, also where one of its arrays was named."""
    if any(_within(layer, name) for layer in layers):
        return name
    head = name.rpartition(".")[0]
    return head if head in layers else name


def _within(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(f"{beginning}.") or not beginning
