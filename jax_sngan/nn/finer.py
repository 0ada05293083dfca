"""Products of coarse factors with a result in a finer type: of bfloat16 with all the bits of float32's sums.

A layer's result in bfloat16 is such a sum, rounded once more. Gradients are those of the coarse product: what comes
back is rounded to the factors' type first, so that every product, of any order, has factors of one type.
Forward-mode differentiation is not defined where the types differ.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jax_sngan.nn.conv import conv, plain_conv


def matmul(x: Array, weight: Array, dtype: jnp.dtype) -> Array:
    """x [n, c_in] times weight [c_in, c_out], both of one type: [n, c_out] of dtype, the same or a finer one."""
    if x.dtype == dtype:
        return x @ weight
    return _finer(jnp.matmul, partial(jnp.matmul, preferred_element_type=dtype), x, weight)


def conv_in(x: Array, kernel: Array, stride: int, padding: int, dtype: jnp.dtype) -> Array:
    """`conv` of x and kernel, both of one type, with a result of dtype, the same or a finer one."""
    if x.dtype == dtype:
        return conv(x, kernel, stride, padding)
    sizes = {"stride": stride, "padding": padding}
    return _finer(lambda x, k: conv(x, k, stride, padding), partial(plain_conv, **sizes, dtype=dtype), x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _finer(
    coarse: Callable[[Array, Array], Array], fine: Callable[[Array, Array], Array], x: Array, weight: Array
) -> Array:
    return fine(x, weight)


def _forward(coarse, fine, x, weight):  # type: ignore[no-untyped-def]
    return fine(x, weight), (x, weight)


def _backward(coarse, fine, saved, cotangent):  # type: ignore[no-untyped-def]
    del fine
    return jax.vjp(coarse, *saved)[1](cotangent.astype(saved[0].dtype))


_finer.defvjp(_forward, _backward)
