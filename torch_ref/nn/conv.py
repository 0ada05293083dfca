"""Convolutions and their gradients: NCHW maps, OIHW kernels. All are PyTorch's own.

The first four have square kernels and symmetric zero padding; the others any window, with the padding that lax calls
"SAME" and "VALID", where torch has it for stride 1 alone.
"""

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad


def conv(x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """x [n, c_in, h, w], kernel [c_out, c_in, k, k] -> [n, c_out, (h + 2 padding - k) // stride + 1, likewise w]."""
    return F.conv2d(x, kernel, stride=stride, padding=padding)


def input_gradient(y: Tensor, kernel: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The transpose of `conv` in x: [n, c_out, h', w'], [c_out, c_in, k, k] -> [n, c_in, *size]."""
    shape = (y.shape[0], kernel.shape[1], *size)
    return grad.conv2d_input(shape, kernel, y, stride=stride, padding=padding)


def kernel_gradient(x: Tensor, y: Tensor, k: int, stride: int, padding: int) -> Tensor:
    """The transpose of `conv` in its kernel: [n, c_in, h, w], [n, c_out, h', w'] -> [c_out, c_in, k, k]."""
    return grad.conv2d_weight(x, (y.shape[1], x.shape[1], k, k), y, stride=stride, padding=padding)


def conv_transpose(x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """x [n, c_in, h, w], kernel [c_in, c_out, k, k] -> [n, c_out, (h - 1) stride - 2 padding + k, likewise w]."""
    return F.conv_transpose2d(x, kernel, stride=stride, padding=padding)


# Other windows -------------------------------------------------------------------------------------------------------

Pair = int | tuple[int, int]  # one number, or one a direction: (rows, columns)
Padding = Pair | Literal["SAME", "VALID"]
Sides = tuple[tuple[int, int], tuple[int, int]]  # (before, after) of the rows, and of the columns


def pair(value: Pair, name: str = "") -> tuple[int, int]:
    """(rows, columns) of what may be one number for both.

    Raises:
      ValueError: name is given, and the numbers are not two of at least 1.
    """
    both = (value, value) if isinstance(value, int) else tuple(value)
    if name and (len(both) != 2 or not all(isinstance(n, int) and n >= 1 for n in both)):
        raise ValueError(f"{name} must be a whole number of at least 1, or a pair of them, got {value!r}")
    return both[0], both[1]


def conv_pads(
    padding: Padding, size: tuple[int, ...], k: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> Sides:
    """The zeros beside a map of h x w: as numbers say, or as many as lax's "SAME" or "VALID" sets there.

    Raises:
      ValueError: padding is neither.
    """
    if not isinstance(padding, str):
        rows, columns = pair(padding)
        if not (isinstance(rows, int) and isinstance(columns, int) and min(rows, columns) >= 0):
            raise ValueError(f'padding must be at least 0, "SAME" or "VALID", got {padding!r}')
        return (rows, rows), (columns, columns)
    if padding not in ("SAME", "VALID"):
        raise ValueError(f'padding must be a number, a pair of numbers, "SAME" or "VALID", got {padding!r}')
    sides = []
    for i in range(2):
        results = math.ceil(size[i] / stride[i])
        needed = (results - 1) * stride[i] + (k[i] - 1) * dilation[i] + 1
        zeros = max(needed - size[i], 0) if padding == "SAME" else 0
        sides.append((zeros // 2, zeros - zeros // 2))
    return sides[0], sides[1]


def transposed_cuts(padding: Padding, k: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]) -> Sides:
    """What a transposed convolution cuts from its whole result on each side: as numbers say, as torch does, or so that
    it has the size that lax.conv_transpose gives it for "SAME" (the map's times the stride) or "VALID". Below 0: zeros
    that are added.

    Raises:
      ValueError: padding is neither.
    """
    if not isinstance(padding, str) or padding not in ("SAME", "VALID"):
        return conv_pads(padding, (1, 1), k, stride, dilation)  # numbers, or it raises
    sides = []
    for i in range(2):
        window = (k[i] - 1) * dilation[i] + 1
        excess = window - stride[i]  # of the whole result over the map's size times the stride
        if padding == "VALID":
            sides.append((0, min(excess, 0)))
        elif excess < 0:
            sides.append((0, excess))
        else:
            sides.append((excess // 2, excess - excess // 2))
    return sides[0], sides[1]


def transposed_size(
    size: tuple[int, ...], k: tuple[int, ...], stride: tuple[int, int], cuts: Sides, dilation: tuple[int, int]
) -> tuple[int, int]:
    """(h, w) of a transposed convolution's result of a map of `size`."""
    h, w = ((size[i] - 1) * stride[i] + (k[i] - 1) * dilation[i] + 1 - sum(cuts[i]) for i in range(2))
    return h, w


def general_conv(
    x: Tensor,
    kernel: Tensor,
    stride: tuple[int, int],
    pads: Sides,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    bias: Tensor | None = None,
) -> Tensor:
    """`conv` of any window: x [n, c_in, h, w], kernel [c_out, c_in / groups, kh, kw] -> [n, c_out, h', w']."""
    (top, bottom), (left, right) = pads
    if (top, left) == (bottom, right):
        return F.conv2d(x, kernel, bias, stride, (top, left), dilation, groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), kernel, bias, stride, 0, dilation, groups)


def general_conv_transpose(
    x: Tensor,
    kernel: Tensor,
    stride: tuple[int, int],
    cuts: Sides,
    dilation: tuple[int, int] = (1, 1),
    bias: Tensor | None = None,
) -> Tensor:
    """`conv_transpose` of any window: x [n, c_in, h, w], kernel [c_in, c_out, kh, kw] -> [n, c_out, h', w']."""
    (top, bottom), (left, right) = cuts
    if (top, left) == (bottom, right) and min(top, left) >= 0:
        return F.conv_transpose2d(x, kernel, bias, stride, (top, left), 0, 1, dilation)
    y = F.pad(F.conv_transpose2d(x, kernel, None, stride, 0, 0, 1, dilation), (-left, -right, -top, -bottom))
    return y if bias is None else y + bias[:, None, None]
