"""Products of coarse factors with a result in a finer type: of bfloat16 with all the bits of float32's sums.

A layer's result in bfloat16 is such a sum, rounded once more. Gradients are those of the coarse product: what comes
back is rounded to the factors' type first, so that every product, of any order, has factors of one type.
Forward-mode differentiation is not defined where the types differ, unless cpu_kernels is switched off: then the factors
are multiplied as numbers of the finer type.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jax_sngan.nn import cpu_kernels
from jax_sngan.nn.conv import Sides, conv, conv_transpose, general_conv, general_conv_transpose
from jax_sngan.nn.plain_conv import plain_conv

Product = Callable[[Array, Array], Array]


def matmul(x: Array, weight: Array, dtype: jnp.dtype) -> Array:
    """x [n, c_in] times weight [c_in, c_out], both of one type: [n, c_out] of dtype, the same or a finer one."""
    return _in(jnp.matmul, partial(jnp.matmul, preferred_element_type=dtype), x, weight, dtype)


def conv_in(x: Array, kernel: Array, stride: int, padding: int, dtype: jnp.dtype) -> Array:
    """`conv` of x and kernel, both of one type, with a result of dtype, the same or a finer one."""
    coarse = partial(conv, stride=stride, padding=padding)
    return _in(coarse, partial(plain_conv, stride=stride, padding=padding, dtype=dtype), x, kernel, dtype)


def conv_transpose_in(x: Array, kernel: Array, stride: int, padding: int, dtype: jnp.dtype) -> Array:
    """`conv_transpose` likewise."""
    cuts = ((padding, padding),) * 2
    fine = partial(general_conv_transpose, stride=(stride, stride), cuts=cuts, dtype=dtype)
    return _in(partial(conv_transpose, stride=stride, padding=padding), fine, x, kernel, dtype)


def general_conv_in(
    x: Array,
    kernel: Array,
    stride: tuple[int, int],
    pads: Sides,
    dilation: tuple[int, int],
    groups: int,
    dtype: jnp.dtype,
) -> Array:
    """`general_conv` likewise."""
    coarse = partial(general_conv, stride=stride, pads=pads, dilation=dilation, groups=groups)
    return _in(coarse, partial(coarse, dtype=dtype), x, kernel, dtype)


def general_conv_transpose_in(
    x: Array, kernel: Array, stride: tuple[int, int], cuts: Sides, dilation: tuple[int, int], dtype: jnp.dtype
) -> Array:
    """`general_conv_transpose` likewise."""
    coarse = partial(general_conv_transpose, stride=stride, cuts=cuts, dilation=dilation)
    return _in(coarse, partial(coarse, dtype=dtype), x, kernel, dtype)


def _in(coarse: Product, fine: Product, x: Array, weight: Array, dtype: jnp.dtype) -> Array:
    if x.dtype == dtype:
        return coarse(x, weight)
    if not cpu_kernels.is_enabled():
        return coarse(x.astype(dtype), weight.astype(dtype))
    return _finer(coarse, fine, x, weight)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _finer(coarse: Product, fine: Product, x: Array, weight: Array) -> Array:
    return fine(x, weight)


def _forward(coarse, fine, x, weight):  # type: ignore[no-untyped-def]
    return fine(x, weight), (x, weight)


def _backward(coarse, fine, saved, cotangent):  # type: ignore[no-untyped-def]
    del fine
    return jax.vjp(coarse, *saved)[1](cotangent.astype(saved[0].dtype))


_finer.defvjp(_forward, _backward)
