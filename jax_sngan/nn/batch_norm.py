"""Batch normalisation, plain and class-conditional, with torch's running statistics (flax's differ).

Ioffe & Szegedy 2015. The batch variance is taken in two passes, since one loses all digits where the mean is large,
and the running variance is the unbiased one.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from jax_sngan.nn.modes import is_training
from jax_sngan.nn.sums import spread_features, sum_to_features


class BatchNorm(nnx.Module):
    """[n, ..., features] -> the same, normalised over all axes but the last, then scaled and shifted.

    With num_classes > 0 scale and shift are those of each image's class, [num_classes, features] (Dumoulin et al.
    2017).
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        num_classes: int = 0,
        dtype: DTypeLike = jnp.float32,
    ):
        self.eps, self.momentum = eps, momentum
        self.deterministic = False  # what a pass is that is not told: set by train() and eval()
        shape = (num_classes, features) if num_classes else (features,)
        self.scale = nnx.Param(jnp.ones(shape, dtype))
        self.bias = nnx.Param(jnp.zeros(shape, dtype))
        self.mean = nnx.BatchStat(jnp.zeros((features,), dtype))
        self.var = nnx.BatchStat(jnp.ones((features,), dtype))

    def set_view(self, deterministic: bool | None = None) -> None:
        """For nnx.view: deterministic, whether passes are evaluations."""
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool | None = None) -> Array:
        """x [n, ..., features], labels int [n] where conditional; training uses and records the batch's statistics."""
        given, x = x.dtype, x.astype(self.scale.dtype)  # statistics are not for bfloat16
        if is_training(self, train):
            mean, var = batch_moments(x)
            count = x.size // x.shape[-1]
            unbiased = var * (count / max(count - 1, 1))
            for stat, value in ((self.mean, mean), (self.var, unbiased)):
                stat[...] = lax.stop_gradient((1 - self.momentum) * stat[...] + self.momentum * value)
        else:
            mean, var = self.mean[...], self.var[...]
        scale, bias = self.scale[...], self.bias[...]
        if labels is not None:
            scale, bias = (p[labels].reshape(x.shape[0], *(1,) * (x.ndim - 2), -1) for p in (scale, bias))
        else:
            scale, bias = (spread_features(p, x.shape) for p in (scale, bias))
        deviation = spread_features(lax.rsqrt(var + self.eps), x.shape)
        return ((x - spread_features(mean, x.shape)) * (deviation * scale) + bias).astype(given)


def batch_moments(x: Array) -> tuple[Array, Array]:
    """([features] mean, [features] biased variance) of x [n, ..., features] over all axes but the last."""
    mean = _mean(x)
    return mean, _mean(jnp.square(x - spread_features(mean, x.shape)))


def _mean(x: Array) -> Array:
    """[n, ..., features] -> [features]."""
    # XLA multiplies by a constant's rounded reciprocal instead: off in the same direction in every step of a run.
    return sum_to_features(x) / lax.optimization_barrier(jnp.asarray(x.size // x.shape[-1], x.dtype))
