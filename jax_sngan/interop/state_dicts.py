"""Anybody's PyTorch state dict, cleaned: wrappers and prefixes off, both spectral norms and weight norm in one form.

numpy in, numpy out, in torch's own names and layouts; what they become in JAX is their reader's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import listed

# Keys under which programs save a network's state dict, looked for from the first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "params_ema", "params", "ema",
    "generator", "netG", "G", "G_state_dict", "g_ema", "g", "discriminator", "netD", "D", "D_state_dict", "d",
)  # fmt: skip
# What wrapping a network puts before every name: DataParallel, torch.compile, Lightning modules, whole GANs.
PREFIXES = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "netG.", "netD.", "generator.", "discriminator.", "G.", "D.",
)  # fmt: skip
# Both networks of one checkpoint, each under a key of its own, or before every name of it.
PAIRS = (
    ("generator", "discriminator"), ("netG", "netD"), ("G", "D"), ("g", "d"), ("G_state_dict", "D_state_dict"),
)  # fmt: skip
_DEEPEST = 16  # wrappers in wrappers
_COUNTERS = ("num_batches_tracked", "sn_sigma")  # read by no forward pass that is carried over
_PARAMETRIZED = "parametrizations.weight."
# Leaf names -> our field, where they stand for themselves.
_FIELDS = {"running_mean": "mean", "running_var": "var", "weight_orig": "weight", "weight_bar": "weight"}


@dataclass
class TorchLayer:
    """The arrays of one layer.

    weight, bias: trained. mean, var: running. u [out], v [rest]: spectral norm's. Others bear their own names.
    """

    name: str  # "main.3"; "" where the network itself holds them
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # by field
    names: dict[str, str] = field(default_factory=dict)  # field -> the name in the state dict
    spectral: bool = False
    normalised: np.ndarray | None = None  # the old spectral norm's `weight`, saved beside weight_orig
    folded: str = ""  # what was multiplied into the weight, in words


class Found(NamedTuple):
    """A state dict in a file's contents."""

    arrays: dict[str, Any]
    trail: list[str]  # the keys that it was under
    aside: list[str]  # keys beside the arrays that hold none

    def notes(self, prefixes: list[str]) -> list[str]:
        """For a person: where it was, and what was taken off its names or left."""
        notes = [f"found under {' / '.join(self.trail)}"] if self.trail else []
        notes += [f"prefixes taken off: {', '.join(prefixes)}"] if prefixes else []
        return notes + ([f"no array and left aside: {listed(self.aside, 12)}"] if self.aside else [])


def _levels(contents: Any) -> Iterator[tuple[Mapping[Any, Any], list[str]]]:
    """(a mapping, the keys that it was under), from the outside inwards, down to one with arrays."""
    trail: list[str] = []
    while isinstance(contents, Mapping) and len(trail) <= _DEEPEST:
        yield contents, trail
        key = next((k for k in WRAPPERS if isinstance(contents.get(k), Mapping)), None)
        if key is None or any(hasattr(a, "shape") for a in contents.values()):
            return
        trail, contents = [*trail, key], contents[key]


def unwrapped(contents: Any) -> Found:
    """The arrays of the innermost wrapper. Only mappings are entered.

    Raises:
      UserError: there is no state dict in it.
    """
    level, trail = next(reversed([*_levels(contents)]), (None, []))
    if level is None:
        raise UserError(f"a state dict is a mapping of names to arrays, got {type(contents).__name__}")
    arrays = {str(name): a for name, a in level.items() if hasattr(a, "shape")}
    if not arrays:
        raise UserError(f"no state dict in it; its keys are {listed(list(map(str, level)), 12) or 'none'}")
    return Found(arrays, trail, [str(name) for name in level if str(name) not in arrays])


def networks(contents: Any) -> list[Found]:
    """`unwrapped` of each network that a file holds: of both where it has a generator and a discriminator.

    Raises:
      UserError: there is no state dict in it.
    """
    for level, trail in _levels(contents):
        for pair in PAIRS:
            if all(isinstance(level.get(key), Mapping) for key in pair):
                inner = [(key, unwrapped(level[key])) for key in pair]
                return [found._replace(trail=[*trail, key, *found.trail]) for key, found in inner]
    found = unwrapped(contents)
    short, _ = without_prefixes(found.arrays)
    for pair in PAIRS:
        halves = [{n: a for n, a in found.arrays.items() if short[n].startswith(f"{key}.")} for key in pair]
        if all(halves) and sum(map(len, halves)) == len(found.arrays):
            return [found._replace(arrays=half) for half in halves]
    return [found]


