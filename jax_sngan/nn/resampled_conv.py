"""3x3 convolutions next to a doubling or a halving of the map, as one map with a quarter of the multiplications.

upsampled_conv(x, kernel) is conv(upsample_nearest(x), kernel, 1, 1), and mean_pooled_conv(x, kernel) is
mean_pool(conv(x, kernel, 1, 1)): the transpose of the first, but for the kernel's turn and a quarter. Of 36
multiplications a pixel of the small map, winograd.DOUBLED leaves 9, for a CPU. A 4x4 convolution of stride 2 and its
transpose, which need 16, are for accelerators: one operation, and no map of the larger size that is only copied or
summed. As in conv.py three bilinear maps are closed under differentiation. The kernel is the layer's own, so its
spectral norm stays what it is.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jax_sngan.nn import cpu_kernels
from jax_sngan.nn.conv import conv, input_gradient, kernel_gradient
from jax_sngan.nn.cpu_kernels import winograd
from jax_sngan.nn.cpu_kernels.forms import exact_sums
from jax_sngan.nn.plain_conv import plain_conv, plain_input_gradient, plain_kernel_gradient, turned
from jax_sngan.nn.platforms import by_platform
from jax_sngan.nn.resample import mean_pool, upsample_nearest

_FEWEST = 32  # channels from which the additions pay (docs/performance.md)
Form = Literal["plain", "winograd", "strided"]


def upsampled_conv(x: Array, kernel: Array) -> Array:
    """conv(upsample_nearest(x), kernel, 1, 1): x [n, h, w, c_in], kernel [3, 3, c_in, c_out] -> [n, 2h, 2w, c_out]."""
    return _upsampled_conv(x, kernel) if cpu_kernels.is_enabled() else _conv_in_form("plain", x, kernel)


@jax.custom_vjp
def _upsampled_conv(x: Array, kernel: Array) -> Array:
    return by_platform(_conv_in_form, _form(kernel), x, kernel, elsewhere="strided")


def _conv_in_form(form: Form, x: Array, kernel: Array) -> Array:
    if form == "winograd":
        return winograd.forward(winograd.DOUBLED, x, kernel)
    if form == "strided":
        return plain_input_gradient(x, _strided(kernel), (2 * x.shape[1], 2 * x.shape[2]), 2, 1)
    return conv(upsample_nearest(x), kernel, 1, 1)


def upsampled_input_gradient(y: Array, kernel: Array) -> Array:
    """The transpose of `upsampled_conv` in x: y [n, 2h, 2w, c_out], [3, 3, c_in, c_out] -> [n, h, w, c_in]."""
    return _input_gradient(y, kernel) if cpu_kernels.is_enabled() else _input_gradient_in_form("plain", y, kernel)


@jax.custom_vjp
def _input_gradient(y: Array, kernel: Array) -> Array:
    return by_platform(_input_gradient_in_form, _form(kernel), y, kernel, elsewhere="strided")


def _input_gradient_in_form(form: Form, y: Array, kernel: Array) -> Array:
    if form == "winograd":
        return winograd.input_gradient(winograd.DOUBLED, y, kernel)
    if form == "strided":
        return plain_conv(y, _strided(kernel), 2, 1)
    return 4 * mean_pool(input_gradient(y, kernel, y.shape[1:3], 1, 1))


def upsampled_kernel_gradient(x: Array, y: Array) -> Array:
    """The transpose in the kernel: x [n, h, w, c_in], y [n, 2h, 2w, c_out] -> [3, 3, c_in, c_out]."""
    return _kernel_gradient(x, y) if cpu_kernels.is_enabled() else _kernel_gradient_in_form("plain", x, y)


@jax.custom_vjp
def _kernel_gradient(x: Array, y: Array) -> Array:
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[3], y.shape[3]), x.dtype)
    return by_platform(_kernel_gradient_in_form, _form(kernel), x, y, elsewhere="strided")


def _kernel_gradient_in_form(form: Form, x: Array, y: Array) -> Array:
    if form == "winograd":
        return winograd.kernel_gradient(winograd.DOUBLED, x, y)
    if form == "strided":
        return _strided_transposed(plain_kernel_gradient(y, x, 4, 2, 1))
    return kernel_gradient(upsample_nearest(x), y, 3, 1, 1)


def mean_pooled_conv(x: Array, kernel: Array) -> Array:
    """mean_pool(conv(x, kernel, 1, 1)): x [n, 2h, 2w, c_in], kernel [3, 3, c_in, c_out] -> [n, h, w, c_out]."""
    return 0.25 * upsampled_input_gradient(x, turned(kernel))


def _strided(kernel: Array) -> Array:
    """[3, 3, c_in, c_out] -> [4, 4, c_out, c_in]: the 4x4 of stride 2, padding 1, whose transpose is upsampled_conv.

    A pixel is met by the sum of those taps that meet its copies: all pairs of neighbours, in both axes.
    """
    k = jnp.pad(_summable(kernel), ((1, 1), (1, 1), (0, 0), (0, 0)))
    return turned(k[1:, 1:] + k[:-1, 1:] + k[1:, :-1] + k[:-1, :-1]).astype(kernel.dtype)


def _strided_transposed(gradient: Array) -> Array:
    """The transpose of `_strided`: [4, 4, c_out, c_in] -> [3, 3, c_in, c_out]."""
    g = turned(_summable(gradient))
    return (g[1:, 1:] + g[:-1, 1:] + g[1:, :-1] + g[:-1, :-1]).astype(gradient.dtype)


def _summable(x: Array) -> Array:
    """x as what sums of four lose no more of than one rounding."""
    return x if exact_sums(x.dtype) else x.astype(jnp.float32)


def _form(kernel: Array | jax.ShapeDtypeStruct) -> Form:
    """That of a CPU."""
    return "winograd" if exact_sums(kernel.dtype) and min(kernel.shape[2:]) >= _FEWEST else "plain"


def _backward_of_conv(saved: tuple[Array, Array], y: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return upsampled_input_gradient(y, kernel), upsampled_kernel_gradient(x, y)


def _backward_of_input(saved: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
    y, kernel = saved
    return upsampled_conv(x, kernel), upsampled_kernel_gradient(x, y)


def _backward_of_kernel(saved: tuple[Array, Array], kernel: Array) -> tuple[Array, Array]:
    x, y = saved
    return upsampled_input_gradient(y, kernel), upsampled_conv(x, kernel)


_upsampled_conv.defvjp(lambda x, k: (upsampled_conv(x, k), (x, k)), _backward_of_conv)
_input_gradient.defvjp(lambda y, k: (upsampled_input_gradient(y, k), (y, k)), _backward_of_input)
_kernel_gradient.defvjp(lambda x, y: (upsampled_kernel_gradient(x, y), (x, y)), _backward_of_kernel)
