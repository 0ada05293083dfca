"""What a normalisation does differently from torch's: spectral, batch, group and layer norm."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from jax_sngan.interop import state_dicts
from parity_kit.between import close
from parity_kit.case import Array, Case


def is_normalisation(module: torch.nn.Module) -> bool:
    """Whether it is one of torch's normalisations."""
    kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.GroupNorm, torch.nn.LayerNorm)
    return isinstance(module, kinds)


def normalisation(case: Case) -> str:
    """eps, batch or running statistics, the divisor of the variance, the axes, scale and shift."""
    layer: Any = case.torch
    n = case.arrays.arrays
    ones = np.ones(case.x.shape[1])
    scale, shift = (np.asarray(n.get(f, d), np.float64) for f, d in (("weight", ones), ("bias", 0 * ones)))
    if scale.ndim != 1 or case.expected.shape != case.found.shape:
        return ""
    of_last = isinstance(layer, torch.nn.LayerNorm)
    spread = (lambda a: a) if of_last else lambda a: np.reshape(a, (-1, *[1] * (case.x.ndim - 2)))
    for words, mean, var in _statistics(case):
        for more, s, b in (
            ("", scale, shift),
            ("the scale left out", ones, shift),
            ("the shift left out", scale, 0 * shift),
            ("1 added to the scale", 1 + scale, shift),
        ):
            with np.errstate(divide="ignore", invalid="ignore"):
                if not (words or more):
                    told = _eps(case, mean, var, spread(s), spread(b), layer.eps)
                    if told:
                        return told
                    continue
                made = (case.x - mean) / np.sqrt(var + layer.eps) * spread(s) + spread(b)
            if close(made, case.found):
                return " and ".join(part for part in (words, more) if part)
    return ""


def _eps(case: Case, mean: Array, var: Array, scale: Array, shift: Array, eps: float) -> str:
    """Another eps, solved for: found = (x - mean) / sqrt(var + eps) scale + shift."""
    centred = (case.x - mean) * scale
    ratio = np.divide(centred, case.found - shift, out=np.zeros_like(centred), where=np.abs(case.found - shift) > 1e-3)
    known = np.broadcast_to(ratio**2 - var, case.x.shape)[ratio > 0]
    outside = np.broadcast_to(ratio - np.sqrt(var), case.x.shape)[ratio > 0]
    for values, words in ((known, "eps"), (outside, "eps outside the root")):
        if values.size and np.ptp(values) <= 1e-6 * abs(float(np.median(values))) + 1e-13:
            other = float(np.median(values))
            if abs(other - eps) > 1e-9 * max(eps, 1e-9):
                return f"{words}: {eps:.4g} in torch, {other:.4g} in nnx"
    return ""


