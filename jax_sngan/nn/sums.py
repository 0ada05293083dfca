"""The sum of a batch of maps over everything but features, and its transpose, each the gradient of the other.

Summed axis by axis: rounding then grows with the longest axis, not with their product, as in torch's pairwise sums.
XLA on CPU would add one number after another, and would join the axes again but for the barriers. What has a true
gradient of zero, a bias in front of BatchNorm, is made of nothing but this rounding (docs/parity.md).
Forward-mode differentiation is not defined, unless cpu_kernels is switched off: then jax sums as it likes.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.nn import cpu_kernels


def sum_to_features(x: Array) -> Array:
    """[n, ..., c] -> [c]."""
    return _sum_to_features(x) if cpu_kernels.is_enabled() else jnp.sum(x, tuple(range(x.ndim - 1)))


@jax.custom_vjp
def _sum_to_features(x: Array) -> Array:
    # One reduction launches fewer operations on a GPU (docs/performance.md).
    return lax.platform_dependent(x, cuda=lambda x: jnp.sum(x, tuple(range(x.ndim - 1))), default=axis_by_axis)


def axis_by_axis(x: Array) -> Array:
    """`sum_to_features` whose rounding grows with the longest axis alone."""
    while x.ndim > 2:
        x = lax.optimization_barrier(jnp.sum(x, axis=-2))
    return jnp.sum(x, axis=0)


def spread_features(p: Array, shape: tuple[int, ...]) -> Array:
    """[c] -> shape = [n, ..., c]."""
    return _spread_features(p, shape) if cpu_kernels.is_enabled() else _broadcast(p, shape)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _spread_features(p: Array, shape: tuple[int, ...]) -> Array:
    return _broadcast(p, shape)


def _broadcast(p: Array, shape: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(p.reshape((1,) * (len(shape) - 1) + (-1,)), shape)


def _sum_forward(x: Array) -> tuple[Array, tuple[int, ...]]:
    return sum_to_features(x), x.shape


def _spread_forward(p: Array, shape: tuple[int, ...]) -> tuple[Array, None]:
    return spread_features(p, shape), None


_sum_to_features.defvjp(_sum_forward, lambda shape, g: (spread_features(g, shape),))
_spread_features.defvjp(_spread_forward, lambda shape, _, g: (sum_to_features(g),))
