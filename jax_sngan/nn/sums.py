"""The sum of a batch of maps over everything but features, and its transpose, each the gradient of the other.

Summed axis by axis: rounding then grows with the longest axis, not with their product, as in torch's pairwise sums.
XLA on CPU would add one number after another, and would join the axes again but for the barriers. What has a true
gradient of zero, a bias in front of BatchNorm, is made of nothing but this rounding (docs/parity.md).
Forward-mode differentiation is not defined.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax


@jax.custom_vjp
def sum_to_features(x: Array) -> Array:
    """[n, ..., c] -> [c]."""
    # One reduction launches fewer operations on a GPU (docs/performance.md).
    return lax.platform_dependent(x, cuda=lambda x: jnp.sum(x, tuple(range(x.ndim - 1))), default=axis_by_axis)


def axis_by_axis(x: Array) -> Array:
    """`sum_to_features` whose rounding grows with the longest axis alone."""
    while x.ndim > 2:
        x = lax.optimization_barrier(jnp.sum(x, axis=-2))
    return jnp.sum(x, axis=0)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread_features(p: Array, shape: tuple[int, ...]) -> Array:
    """[c] -> shape = [n, ..., c]."""
    return jnp.broadcast_to(p.reshape((1,) * (len(shape) - 1) + (-1,)), shape)


def _sum_forward(x: Array) -> tuple[Array, tuple[int, ...]]:
    return sum_to_features(x), x.shape


def _spread_forward(p: Array, shape: tuple[int, ...]) -> tuple[Array, None]:
    return spread_features(p, shape), None


sum_to_features.defvjp(_sum_forward, lambda shape, g: (spread_features(g, shape),))
spread_features.defvjp(_spread_forward, lambda shape, _, g: (sum_to_features(g),))
