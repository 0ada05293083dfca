"""load_state_dict: anybody's PyTorch weights in anybody's nnx module, and what was done to them on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jax_sngan.interop import state_dicts
from jax_sngan.interop.safetensors import read_safetensors
from jax_sngan.interop.state_dicts import TorchLayer
from jax_sngan.interop.torch_layout import map_from_torch
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import listed
from parity_kit.layers import NnxLayer, layers_of
from parity_kit.matching import Names, Pair, fits_slot, match

_MOST_NAMED = 20


class Flat(NamedTuple):
    """Which axes of a kernel are maps that the module flattens in the order (h, w, c): their (h, w), or None."""

    out: tuple[int, int] | None = None
    rest: tuple[int, int] | None = None


@dataclass
class Loaded:
    """What load_state_dict did. `missing`, `extra` and `misshapen` are empty wherever it returns."""

    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # arrays of the module that the state dict has not
    extra: list[str] = field(default_factory=list)  # arrays of the state dict that the module has not
    misshapen: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # wrappers, prefixes, norms, flattened maps

    def __str__(self) -> str:
        width = max([len(p.torch.name) for p in self.pairs], default=0)
        lines = [f"{p.torch.name:{width}}  ->  {p.nnx.path}  ({p.how})" for p in self.pairs]
        for what in ("missing", "extra", "misshapen"):
            if getattr(self, what):
                lines.append(f"{what}: {some(getattr(self, what))}")
        return "\n".join([*lines, *self.notes])


def some(names: list[str]) -> str:
    """The first twenty names."""
    return listed(names, _MOST_NAMED)


def load_state_dict(
    nnx_module: nnx.Module,
    state_dict: Mapping[str, Any] | str | Path,
    names: Names | None = None,
    flatten: Literal["chw", "hwc"] = "chw",
) -> Loaded:
    """Puts a PyTorch state dict into an nnx module, whose variables are changed in place and keep their types.

    Layers are matched by name, by the shapes of all their arrays, and by order; kernels are turned by layer kind.
    `module.`, `_orig_mod.`, `netG.` and other prefixes go, wrappers (`state_dict`, `model`, `generator`, `netG`, …) are
    entered. torch's spectral norms, old and as a parametrization, give u and v to a module that keeps them, and are
    divided out for one that does not; weight norm is multiplied out. Counts of batches are left behind.

    Args:
      state_dict: names -> torch tensors or numpy arrays, perhaps inside of wrappers; or a .safetensors, .pt or .pth
        file, which is read without running code.
      names: torch's names -> the module's (or the other way round) where they don't match by themselves: whole names or
        their beginnings; or a function from a torch layer's name to the module's.
      flatten: how the module flattens maps in front of a linear layer and unflattens them behind one: "chw", as torch
        does, so that kernels stay; or "hwc", its own order, so that they are turned. Maps are taken to be square.
    Returns:
      How each layer was matched, and what was done. `print` shows it.
    Raises:
      UserError: something is missing, extra or misshapen (nothing has been loaded then), or the file can't be read.
    """
    if flatten not in ("chw", "hwc"):
        raise UserError(f"flatten must be chw or hwc, got {flatten!r}")
    layers = layers_of(nnx_module)
    torch_layers, notes = read(state_dict)
    loaded = matched(torch_layers, layers, names)
    loaded.notes = notes + loaded.notes
    if loaded.missing or loaded.extra or loaded.misshapen:
        wrong = {what: getattr(loaded, what) for what in ("missing", "extra", "misshapen")}
        told = "; ".join(f"{what} {some(entries)}" for what, entries in wrong.items() if entries)
        raise UserError(f"the state dict does not fit the module: {told}")
    flats = guessed_flats(loaded.pairs, layers) if flatten == "hwc" else {}
    put(loaded, flats)
    return loaded


def read(state_dict: Mapping[str, Any] | str | Path) -> tuple[list[TorchLayer], list[str]]:
    """The layers of a state dict or file, and what was taken off."""
    if isinstance(state_dict, (str, Path)):
        state_dict = _file(Path(state_dict))
    found = state_dicts.unwrapped(state_dict)
    arrays = {name: state_dicts.as_numpy(name, a) for name, a in found.arrays.items()}
    short, prefixes = state_dicts.without_prefixes(arrays)
    notes = found.notes(prefixes)
    return list(state_dicts.layers_of(arrays, short).values()), notes


def _file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers meet: each of them is a file that can't be read
        raise UserError(f"{path}: torch can't read it: {' '.join(str(error).split())[:200]}") from None


def matched(torch_layers: list[TorchLayer], layers: list[NnxLayer], names: Names | None) -> Loaded:
    """The pairs, and what is left over on either side."""
    loaded = Loaded(match(torch_layers, layers, names))
    paired = {p.torch.name for p in loaded.pairs}, {p.nnx.path for p in loaded.pairs}
    lone = [t for t in torch_layers if t.name not in paired[0]], [n for n in layers if n.path not in paired[1]]
    for t in list(lone[0]):  # a layer with other arrays or shapes: of the same name, or the last that is left
        n = next((n for n in lone[1] if n.path == t.name), None)
        if n is None and len(lone[0]) == len(lone[1]) == 1 and set(t.arrays) & set(lone[1][0].slots):
            n = lone[1][0]
        if n is not None:
            loaded.pairs.append(Pair(t, n, "by name"))
            lone[0].remove(t)
            lone[1].remove(n)
    for pair in loaded.pairs:
        _compare_fields(pair, loaded)
    loaded.extra += [name for t in lone[0] for name in t.names.values()]
    loaded.missing += [f"{n.path}.{f}".lstrip(".") for n in lone[1] for f in n.slots]
    return loaded


def _compare_fields(pair: Pair, loaded: Loaded) -> None:
    t, n = pair.torch, pair.nnx
    for f in n.slots:
        if f not in t.arrays and not (f == "v" and "u" in t.arrays):
            loaded.missing.append(f"{n.path}.{f}".lstrip("."))
        elif f in t.arrays and not fits_slot(t, n, f):
            wanted = " or ".join(str(list(s)) for s in n.slots[f].torch_shapes)
            loaded.misshapen.append(
                f"{t.names.get(f, f'{t.name}.{f}')} is {list(t.arrays[f].shape)}, {n.path}.{f} takes {wanted} of torch"
            )
    folds = t.spectral and "u" not in n.slots
    loaded.extra += [t.names[f] for f in t.arrays if f not in n.slots and not (f in ("u", "v") and folds) and f != "v"]


def put(loaded: Loaded, flats: Mapping[str, Flat]) -> None:
    """Writes every pair's arrays into the module, or none if one can't be made. flats: by the module's path."""
    values = []
    for pair in loaded.pairs:
        t, n, flat = pair.torch, pair.nnx, flats.get(pair.nnx.path, Flat())
        arrays = dict(t.arrays)
        if t.spectral and "v" in n.slots:
            if "v" not in arrays:
                loaded.notes.append(f"{t.name}: v is not stored and was made as torch makes it")
            arrays["v"] = state_dicts.vector_v(t, n.out_axis)
        elif t.spectral and "u" not in n.slots:
            arrays["weight"] = state_dicts.effective_weight(t, n.out_axis)
            loaded.notes.append(f"{t.name}: divided by its spectral norm, which the module has not")
        if t.folded:
            loaded.notes.append(f"{t.name}: {t.folded} multiplied out")
        if flat != Flat():
            told = [
                f"{side} a map of {hw[0]} x {hw[1]}" for side, hw in zip(("makes", "reads"), flat, strict=True) if hw
            ]
            loaded.notes.append(f"{t.name}: {' and '.join(told)}, in the order (h, w, c)")
        for f, slot in n.slots.items():
            value = slot.from_torch(unflattened(np.asarray(arrays[f]), f, flat))
            values.append((slot.variable, _like(slot.variable, value)))
    for variable, value in values:
        variable.set_value(value)


