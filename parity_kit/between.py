"""What two ports do differently between two layers: which of the usual steps gives either's numbers."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

Array = np.ndarray


class Earlier(NamedTuple):
    """A result from which both sides went on, in the nnx module's layout."""

    name: str
    value: Array


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "no activation": lambda x: x,
    "ReLU": F.relu,
    "leaky ReLU 0.01": lambda x: F.leaky_relu(x, 0.01),
    "leaky ReLU 0.1": lambda x: F.leaky_relu(x, 0.1),
    "leaky ReLU 0.2": lambda x: F.leaky_relu(x, 0.2),
    "leaky ReLU 0.3": lambda x: F.leaky_relu(x, 0.3),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "ELU": F.elu,
    "SELU": F.selu,
    "SiLU": F.silu,
    "softplus": F.softplus,
    "GELU": F.gelu,
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "ReLU6": F.relu6,
    "hard swish": F.hardswish,
    "mish": F.mish,
}
# On maps [n, c, h, w].
RESIZINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "the same size": lambda x: x,
    "mean of 2x2": lambda x: F.avg_pool2d(x, 2),
    "sum of 2x2": lambda x: 4 * F.avg_pool2d(x, 2),
    "maximum of 2x2": lambda x: F.max_pool2d(x, 2),
    "every second pixel": lambda x: x[..., ::2, ::2],
    "mean of 3x3, stride 2, zeros counted": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "mean of 3x3, stride 2, zeros not counted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "maximum of 3x3, stride 2, padded on each side": lambda x: F.max_pool2d(x, 3, 2, 1),
    "maximum of 3x3, stride 2, padded behind": lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e300), 3, 2),
    "nearest up-sampling": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "bilinear up-sampling": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "bilinear up-sampling, corners aligned": lambda x: F.interpolate(
        x, scale_factor=2, mode="bilinear", align_corners=True
    ),
    "bicubic up-sampling": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False),
    "the map repeated": lambda x: x.repeat(1, 1, 2, 2),
    "the sum over the map": lambda x: x.sum((2, 3)),
    "the mean over the map": lambda x: x.mean((2, 3)),
    "the maximum over the map": lambda x: x.amax((2, 3)),
}
ORDERS = ["".join(order) for order in itertools.permutations("chw")]
_CLOSE = 1e-9


def close(a: Array, b: Array, within: float = _CLOSE) -> bool:
    """Whether two arrays are equal but for rounding, by the largest entry."""
    if a.shape != b.shape or a.size == 0:
        return False
    return float(np.max(np.abs(a - b))) <= within * max(float(np.max(np.abs(b))), 1e-30)


