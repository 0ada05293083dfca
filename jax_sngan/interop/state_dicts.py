"""Anybody's PyTorch state dict, cleaned: wrappers and prefixes off, both spectral norms and weight norm in one form.

numpy in, numpy out, in torch's own names and layouts; what they become in JAX is their reader's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jax_sngan.system.errors import UserError

# Keys under which programs save a network's state dict, looked for from the first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "params_ema", "params", "ema",
    "generator", "netG", "G", "G_state_dict", "g_ema", "g", "discriminator", "netD", "D", "D_state_dict", "d",
)  # fmt: skip
# What wrapping a network puts before every name: DataParallel, torch.compile, Lightning modules, whole GANs.
PREFIXES = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "netG.", "netD.", "generator.", "discriminator.", "G.", "D.",
)  # fmt: skip
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


def unwrapped(contents: Any) -> tuple[dict[str, Any], list[str]]:
    """(name -> array, the keys that it was under). Only mappings are entered.

    Raises:
      UserError: there is no state dict in it.
    """
    trail: list[str] = []
    while isinstance(contents, Mapping):
        arrays = {str(name): a for name, a in contents.items() if hasattr(a, "shape")}
        if arrays:
            return arrays, trail
        key = next((k for k in WRAPPERS if isinstance(contents.get(k), Mapping)), None)
        if key is None:
            raise UserError(f"no state dict in it; its keys are {', '.join(map(str, list(contents)[:12])) or 'none'}")
        trail.append(key)
        contents = contents[key]
    raise UserError(f"a state dict is a mapping of names to arrays, got {type(contents).__name__}")


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
            layer.arrays["weight"], layer.names["weight"] = _weight_norm(length, direction), given
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


def _weight_norm(length: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """g v / |v|, the norm over all axes but the one that g keeps (Salimans & Kingma 2016, eq. 2)."""
    wide = np.asarray(direction, np.float64)
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
    sigma = float(np.mean(np.asarray(layer.arrays["weight"], np.float64) / layer.normalised))
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
