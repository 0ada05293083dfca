"""The three maps of conv.py as one convolution of the backend each: what accelerators run, and CPUs where nothing is
faster; and convolutions of any window, which conv.py has no fast form for."""

import jax.numpy as jnp
from jax import Array, lax

LAYOUT = ("NHWC", "HWIO", "NHWC")


def turned(kernel: Array) -> Array:
    """[k, k, c_in, c_out] -> [k, k, c_out, c_in], half a turn: of the transposed convolution, where the stride is 1."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def plain_conv(x: Array, kernel: Array, stride: int, padding: int, dtype: jnp.dtype | None = None) -> Array:
    """`conv` as the backend has it; dtype: of the result, where it is not that of x and kernel."""
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=LAYOUT, preferred_element_type=dtype
    )


def plain_input_gradient(y: Array, kernel: Array, size: tuple[int, ...], stride: int, padding: int) -> Array:
    """`input_gradient` as one convolution of y, spread by the stride, with the turned kernel."""
    k = kernel.shape[0]
    pads = [(k - 1 - padding, s - ((r - 1) * stride - padding + 1)) for s, r in zip(size, y.shape[1:3], strict=True)]
    return lax.conv_general_dilated(
        y, turned(kernel), (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=LAYOUT
    )


def plain_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` as one convolution of x with y, spread by the stride: images and channels change places."""
    sizes = zip(x.shape[1:3], y.shape[1:3], strict=True)
    pads = [(padding, (r - 1) * stride + k - s - padding) for s, r in sizes]  # so that k results are left
    layout = ("CHWN", "IHWO", "HWNC")
    return lax.conv_general_dilated(x, y, (1, 1), pads, rhs_dilation=(stride, stride), dimension_numbers=layout)