def as_numpy(name: str, a: Any) -> np.ndarray:
    """A copy of a torch tensor, or an array, in numpy; bfloat16 and float16 become float32, which holds them.

    Raises:
      UserError: it holds no numbers.
    """
    if hasattr(a, "detach"):
        a = a.detach().cpu()
        a = (a.float() if str(a.dtype) in ("torch.bfloat16", "torch.float16") else a.clone()).numpy()
    a = np.asarray(a)
    if a.dtype.name in ("bfloat16", "float16"):
        a = a.astype(np.float32)
    if a.dtype.kind not in "fiub":
        raise UserError(f"{name} holds {a.dtype}, not numbers")
    return a


def spelled(layers: Mapping[str, TorchLayer]) -> dict[str, np.ndarray]:
    """Layers under the names of torch.nn.utils.spectral_norm, whichever they had; without a v that is not stored."""
    leaves = {"mean": "running_mean", "var": "running_var", "u": "weight_u", "v": "weight_v"}
    found = {}
    for layer in layers.values():
        for name, a in layer.arrays.items():
            orig = layer.spectral or layer.names[name].endswith("weight_orig")
            leaf = "weight_orig" if name == "weight" and orig else leaves.get(name, name)
            found[f"{layer.name}.{leaf}".lstrip(".")] = a
    return found


def missing_v(layers: Mapping[str, TorchLayer], transposed: str = "") -> dict[str, np.ndarray]:
    """By its name in `spelled`, the v of each layer that stores none (vector_v); none where u does not fit the kernel.

    Args:
      transposed: the beginning of the names of transposed convolutions; "": there are none.
    """
    found = {}
    for layer in layers.values():
        if layer.spectral and "v" not in layer.arrays:
            axis = 1 if transposed and layer.name.startswith(transposed) else 0
            weight, u = layer.arrays["weight"], layer.arrays["u"]
            if weight.ndim > 1 and u.shape == (weight.shape[axis],):
                found[f"{layer.name}.weight_v"] = vector_v(layer, axis)
    return found


