"""Doubling and halving a map [n, h, w, c]: nearest, bilinear, and the mean of 2x2."""

import jax.numpy as jnp
from jax import Array


def upsample_nearest(x: Array) -> Array:
    """[n, h, w, c] -> [n, 2h, 2w, c], each pixel four times; chainer's unpooling_2d(x, 2)."""
    n, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)


def upsample_bilinear(x: Array) -> Array:
    """[n, h, w, c] -> [n, 2h, 2w, c]; torch's interpolate(mode="bilinear", align_corners=False), edges clamped."""
    return _double(_double(x, 1), 2)


def _double(x: Array, axis: int) -> Array:
    """New pixels lie a quarter of a pixel before and after each old one."""
    size = x.shape[axis]
    first, last = (jnp.take(x, jnp.array([i]), axis) for i in (0, size - 1))
    before = jnp.concatenate([first, jnp.take(x, jnp.arange(size - 1), axis)], axis)
    after = jnp.concatenate([jnp.take(x, jnp.arange(1, size), axis), last], axis)
    pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


UPSAMPLINGS = {"nearest": upsample_nearest, "bilinear": upsample_bilinear}


def mean_pool(x: Array) -> Array:
    """[n, h, w, c] -> [n, h/2, w/2, c], the mean of each 2x2; h and w even."""
    n, h, w, c = x.shape
    return jnp.mean(x.reshape(n, h // 2, 2, w // 2, 2, c), (2, 4))
