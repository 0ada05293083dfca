"""What a convolution or a linear layer does differently from torch's: padding, its kernel turned, dilation, layouts."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from parity_kit.between import close
from parity_kit.case import Array, Case
from parity_kit.norms import sigmas_of, torch_order


def effective_kernel(case: Case) -> Array:
    """The kernel as the pass used it; a spectrally normalised layer's over the sigma of the pass."""
    weight = getattr(case.torch, "weight", None)
    if isinstance(weight, torch.Tensor) and not case.arrays.spectral:
        return weight.detach().numpy().astype(np.float64)
    sigma = sigmas_of(case)[torch_order(case)] if case.arrays.spectral else 1.0
    return case.weight / sigma


def convolution(case: Case) -> str:
    """Padding at a stride, the kernel turned or transposed, dilation, the mode of padding."""
    layer: Any = case.torch
    stride, dilation, padding = layer.stride, layer.dilation, layer.padding
    rank = case.x.ndim - 2
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    x, w, b = (torch.from_numpy(np.ascontiguousarray(a)) for a in (case.x, effective_kernel(case), case.bias))
    if isinstance(padding, str):
        padding = tuple(
            0 if padding == "valid" else d * (k - 1) // 2 for d, k in zip(dilation, w.shape[2:], strict=True)
        )

    def made(weight: torch.Tensor, pads: list[tuple[int, int]], mode: str = "constant", **other: Any) -> Array:
        options = {"stride": stride, "dilation": dilation, "groups": layer.groups} | other
        flat = [n for pair in reversed(pads) for n in pair]
        return conv(F.pad(x, flat, mode=mode), weight, b, **options).numpy()

    usual = [(p, p) for p in padding]
    for words, weight in turned_kernels(w, rank):
        if weight.shape == w.shape and close(made(weight, usual), case.found):
            return words
    strided = f"padding at stride {stride[0]}" if max(stride) > 1 else "padding"
    reach = range(max(k * d for k, d in zip(w.shape[2:], dilation, strict=True)) + 1)
    for before, after in itertools.product(reach, reach):
        pads = [(before, after)] * rank
        if pads != usual and _fits(x, w, pads, dilation):
            result = made(w, pads)
            if close(result, case.found):
                theirs = f"{padding[0]} on each side" if len(set(padding)) == 1 else f"{padding}"
                return f"{strided}: {theirs} in torch, {before} before and {after} after in nnx"
    for mode in ("reflect", "circular", "replicate"):
        if all(lo < n for (lo, _), n in zip(usual, x.shape[2:], strict=True)) and close(
            made(w, usual, mode), case.found
        ):
            return f"padding: {layer.padding_mode} in torch, {mode} in nnx"
    for d in (1, 2, 3):
        for pads in (usual, [(d * (k - 1) // 2,) * 2 for k in w.shape[2:]]):
            if (d,) * rank != tuple(dilation) and _fits(x, w, pads, (d,) * rank):
                if close(made(w, pads, dilation=d), case.found):
                    return f"dilation: {dilation[0]} in torch, {d} in nnx"
    for s in (1, 2, 3, 4):
        if (s,) * rank != tuple(stride) and close(made(w, usual, stride=s), case.found):
            return f"stride: {stride[0]} in torch, {s} in nnx"
    return ""


def _fits(x: torch.Tensor, w: torch.Tensor, pads: Sequence[tuple[int, ...]], dilation: tuple[int, ...]) -> bool:
    sizes = zip(x.shape[2:], pads, w.shape[2:], dilation, strict=True)
    return all(n + sum(p) >= d * (k - 1) + 1 for n, p, k, d in sizes)


def turned_kernels(w: torch.Tensor, rank: int) -> Iterator[tuple[str, torch.Tensor]]:
    """(words, a kernel as people get it wrong)."""
    space = tuple(range(2, 2 + rank))
    turns: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [("", lambda a: a)]
    turns += [("turned round in space (flipped)", lambda a: a.flip(space))]
    if rank == 2:
        turns += [("with height and width swapped", lambda a: a.transpose(2, 3)),
                  ("turned round, with height and width swapped", lambda a: a.flip(space).transpose(2, 3))]  # fmt: skip
    for words, turn in turns:
        if words:
            yield f"a transposed kernel: {words}", turn(w)
        if w.shape[0] == w.shape[1]:
            yield (
                f"a transposed kernel: inputs and outputs swapped{', ' + words if words else ''}",
                turn(w.transpose(0, 1)),
            )


def transposed_convolution(case: Case) -> str:
    """The kernel turned or not, where the result is cut."""
    layer: Any = case.torch
    rank = case.x.ndim - 2
    conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    x, w, b = (torch.from_numpy(np.ascontiguousarray(a)) for a in (case.x, effective_kernel(case), case.bias))
    options = {"stride": layer.stride, "groups": layer.groups, "dilation": layer.dilation}
    for words, weight in turned_kernels(w, rank):
        made = conv(x, weight, b, padding=layer.padding, output_padding=layer.output_padding, **options)
        if close(made.numpy(), case.found):
            return words
    shape = case.found.shape[2:]
    for words, weight in (("", w), *turned_kernels(w, rank)):
        whole = F.pad(conv(x, weight, None, **options), [4, 4] * rank)
        room = [whole.shape[2 + i] - shape[i] for i in range(rank)]
        for start in range(max(min(room) + 1, 0)):
            where: tuple[Any, ...] = (..., *(slice(start, start + n) for n in shape))
            cut = whole[where] + b.reshape(-1, *[1] * rank)
            if close(cut.numpy(), case.found):
                told = f"padding at stride {layer.stride[0]}" if max(layer.stride) > 1 else "padding"
                behind = room[0] - start - 4
                told += f": torch cuts {layer.padding[0]} from the front, nnx {start - 4} and {behind} behind"
                return f"{words}; {told}" if words else told
    return ""


def linear(case: Case) -> str:
    """The kernel transposed, or the order in which a flattened map was read."""
    w, x = effective_kernel(case), case.x
    if w.shape[0] == w.shape[1] and close(x @ w + case.bias, case.found):
        return "a transposed kernel: inputs and outputs swapped"
    size = w.shape[1]
    for c in (d for d in range(1, size + 1) if size % d == 0):
        side = round((size // c) ** 0.5)
        if side * side * c != size or side == 1:
            continue
        for order in itertools.permutations(range(3)):
            turned = w.reshape(-1, c, side, side).transpose(0, *(1 + i for i in order)).reshape(w.shape)
            if order != (0, 1, 2) and close(x @ turned.T + case.bias, case.found):
                return (
                    f"layout of a flatten: the kernel's inputs are in the order ({', '.join('chw'[i] for i in order)})"
                )
    return ""