def without_prefixes(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """(name -> name without what stands before all of them, the prefixes taken off)."""
    short = {name: name for name in names}
    taken: list[str] = []
    while short:
        # A compiled or parallel network inside of another module has them in the middle too.
        for inner in ("module.", "_orig_mod."):
            if any(f".{inner}" in s for s in short.values()):
                short = {name: s.replace(f".{inner}", ".") for name, s in short.items()}
                taken.append(f".{inner}")
        prefix = next((p for p in PREFIXES if all(s.startswith(p) for s in short.values())), None)
        if prefix is None:
            break
        taken.append(prefix)
        short = {name: s.removeprefix(prefix) for name, s in short.items()}
    return short, taken


def layers_of(arrays: Mapping[str, np.ndarray], short: Mapping[str, str]) -> dict[str, TorchLayer]:
    """The layers of a state dict, in its order.

    Args:
      short: name -> name without prefixes.
    Raises:
      UserError: a spectral or weight norm lacks one of its arrays.
    """
    raw: dict[str, dict[str, str]] = {}  # layer -> leaf -> name in the state dict
    for name in arrays:
        layer, leaf = _split(short[name])
        if leaf not in _COUNTERS:
            raw.setdefault(layer, {})[leaf] = name
    return {layer: _layer(layer, {leaf: (n, arrays[n]) for leaf, n in leaves.items()}) for layer, leaves in raw.items()}


def _split(name: str) -> tuple[str, str]:
    """`a.b.parametrizations.weight.0._u` -> (`a.b`, `parametrizations.weight.0._u`); else the last dot parts."""
    before, found, after = name.partition(_PARAMETRIZED)
    if found:
        return before.removesuffix("."), found + after
    layer, _, leaf = name.rpartition(".")
    return layer, leaf


def _layer(name: str, leaves: dict[str, tuple[str, np.ndarray]]) -> TorchLayer:
    layer = TorchLayer(name)
    leaves = dict(leaves)

    def take(leaf: str, field: str) -> None:
        given, a = leaves.pop(leaf)
        layer.names[field], layer.arrays[field] = given, a

    def need(*wanted: str) -> None:
        absent = [leaf for leaf in wanted if leaf not in leaves]
        if absent:
            raise UserError(f"{name or 'the network'}: missing {', '.join(absent)} beside {', '.join(sorted(leaves))}")

    pairs = (("weight_g", "weight_v"), (f"{_PARAMETRIZED}original0", f"{_PARAMETRIZED}original1"))
    for g, v in pairs:
        if g in leaves:
            need(g, v)
            (_, length), (given, direction) = leaves.pop(g), leaves.pop(v)
            layer.arrays["weight"], layer.names["weight"] = _weight_norm(name, length, direction), given
            layer.folded = "weight norm"
    for weight, u, v in (
        ("weight_orig", "weight_u", "weight_v"),
        ("weight_bar", "weight_u", "weight_v"),
        (f"{_PARAMETRIZED}original", f"{_PARAMETRIZED}0._u", f"{_PARAMETRIZED}0._v"),
        ("weight", "sn_u", "sn_v"),
    ):
        if u in leaves:
            need(weight, u)
            layer.spectral = True
            if weight == "weight_orig" and "weight" in leaves:
                layer.normalised = np.asarray(leaves.pop("weight")[1], np.float64)
            take(weight, "weight")
            take(u, "u")
            layer.arrays["u"] = layer.arrays["u"].reshape(-1)
            if v in leaves:
                take(v, "v")
                layer.arrays["v"] = layer.arrays["v"].reshape(-1)
    for leaf in list(leaves):
        if leaf.startswith(_PARAMETRIZED):
            raise UserError(f"{leaves[leaf][0]} is of a parametrization that is neither spectral nor weight norm")
        take(leaf, _FIELDS.get(leaf, leaf))
    return layer


def _weight_norm(name: str, length: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """g v / |v|, the norm over all axes but the one that g keeps (Salimans & Kingma 2016, eq. 2)."""
    wide = np.asarray(direction, np.float64)
    if np.ndim(length) and (
        np.ndim(length) != wide.ndim or any(n not in (1, m) for n, m in zip(length.shape, wide.shape, strict=True))
    ):
        shapes = f"{list(length.shape)} do not fit its kernel {list(wide.shape)}"
        raise UserError(f"{name or 'the network'}: a weight norm's lengths {shapes}")
    axes = tuple(i for i in range(wide.ndim) if np.ndim(length) != wide.ndim or np.shape(length)[i] == 1)
    return np.asarray(length, np.float64) * wide / np.sqrt(np.sum(wide**2, axis=axes, keepdims=True))


def matrix(weight: np.ndarray, out_axis: int) -> np.ndarray:
    """[out, rest] in float64, as torch's spectral norms see a kernel; out_axis 1: a transposed convolution's."""
    wide = np.asarray(weight, np.float64)
    return np.moveaxis(wide, out_axis, 0).reshape(wide.shape[out_axis], -1)


def vector_v(layer: TorchLayer, out_axis: int) -> np.ndarray:
    """[rest] a layer's v: the stored one, else as torch makes one for old files.

    Files of torch 1.0 and earlier hold weight_orig, weight_u and the normalised weight, but no v. There torch solves
    for the v with which u^T W v is the sigma that weight_orig / weight tells (torch.nn.utils.spectral_norm,
    _solve_v_and_rescale). Where the normalised weight is missing too, v is W^T u over its norm.
    """
    if "v" in layer.arrays:
        return layer.arrays["v"]
    w, u = matrix(layer.arrays["weight"], out_axis), np.asarray(layer.arrays["u"], np.float64)
    if layer.normalised is None:
        v = w.T @ u
        return v / max(float(np.linalg.norm(v)), 1e-12)
    if layer.normalised.shape != layer.arrays["weight"].shape:
        raise UserError(f"{layer.name or 'the network'}: weight and weight_orig are of different shapes")
    square = _not_zero(layer, float(np.vdot(layer.normalised, layer.normalised)))
    sigma = float(np.vdot(layer.normalised, np.asarray(layer.arrays["weight"], np.float64))) / square
    v = np.linalg.pinv(w) @ u  # torch's pinverse(W^T W) W^T u, without squaring what is nearly singular
    return v * (sigma / _not_zero(layer, float(u @ w @ v)))


def effective_weight(layer: TorchLayer, out_axis: int) -> np.ndarray:
    """A spectrally normalised layer's kernel over sigma = u^T W v, as an evaluation uses it."""
    weight = np.asarray(layer.arrays["weight"], np.float64)
    u = np.asarray(layer.arrays["u"], np.float64)
    v = np.asarray(vector_v(layer, out_axis), np.float64)
    return weight / _not_zero(layer, float(u @ matrix(weight, out_axis) @ v))


def _not_zero(layer: TorchLayer, sigma: float) -> float:
    if sigma == 0:
        raise UserError(f"{layer.name or 'the network'}: its spectral norm u^T W v is 0")
    return sigma