def _statistics(case: Case) -> Iterator[tuple[str, Array, Array]]:
    """(what is wrong with them or "", mean, variance), of shapes that spread over x."""
    layer: Any = case.torch
    x = case.x
    space = tuple(range(2, x.ndim))
    is_batch = isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)

    def moments(axes: tuple[int, ...]) -> tuple[Array, Array]:
        return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)

    def grouped(groups: int) -> tuple[Array, Array]:
        parts = x.reshape(len(x), groups, -1)
        mean, var = (np.repeat(f(parts, axis=2), x.shape[1] // groups, 1) for f in (np.mean, np.var))
        return mean.reshape(*x.shape[:2], *[1] * len(space)), var.reshape(*x.shape[:2], *[1] * len(space))

    if is_batch:
        batch = moments((0, *space))
        count = x.size // x.shape[1]
        stored: list[tuple[str, Array, Array]] = []
        if "mean" in case.arrays.arrays:
            side = [
                np.asarray(case.arrays.arrays[f], np.float64).reshape(1, -1, *[1] * len(space)) for f in ("mean", "var")
            ]
            words = "running statistics where torch takes the batch's (training)" if case.train else ""
            stored = [(words, side[0], side[1])]
        words = "" if case.train or not stored else "the batch's statistics where torch takes running ones (evaluation)"
        yield from sorted([(words, *batch), *stored], key=lambda row: bool(row[0]))
        yield "unbiased variance where torch normalises by the biased", batch[0], batch[1] * count / max(count - 1, 1)
        yield "axes: normalised over the batch alone, pixel by pixel", *moments((0,))
    elif isinstance(layer, torch.nn.GroupNorm):
        yield "", *grouped(layer.num_groups)
        for groups in (g for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0 and g != layer.num_groups):
            yield f"groups: {layer.num_groups} in torch, {groups} in nnx", *grouped(groups)
    elif isinstance(layer, torch.nn.LayerNorm):
        own = tuple(range(x.ndim - len(layer.normalized_shape), x.ndim))
        yield "", *moments(own)
        for axes in ((x.ndim - 1,), tuple(range(1, x.ndim)), (1,)):
            if axes != own:
                yield f"axes: {own} in torch, {axes} in nnx", *moments(axes)
    else:
        yield "", *moments(space)
    if x.ndim > 2 and not isinstance(layer, torch.nn.LayerNorm):
        yield "axes: normalised over the channels of each pixel", *moments((1,))
        yield "axes: normalised over each image's channel by itself", *moments(space)
        yield "axes: normalised over each whole image", *moments((1, *space))


def torch_order(case: Case) -> str:
    """The name in sigmas_of of what torch does in such a pass."""
    if not case.train:
        return "evaluation"
    return "u first, 1" if hasattr(case.torch, "parametrizations") else "v first, 1"


def _normal(a: Array) -> Array:
    return a / max(float(np.linalg.norm(a)), 1e-12)


def sigmas_of(case: Case) -> dict[str, float]:
    """The sigma of each way of computing it, from the vectors that were there before the pass."""
    w = state_dicts.matrix(case.weight, case.nnx.out_axis)
    u0 = np.asarray(case.arrays.arrays["u"], np.float64)
    v0 = np.asarray(state_dicts.vector_v(case.arrays, case.nnx.out_axis), np.float64)
    found = {"evaluation": float(u0 @ w @ v0), "no norm": 1.0}
    for order in ("v first", "u first"):
        u, v = u0, v0
        for count in range(1, 17):
            if order == "v first":
                v = _normal(w.T @ u)
                u = _normal(w @ v)
            else:
                u = _normal(w @ v)
                v = _normal(w.T @ u)
            found[f"{order}, {count}"] = float(u @ w @ v)
    found["exact"] = float(np.linalg.svd(w, compute_uv=False)[0])
    found["Frobenius"] = float(np.linalg.norm(w))
    return found


def spectral(case: Case) -> str:
    """How the sigma that the layer divided by was found."""
    if case.expected.shape != case.found.shape:
        return ""
    shape = [1] * case.expected.ndim
    shape[1] = -1
    bias = case.bias.reshape(shape) if case.bias.size == case.expected.shape[1] else 0.0
    rest, other = case.expected - bias, case.found - bias
    ratio = float(np.vdot(rest, other) / max(float(np.vdot(rest, rest)), 1e-300))
    if not ratio or abs(ratio - 1) < 1e-9 or not close(other, ratio * rest, 1e-8):
        return ""
    sigmas = sigmas_of(case)
    theirs = torch_order(case)
    ours = sigmas[theirs] / ratio
    told = {
        "no norm": "spectral norm left out",
        "exact": "spectral norm: the largest singular value itself, not torch's iteration",
        "Frobenius": "spectral norm: divided by the Frobenius norm",
        "evaluation": "order of the iteration: no iteration in a training pass",
    }
    for name, sigma in sigmas.items():
        if name != theirs and abs(sigma - ours) <= 1e-8 * abs(ours):
            if name in told:
                return told[name]
            if not case.train:
                return f"order of the iteration: {name} iteration in evaluation, where torch makes none"
            return f"order of the iteration: {theirs} iteration in torch, {name} in nnx"
    return f"spectral norm: sigma {sigmas[theirs]:.6g} in torch, {ours:.6g} in nnx"


def buffers(case: Case, after: dict[str, Array], found: dict[str, Array]) -> str:
    """Why running statistics differ after a pass whose result is right.

    Args:
      after, found: mean and var, or u and v, of torch and of nnx, in torch's layout.
    """
    before = {f: np.asarray(case.arrays.arrays[f], np.float64) for f in ("mean", "var") if f in case.arrays.arrays}
    if not before:
        return "order of the iteration: u and v end elsewhere"
    axes = (0, *range(2, case.x.ndim))
    count = case.x.size // case.x.shape[1]
    mean, var = case.x.mean(axes), case.x.var(axes)
    layer: Any = case.torch
    momentum = 1 / (int(layer.num_batches_tracked) + 1) if layer.momentum is None else layer.momentum
    if all(close(found[f], before[f]) for f in before):
        return "running statistics are not kept"
    share = _share(before["mean"], mean, found["mean"])
    told = []
    if share is not None and abs(share - momentum) > 1e-9:
        told.append(f"momentum: the batch's share is {momentum:.4g} in torch, {share:.4g} in nnx")
    of_var = share if share is not None else momentum
    if close(found["var"], (1 - of_var) * before["var"] + of_var * var):
        told.append(f"biased variance: torch keeps {count} / {count - 1} of it")
    elif share is not None and not close(
        found["var"], (1 - of_var) * before["var"] + of_var * var * count / (count - 1)
    ):
        told.append("the running variance")
    return "; ".join(told) or "running statistics"


def _share(before: Array, batch: Array, found: Array) -> float | None:
    """m in found = (1 - m) before + m batch, where it is one number."""
    step = batch - before
    scale = float(np.vdot(step, step))
    share = float(np.vdot(step, found - before)) / scale if scale else 0.0
    return share if close(before + share * step, found) else None
