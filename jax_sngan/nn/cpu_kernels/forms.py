"""The forms in which a CPU computes the three maps of conv.py, and which one is taken where.

XLA's CPU backend runs its own transposes of a convolution 2 to 20 times slower than the forward, so here they are
written as matmuls and small forward convolutions; and where there are enough channels for the additions to pay, all
three maps take fewer multiplications (winograd.py). docs/performance.md has the figures.
"""

from typing import Literal

import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.nn.cpu_kernels import winograd
from jax_sngan.nn.plain_conv import LAYOUT, plain_conv, plain_input_gradient, plain_kernel_gradient, turned

_FEW = 4  # channels so few that the k*k matmuls of slices would each be a matrix-vector product
_SMALL_MAP = 8  # pixels a side; there a kernel is the larger part, and turning it costs more than overlapping tiles
_ENOUGH = 16  # channels that make a matmul of a convolution from them to few
Form = Literal["plain", "winograd", "matmul", "summed", "subpixel", "slices", "columns", "columns of y"]


def exact_sums(dtype: jnp.dtype) -> bool:
    """Whether a form may add numbers of this type itself: sums of bfloat16 would be rounded to eight bits."""
    return dtype in (jnp.float32, jnp.float64)


def choose_form(
    wanted: Literal["conv", "input_gradient", "kernel_gradient"],
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: int,
    padding: int,
    dtype: jnp.dtype,
) -> Form:
    """How one of the three maps is computed on a CPU: the fastest as measured (docs/performance.md).

    Args:
      size: (h, w) of x.
      kernel: its shape, (k, k, c_in, c_out).
    """
    k, _, c_in, c_out = kernel
    exact = exact_sums(dtype)
    enough = min(c_in, c_out) >= (32 if wanted == "kernel_gradient" else 64)
    if exact and enough and algorithm(size, k, stride, padding) is not None:
        return "winograd"
    if exact and wanted != "kernel_gradient" and stride == 1:
        if (k, padding) == (1, 0):
            return "matmul"
        results, terms = (c_in, c_out) if wanted == "input_gradient" else (c_out, c_in)
        if padding < k and results <= _FEW and terms >= _ENOUGH:
            return "summed"
    if wanted == "input_gradient":
        tiles = ((s + 2 * padding - k) // stride + 1 for s in size)
        fits = all(t * stride == s for t, s in zip(tiles, size, strict=True))
        return "subpixel" if stride > 1 and fits and k >= stride and padding < k else "plain"
    if wanted == "kernel_gradient":
        if c_in <= _FEW:
            return "columns"
        return "columns of y" if c_out <= _FEW and stride == 1 and padding < k else "slices"
    return "plain"


def algorithm(size: tuple[int, ...], k: int, stride: int, padding: int) -> winograd.Algorithm | None:
    """The one with fewer multiplications that computes this convolution of a map of h x w, if there is one."""
    h, w = size
    if (k, stride, padding) == (3, 1, 1) and h % 2 == w % 2 == 0:
        return winograd.F23
    if (k, stride, padding) == (4, 2, 1) and h % 4 == w % 4 == 0:
        return winograd.F22
    return None


def conv_in_form(form: Form, x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """`conv.conv`."""
    if form == "winograd":
        return winograd_conv(x, kernel, stride, padding)
    if form == "matmul":
        return matmul_conv(x, kernel)
    if form == "summed":
        return summed_conv(x, kernel, padding)
    return plain_conv(x, kernel, stride, padding)


def input_gradient_in_form(
    form: Form, y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int
) -> Array:
    """`conv.input_gradient`."""
    if form == "winograd":
        return winograd_input_gradient(y, kernel, size, stride, padding)
    if form == "matmul":
        return matmul_conv(y, turned(kernel))
    if form == "summed":
        return summed_conv(y, turned(kernel), kernel.shape[0] - 1 - padding)
    if form == "subpixel":
        return subpixel_input_gradient(y, kernel, size, stride, padding)
    return plain_input_gradient(y, kernel, size, stride, padding)


def kernel_gradient_in_form(form: Form, x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`conv.kernel_gradient`."""
    if form == "winograd":
        return winograd_kernel_gradient(x, y, k, stride, padding)
    if form == "slices":
        return slices_kernel_gradient(x, y, k, stride, padding)
    if form == "columns":
        return columns_kernel_gradient(x, y, k, stride, padding)
    if form == "columns of y":  # the same correlation seen from y: its columns are few, x is read once
        return turned(columns_kernel_gradient(y, x, k, 1, k - 1 - padding))
    return plain_kernel_gradient(x, y, k, stride, padding)


def matmul_conv(x: Array, kernel: Array) -> Array:
    """`conv` with a 1x1 kernel, stride 1: its matrix times each pixel's channels."""
    return x @ kernel[0, 0]


def summed_conv(x: Array, kernel: Array, padding: int) -> Array:
    """`conv` of stride 1 as one matmul, of which each tap's products are summed, shifted: for few channels out."""
    k, _, c_in, c_out = kernel.shape
    taps = kernel.transpose(0, 1, 3, 2).reshape(-1, c_in)
    products = taps @ x.reshape(-1, c_in).T  # the pixels last, so that the sums run over whole rows of a map
    products = products.reshape(k, k, c_out, *x.shape[:3])
    products = jnp.pad(products, ((0, 0),) * 4 + ((padding, padding),) * 2)
    h, w = (s + 2 * padding - k + 1 for s in x.shape[1:3])
    shifted = [products[i, j, :, :, i : i + h, j : j + w] for i in range(k) for j in range(k)]
    return sum(shifted[1:], start=shifted[0]).transpose(1, 2, 3, 0)


def winograd_conv(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """`conv` with fewer multiplications, where there is an `algorithm`."""
    return winograd.forward(_algorithm(x.shape[1:3], kernel.shape[0], stride, padding), x, kernel)


def winograd_input_gradient(y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int) -> Array:
    """`input_gradient` with fewer multiplications, where there is an `algorithm`."""
    a = _algorithm(size, kernel.shape[0], stride, padding)
    if stride == 1 and min(size) > _SMALL_MAP:
        return winograd.forward(a, y, turned(kernel))  # no tiles to add where they overlap
    return winograd.input_gradient(a, y, kernel)


def winograd_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` with fewer multiplications, where there is an `algorithm`."""
    return winograd.kernel_gradient(_algorithm(x.shape[1:3], k, stride, padding), x, y)


def _algorithm(size: tuple[int, ...], k: int, stride: int, padding: int) -> winograd.Algorithm:
    found = algorithm(size, k, stride, padding)
    if found is None:
        raise ValueError(f"no algorithm for a {k}x{k} kernel, stride {stride}, padding {padding}, on {size}")
    return found


def subpixel_input_gradient(y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int) -> Array:
    """`input_gradient` for stride > 1 with y's size times stride = size, without the zeros that spreading multiplies.

    Pixels of one phase (their index modulo the stride) see the same taps of the kernel, so each phase is a small
    convolution of y; the phases are then interleaved.
    """
    n, h, w, _ = y.shape
    across = kernel.swapaxes(2, 3)
    rows = []
    for a in range(stride):
        row_taps, row_pad = _phase(a, kernel.shape[0], stride, padding)
        columns = []
        for b in range(stride):
            column_taps, column_pad = _phase(b, kernel.shape[0], stride, padding)
            taps = across[row_taps][:, column_taps]
            columns.append(lax.conv_general_dilated(y, taps, (1, 1), [row_pad, column_pad], dimension_numbers=LAYOUT))
        rows.append(jnp.stack(columns, axis=3))  # [n, h, w, stride, c]
    return jnp.stack(rows, axis=2).reshape(n, *size, kernel.shape[2])  # [n, h, stride, w, stride, c] before


def _phase(phase: int, k: int, stride: int, padding: int) -> tuple[slice, tuple[int, int]]:
    """Kernel taps that reach pixels of a phase, in the order of y's pixels that they multiply, and y's padding."""
    first = (phase + padding) % stride
    taps = list(range(first, k, stride))  # tap i multiplies y[m + (phase + padding - i) / stride] in pixel m
    offsets = [(phase + padding - i) // stride for i in taps]
    last = None if first - stride < 0 else first - stride
    return slice(taps[-1], last, -stride), (-offsets[-1], offsets[0])


def slices_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` as k * k matmuls, one for each shift of x."""
    flat = y.reshape(-1, y.shape[3])
    shifted = _shifts(x, y, k, stride, padding)
    return jnp.stack([s.reshape(-1, x.shape[3]).T @ flat for s in shifted]).reshape(k, k, x.shape[3], y.shape[3])


def columns_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` as one matmul of all shifts of x side by side (im2col): for few channels."""
    columns = jnp.concatenate(_shifts(x, y, k, stride, padding), axis=3).reshape(-1, k * k * x.shape[3])
    return (columns.T @ y.reshape(-1, y.shape[3])).reshape(k, k, x.shape[3], y.shape[3])


def _shifts(x: Array, y: Array, k: int, stride: int, padding: int) -> list[Array]:
    """For each tap of the kernel, the pixels of x that it meets: k * k of [n, h', w', c_in]."""
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    h, w = (stride * (s - 1) + 1 for s in y.shape[1:3])
    return [padded[:, i : i + h : stride, j : j + w : stride] for i in range(k) for j in range(k)]
