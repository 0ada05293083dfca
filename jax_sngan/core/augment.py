"""Differentiable augmentation of what D sees, real and generated alike (Zhao et al. 2020, DiffAugment).

The operations of section 3.2 with the ranges of their program, in its order: colour, translation, cutout.
"""

import jax.numpy as jnp
from jax import Array

from jax_sngan.config.schema import AugmentConfig
from jax_sngan.nn import rng

NUMBERS = 7  # that an image takes: brightness, saturation, contrast, shift down and right, square's row and column


def augment(config: AugmentConfig, images: Array, key: Array) -> Array:
    """images [n, h, w, c] in [-1, 1] -> the same shape, each changed by its own random numbers."""
    numbers = rng.uniform(key, (len(images), NUMBERS), images.dtype)
    if config.colour:
        images = contrast(saturation(brightness(images, numbers[:, 0]), numbers[:, 1]), numbers[:, 2])
    if config.translation:
        images = translate(images, numbers[:, 3:5], config.translation)
    if config.cutout:
        images = cutout(images, numbers[:, 5:7], config.cutout)
    return images


def brightness(images: Array, r: Array) -> Array:
    """images + (r - 1/2), r [n] in [0, 1)."""
    return images + (_each(r) - 0.5)


def saturation(images: Array, r: Array) -> Array:
    """Distances from each pixel's grey, the mean of its channels, times 2 r, r [n] in [0, 1)."""
    grey = jnp.mean(images, axis=3, keepdims=True)
    return (images - grey) * (2 * _each(r)) + grey


def contrast(images: Array, r: Array) -> Array:
    """Distances from each image's mean times r + 1/2, r [n] in [0, 1)."""
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * (_each(r) + 0.5) + mean


def translate(images: Array, r: Array, share: float) -> Array:
    """Shifted by whole pixels, at most share of the side, zeros moving in; r [n, 2] in [0, 1): down, right."""
    side = images.shape[1]
    most = int(side * share + 0.5)
    shift = jnp.floor(r * (2 * most + 1)).astype(jnp.int32) - most
    pixels = jnp.arange(side, dtype=jnp.int32)
    for axis in (1, 2):
        source = pixels[None, :] - shift[:, axis - 1, None]  # [n, side]
        inside = ((source >= 0) & (source < side)).astype(images.dtype)
        shape = (len(images), side, 1, 1) if axis == 1 else (len(images), 1, side, 1)
        index = jnp.clip(source, 0, side - 1).reshape(shape)
        images = jnp.take_along_axis(images, index, axis) * inside.reshape(shape)
    return images


def cutout(images: Array, r: Array, share: float) -> Array:
    """A square of share of the side set to 0; its centre is anywhere, its outside part is lost. r [n, 2] in [0, 1)."""
    side = images.shape[1]
    size = int(side * share + 0.5)
    first = jnp.floor(r * (side + 1 - size % 2)).astype(jnp.int32) - size // 2  # [n, 2]
    pixels = jnp.arange(side, dtype=jnp.int32)[None, :]
    row, column = ((pixels >= first[:, i, None]) & (pixels < first[:, i, None] + size) for i in (0, 1))
    return images * (1 - (row[:, :, None, None] & column[:, None, :, None]).astype(images.dtype))


def _each(r: Array) -> Array:
    return r.reshape(-1, 1, 1, 1)
