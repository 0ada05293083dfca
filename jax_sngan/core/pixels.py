"""Pixels: uint8 [0, 255] in data, metrics and pictures; float [-1, 1] inside the networks."""

import jax.numpy as jnp
from jax import Array


def to_float(images: Array, dtype: jnp.dtype) -> Array:
    """uint8 [..., h, w, c] in [0, 255] -> dtype in [-1, 1]."""
    return images.astype(dtype) / 127.5 - 1


def dequantize(images: Array, noise: Array) -> Array:
    """uint8 [..., h, w, c] with noise in [0, 1), one grey level, added -> in [-1, 1), uniform within each level.

    In float32 the upper end of a level can be reached, by rounding.
    The authors' data sets (sngan_projection/datasets) have x / 128 - 1 + noise / 128.
    """
    return (images.astype(noise.dtype) + noise) / 128 - 1


def to_uint8(images: Array) -> Array:
    """float [..., h, w, c] in [-1, 1] -> uint8 in [0, 255], to the nearest; what lies outside is clipped."""
    return jnp.round((jnp.clip(images, -1, 1) + 1) * 127.5).astype(jnp.uint8)