def unflattened(a: np.ndarray, field: str, flat: Flat) -> np.ndarray:
    """An array with its flattened maps in the order (h, w, c)."""
    if flat.out and field != "v" and a.shape:
        a = map_from_torch(a, *flat.out)
    if flat.rest and (field == "v" or (field == "weight" and a.ndim == 2)):
        a = map_from_torch(a, *flat.rest, axis=a.ndim - 1)
    return a


def _like(variable: nnx.Variable, value: np.ndarray) -> Any:
    # A copy: jax takes numpy's memory as it is where it can, and that may be the torch module's own.
    return jnp.array(np.array(value), variable.get_value().dtype)


def guessed_flats(pairs: list[Pair], layers: list[NnxLayer]) -> dict[str, Flat]:
    """Linear layers beside square maps, told by channels: what one reads is a multiple of those made before it."""
    found: dict[str, Flat] = {}
    for path, change in candidate_flats(pairs, layers, {}, {}):
        ((side, (h, w)),) = change.items()
        if h == w and getattr(found.get(path, Flat()), side) is None:
            found[path] = found.get(path, Flat())._replace(**change)
            if side == "out":
                found |= {x: Flat(out=(h, w)) for x in followers(layers, path)}
    return found


def candidate_flats(
    pairs: list[Pair], layers: list[NnxLayer], given: Mapping[int, tuple[int, int]], made: Mapping[int, tuple[int, int]]
) -> list[tuple[str, dict[str, tuple[int, int]]]]:
    """(path, {"out" or "rest": (h, w)}): maps that linear layers may make or read, by the channels of their neighbours.

    Args:
      layers: in the order of their calls, or of their making.
      given, made: how many numbers an image has that goes into, or comes out of, the whole module -> its (h, w).
    """
    place = {layer.path: i for i, layer in enumerate(layers)}
    found: list[tuple[str, dict[str, tuple[int, int]]]] = []
    flat: dict[int, list[tuple[int, int]]] = {}  # features -> the maps that a linear layer may read them as
    for p in pairs:
        if p.nnx.kind == "embed" and "weight" in p.torch.arrays:  # classes weigh the features that a score reads
            found += [(p.nnx.path, {"rest": hw}) for hw in flat.get(p.torch.arrays["weight"].shape[-1], [])]
        if p.nnx.kind != "linear" or "weight" not in p.torch.arrays:
            continue
        outs, rests = p.torch.arrays["weight"].shape
        i = place[p.nnx.path]
        convs = [x for x in layers[i + 1 :] if x.kind in ("linear", "conv", "conv_transpose")]
        if convs and convs[0].kind != "linear":
            found += [(p.nnx.path, {"out": hw}) for hw in maps_of(outs, channels(convs[0], "in"))]
        elif outs in made:
            found.append((p.nnx.path, {"out": made[outs]}))
        before = _channels_before(layers[:i])
        flat[rests] = [given[rests]] if before is None and rests in given else maps_of(rests, before)
        found += [(p.nnx.path, {"rest": hw}) for hw in flat[rests]]
    return found