def explain(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """In words, what makes `found` (nnx) of an earlier result where torch makes `expected`; "" where nothing fits.

    Args:
      expected, found: what reaches the later layer, both in the nnx module's layout.
      earlier: results on which both sides agree, the nearest first.
    """
    expected, found = np.array(expected), np.array(found)  # copies that torch may write to, though it does not
    earlier = [Earlier(e.name, np.array(e.value)) for e in earlier if e.value.dtype.kind == "f"]
    earlier += [e for flat in earlier for e in _unflattened(flat, expected)]
    for guess in (_slope, _directly, _axes, _steps, _unflattening, _flattening, _factor, _term):
        words = guess(expected, found, earlier)
        if words:
            return words
    if expected.shape != found.shape:
        return f"shape {list(expected.shape)} in torch, {list(found.shape)} in nnx"
    return ""


def _unflattened(flat: Earlier, expected: Array) -> Iterator[Earlier]:
    """A linear layer's features as the maps that they may have become."""
    if flat.value.ndim != 2 or expected.ndim != 4:
        return
    n, size, channels = len(flat.value), flat.value.shape[1], expected.shape[-1]
    side = round((size / channels) ** 0.5)
    if side * side * channels == size:
        yield Earlier(flat.name, flat.value.reshape(n, side, side, channels))
        yield Earlier(flat.name, flat.value.reshape(n, channels, side, side).transpose(0, 2, 3, 1))


def _flattening(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """The same numbers of each image in another order."""
    if expected.shape != found.shape or expected.ndim < 2:
        return ""
    rows = [np.sort(a.reshape(len(a), -1), axis=1) for a in (expected, found)]
    if not close(rows[0], rows[1]) or (expected.ndim == 2 and not earlier):
        return ""
    for e in earlier:
        if e.value.ndim == 4 and e.value[0].size == expected[0].size:
            told = [_order(e.value, a) for a in (expected, found)]
            if all(told):
                return f"layout of a flatten: ({', '.join(told[0])}) in torch, ({', '.join(told[1])}) in nnx"
    if expected.ndim == 4:
        return "layout of a reshape: the map's numbers are in another order"
    return "layout of a flatten: the same numbers in another order"


def _unflattening(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """A linear layer's features laid out as a map in two orders."""
    if expected.ndim != 4 or found.shape != expected.shape:
        return ""
    sizes = dict(zip("hwc", expected.shape[1:], strict=True))
    for e in earlier:
        if e.value.ndim != 2 or e.value.shape[1] != expected[0].size:
            continue
        for activation in ACTIVATIONS.values():
            flat = activation(torch.from_numpy(e.value)).numpy()
            told = ["", ""]
            for order in ORDERS:
                laid = flat.reshape(len(flat), *(sizes[a] for a in order))
                laid = laid.transpose(0, *(1 + order.index(a) for a in "hwc"))
                told = [t or (order if close(laid, a) else "") for t, a in zip(told, (expected, found), strict=True)]
            if all(told) and told[0] != told[1]:
                return f"layout of a flatten: ({', '.join(told[0])}) in torch, ({', '.join(told[1])}) in nnx"
    return ""


def _order(value: Array, flat: Array) -> str:
    """The order of axes in which a map [n, h, w, c], or an activation of it, was flattened."""
    axes = {"h": 1, "w": 2, "c": 3}
    flat = flat.reshape(len(flat), -1)
    for activation in ACTIVATIONS.values():
        made = activation(torch.from_numpy(value)).numpy()
        for order in ORDERS:
            if close(made.transpose(0, *(axes[a] for a in order)).reshape(len(value), -1), flat):
                return order
    return ""


def _slope(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """Leaky ReLUs of two slopes, whatever they are."""
    if expected.shape != found.shape:
        return ""
    for e in earlier:
        if e.value.shape != expected.shape:
            continue
        above, below = e.value > 0, e.value < 0
        if not below.any() or not (close(expected[above], e.value[above]) and close(found[above], e.value[above])):
            continue
        slopes = [a[below] / e.value[below] for a in (expected, found)]
        if all(np.ptp(s) <= 1e-7 * max(1.0, float(np.max(np.abs(s)))) for s in slopes):
            theirs, ours = (float(np.median(s)) for s in slopes)
            names = {0.0: "ReLU", 1.0: "no activation"}
            if round(theirs, 9) in names and round(ours, 9) in names:
                told = names[round(theirs, 9)], names[round(ours, 9)]
                return f"activation: {told[0]} in torch, {told[1]} in nnx (after {e.name})"
            return f"slope of a leaky ReLU: {theirs:.4g} in torch, {ours:.4g} in nnx (after {e.name})"
    return ""


def _directly(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """One is an activation of the other, whatever made that."""
    del earlier
    if expected.shape != found.shape:
        return ""
    for name, activation in ACTIVATIONS.items():
        if name != "no activation" and close(activation(torch.from_numpy(found)).numpy(), expected):
            return f"activation: {name} in torch, no activation in nnx"
        if name != "no activation" and close(activation(torch.from_numpy(expected)).numpy(), found):
            return f"activation: no activation in torch, {name} in nnx"
    return ""


def _steps(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """An activation and a change of size, in either order."""
    for name in dict.fromkeys(e.name for e in earlier):
        e, values = Earlier(name, expected), [e.value for e in earlier if e.name == name]
        theirs, ours = (next((w for v in values if (w := _step(v, a))), None) for a in (expected, found))
        if theirs and ours and theirs != ours:
            differing = [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b]
            kind = "activation" if theirs[0] != ours[0] else "change of size"
            if len(differing) == 1 and theirs[2] != ours[2]:
                kind = "order of activation and change of size"
            return f"{kind}: {_told(theirs, kind)} in torch, {_told(ours, kind)} in nnx (after {e.name})"
    return ""


def _told(step: tuple[str, str, str], kind: str) -> str:
    activation, size, order = step
    if kind == "activation" or not size:
        return activation
    if kind == "change of size":
        return size
    return " then ".join((activation, size) if order == "activation first" else (size, activation))


def _candidates(value: Array) -> Iterator[tuple[tuple[str, str, str], Array]]:
    """((activation, change of size, order), what they make of a value)."""
    x = torch.from_numpy(np.ascontiguousarray(value))
    if value.ndim != 4:
        for name, activation in ACTIVATIONS.items():
            yield (name, "", ""), activation(x).numpy()
        return
    x = x.permute(0, 3, 1, 2)
    for size, resize in RESIZINGS.items():
        if min(value.shape[1:3]) < 2 and "of 2x2" in size:
            continue
        for name, activation in ACTIVATIONS.items():
            for order in ("activation first",) if size == "the same size" else ("activation first", "size first"):
                made = resize(activation(x)) if order == "activation first" else activation(resize(x))
                made = made.permute(0, 2, 3, 1) if made.ndim == 4 else made
                yield (name, size, order), made.contiguous().numpy()


def _step(value: Array, result: Array) -> tuple[str, str, str] | None:
    for words, made in _candidates(value):
        if close(made, result):
            return words
        if made.ndim == 4 and result.ndim == 2 and made[0].size == result[0].size:
            flats = [made.reshape(len(made), -1), made.transpose(0, 3, 1, 2).reshape(len(made), -1)]
            if any(close(flat, result) for flat in flats):
                return words
    return None


def _factor(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """One is so many times the other."""
    del earlier
    if expected.shape != found.shape or not np.any(expected):
        return ""
    factor = float(np.vdot(expected, found) / np.vdot(expected, expected))
    if abs(factor - 1) > _CLOSE and close(found, factor * expected):
        return f"a factor of {factor:.6g}, as of a sum for a mean or of a scale"
    shift = float(np.mean(found - expected))
    if close(found - shift, expected):
        return f"a shift of {shift:.6g}"
    return ""


def _term(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """A sum with a term too many, too few, or of another factor: a shortcut left out, one that sees a ReLU's result."""
    if expected.shape != found.shape:
        return ""
    apart = found - expected
    for e in earlier:
        if e.value.shape != apart.shape:
            continue
        x = torch.from_numpy(e.value)
        terms = {
            f"the result of {e.name}": e.value,
            f"ReLU of the result of {e.name}": F.relu(x).numpy(),
            f"what a ReLU takes from the result of {e.name}, which works in place on one side": (F.relu(x) - x).numpy(),
        }
        for name, term in terms.items():
            scale = float(np.vdot(term, term))
            factor = float(np.vdot(term, apart)) / scale if scale else 0.0
            if abs(factor) > 1e-6 and close(apart, factor * term):
                return f"a term of a sum: nnx adds {factor:.4g} times {name}"
    return ""


def _axes(expected: Array, found: Array, earlier: list[Earlier]) -> str:
    """A map mirrored or with height and width swapped."""
    del earlier
    if expected.ndim != 4 or expected.shape[0] != found.shape[0]:
        return ""
    for words, made in (
        ("height and width swapped", expected.transpose(0, 2, 1, 3)),
        ("the map upside down", expected[:, ::-1]),
        ("the map mirrored", expected[:, :, ::-1]),
        ("channels in the reverse order", expected[..., ::-1]),
    ):
        if close(made, found):
            return f"layout: {words} in nnx"
    return ""
