"""Convolutions whose gradients are fast on every backend: NHWC maps, HWIO square kernels, symmetric zero padding.

Three bilinear maps are closed under differentiation, so gradients of any order are again these three:

    conv              x, kernel -> y
    input_gradient    y, kernel -> x     its transpose in x; also what a transposed convolution computes
    kernel_gradient   x, y -> kernel     its transpose in the kernel

On a CPU they take the forms of cpu_kernels/, on other backends `lax`'s: a traced function holds both (platforms.py),
and the platform that it is lowered for takes its own. Forward-mode differentiation is not defined, unless cpu_kernels
is switched off. Other windows (rectangular kernels, dilation, groups, padding of one side) are `lax`'s everywhere.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.nn import cpu_kernels
from jax_sngan.nn.cpu_kernels.forms import (
    choose_form,
    conv_in_form,
    input_gradient_in_form,
    kernel_gradient_in_form,
)
from jax_sngan.nn.plain_conv import LAYOUT, plain_conv, plain_input_gradient, plain_kernel_gradient, turned
from jax_sngan.nn.platforms import by_platform


def conv(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Cross-correlation, as torch.nn.functional.conv2d computes it.

    Args:
      x: [n, h, w, c_in].
      kernel: [k, k, c_in, c_out].
      stride: step between two windows, in pixels.
      padding: zeros on each of the four sides.
    Returns:
      [n, (h + 2 padding - k) // stride + 1, likewise w, c_out].
    """
    if not cpu_kernels.is_enabled():
        return plain_conv(x, kernel, stride, padding)
    return _conv(x, kernel, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    form = choose_form("conv", x.shape[1:3], kernel.shape, stride, padding, x.dtype)
    return by_platform(conv_in_form, form, x, kernel, stride, padding)


def input_gradient(y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int) -> Array:
    """The transpose of `conv` in x: [n, h', w', c_out], [k, k, c_in, c_out] -> [n, *size, c_in]."""
    if not cpu_kernels.is_enabled():
        return plain_input_gradient(y, kernel, size, stride, padding)
    return _input_gradient(y, kernel, size, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _input_gradient(y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int) -> Array:
    form = choose_form("input_gradient", size, kernel.shape, stride, padding, y.dtype)
    return by_platform(input_gradient_in_form, form, y, kernel, size, stride, padding)


def kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """The transpose of `conv` in its kernel: [n, h, w, c_in], [n, h', w', c_out] -> [k, k, c_in, c_out]."""
    if not cpu_kernels.is_enabled():
        return plain_kernel_gradient(x, y, k, stride, padding)
    return _kernel_gradient(x, y, k, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    shape = (k, k, x.shape[3], y.shape[3])
    form = choose_form("kernel_gradient", x.shape[1:3], shape, stride, padding, x.dtype)
    return by_platform(kernel_gradient_in_form, form, x, y, k, stride, padding)


def conv_transpose(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Transposed convolution, as torch.nn.functional.conv_transpose2d computes it.

    Args:
      x: [n, h, w, c_in].
      kernel: [k, k, c_out, c_in], that of the convolution it transposes.
      stride: pixels of the result for each pixel of x.
      padding: rows and columns cut from each of the four sides.
    Returns:
      [n, (h - 1) stride - 2 padding + k, likewise w, c_out].
    """
    cuts = ((padding, padding),) * 2
    size = transposed_size(x.shape[1:3], kernel.shape[:2], (stride, stride), cuts, (1, 1))
    return input_gradient(x, kernel, size, stride, padding)


def _conv_forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel, stride, padding), (x, kernel)


def _conv_backward(stride: int, padding: int, saved: tuple[Array, Array], y: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        input_gradient(y, kernel, x.shape[1:3], stride, padding),
        kernel_gradient(x, y, kernel.shape[0], stride, padding),
    )


def _input_forward(y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int):  # type: ignore[no-untyped-def]
    return input_gradient(y, kernel, size, stride, padding), (y, kernel)


def _input_backward(
    size: tuple[int, ...], stride: int, padding: int, saved: tuple[Array, Array], x: Array
) -> tuple[Array, Array]:
    y, kernel = saved
    return conv(x, kernel, stride, padding), kernel_gradient(x, y, kernel.shape[0], stride, padding)


def _kernel_forward(x: Array, y: Array, k: int, stride: int, padding: int):  # type: ignore[no-untyped-def]
    return kernel_gradient(x, y, k, stride, padding), (x, y)


def _kernel_backward(
    k: int, stride: int, padding: int, saved: tuple[Array, Array], kernel: Array
) -> tuple[Array, Array]:
    x, y = saved
    return input_gradient(y, kernel, x.shape[1:3], stride, padding), conv(x, kernel, stride, padding)


_conv.defvjp(_conv_forward, _conv_backward)
_input_gradient.defvjp(_input_forward, _input_backward)
_kernel_gradient.defvjp(_kernel_forward, _kernel_backward)


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
    padding: Padding,
    size: tuple[int, ...],
    k: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Sides:
    """The zeros beside a map of h x w: as numbers say, or as many as lax's "SAME" or "VALID" sets there.

    Raises:
      ValueError: padding is neither.
    """
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f'padding must be a number, a pair of numbers, "SAME" or "VALID", got {padding!r}')
        if padding == "VALID":
            return (0, 0), (0, 0)
        windows = zip(size, k, stride, dilation, strict=True)
        total = [max((-(-side // s) - 1) * s + (n - 1) * d + 1 - side, 0) for side, n, s, d in windows]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    rows, columns = pair(padding)
    if not (isinstance(rows, int) and isinstance(columns, int) and min(rows, columns) >= 0):
        raise ValueError(f'padding must be at least 0, "SAME" or "VALID", got {padding!r}')
    return (rows, rows), (columns, columns)


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
    for n, s, d in zip(k, stride, dilation, strict=True):
        reach = (n - 1) * d  # of a window beyond its first pixel: the padding with which nothing is cut
        if padding == "VALID":
            before, total = reach, reach + s - 1 + max(reach + 1 - s, 0)
        else:
            total = reach + s - 1
            before = reach if s > reach else -(-total // 2)
        sides.append((reach - before, reach - (total - before)))
    return sides[0], sides[1]


def transposed_size(
    size: tuple[int, ...], k: tuple[int, ...], stride: tuple[int, int], cuts: Sides, dilation: tuple[int, int]
) -> tuple[int, int]:
    """(h, w) of a transposed convolution's result of a map of `size`."""
    h, w = (
        (side - 1) * s + (n - 1) * d + 1 - sum(cut)
        for side, n, s, d, cut in zip(size, k, stride, dilation, cuts, strict=True)
    )
    return h, w


def simple_window(
    kernel: tuple[int, ...], stride: tuple[int, int], sides: Sides, dilation: tuple[int, int], groups: int = 1
) -> tuple[int, int] | None:
    """(stride, padding) as `conv` and `conv_transpose` take them, or None where they can't: kernel is its shape."""
    square = kernel[0] == kernel[1] and stride[0] == stride[1] and len({*sides[0], *sides[1]}) == 1
    simple = square and sides[0][0] >= 0 and dilation == (1, 1) and groups == 1
    return (stride[0], sides[0][0]) if simple else None


def general_conv(
    x: Array,
    kernel: Array,
    stride: tuple[int, int],
    pads: Sides,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    dtype: jnp.dtype | None = None,
) -> Array:
    """`conv` of any window: x [n, h, w, c_in], kernel [kh, kw, c_in / groups, c_out] -> [n, h', w', c_out].

    dtype: of the result, where it is not that of x and kernel.
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
        preferred_element_type=dtype,
    )


def general_conv_transpose(
    x: Array,
    kernel: Array,
    stride: tuple[int, int],
    cuts: Sides,
    dilation: tuple[int, int] = (1, 1),
    dtype: jnp.dtype | None = None,
) -> Array:
    """`conv_transpose` of any window: x [n, h, w, c_in], kernel [kh, kw, c_out, c_in] -> [n, h', w', c_out]."""
    reach = ((n - 1) * d for n, d in zip(kernel.shape[:2], dilation, strict=True))
    pads = [(r - before, r - after) for r, (before, after) in zip(reach, cuts, strict=True)]
    return lax.conv_general_dilated(
        x,
        turned(kernel),
        (1, 1),
        pads,
        lhs_dilation=stride,
        rhs_dilation=dilation,
        dimension_numbers=LAYOUT,
        preferred_element_type=dtype,
    )