def followers(layers: list[NnxLayer], path: str) -> list[str]:
    """Normalisations of a linear layer's features before they become a map."""
    i = next(i for i, x in enumerate(layers) if x.path == path)
    found = []
    for x in layers[i + 1 :]:
        if (
            x.kind != "norm"
            or "weight" not in x.slots
            or x.slots["weight"].variable.shape != layers[i].slots["weight"].variable.shape[-1:]
        ):
            break
        found.append(x.path)
    return found


def called(module: torch.nn.Module) -> list[TorchLayer]:
    """The layers of a module under the names that its own named_modules has."""
    layers = read(module.state_dict())[0]
    known = {name for name, _ in module.named_modules()}
    for layer in layers:
        if layer.name not in known:
            layer.name = next((n for n in known if n.endswith(f".{layer.name}") or (not layer.name and n)), layer.name)
    return layers


def _channels_before(layers: list[NnxLayer]) -> int | None:
    """Channels of the last map that these layers make; None where a linear layer has come since."""
    for layer in reversed(layers):
        if layer.kind == "linear" or channels(layer, "out"):
            return channels(layer, "out")
    return None


def channels(layer: NnxLayer, side: Literal["in", "out"]) -> int | None:
    """Channels of the map that a layer reads or makes; None where it is of no maps."""
    if layer.kind not in ("conv", "conv_transpose", "norm") or "weight" not in layer.slots:
        return None
    shape = layer.slots["weight"].torch_shapes[0]
    if layer.kind == "norm":
        return shape[-1]
    out, rest = (0, 1) if layer.kind == "conv" else (1, 0)
    return shape[out if side == "out" else rest]


def maps_of(size: int, count: int | None) -> list[tuple[int, int]]:
    """The (h, w) that a map of `count` channels with `size` numbers may have, a square first; none for one pixel."""
    if not count or size % count or size == count:
        return []
    pixels = size // count
    sides = [(h, pixels // h) for h in range(1, pixels + 1) if pixels % h == 0]
    return sorted(sides, key=lambda hw: abs(hw[0] - hw[1]))
