"""Differentiable augmentation of what D sees, real and generated alike (Zhao et al. 2020, DiffAugment).

The operations of section 3.2 with the ranges of their program, in its order: colour, translation, cutout.
"""

import torch
from torch import Tensor

from jax_sngan.config.schema import AugmentConfig
from torch_ref.nn import rng

NUMBERS = 7  # that an image takes: brightness, saturation, contrast, shift down and right, square's row and column


def augment(config: AugmentConfig, images: Tensor, key: Tensor) -> Tensor:
    """images [n, c, h, w] in [-1, 1] -> the same shape, each changed by its own random numbers."""
    numbers = rng.uniform(key, (len(images), NUMBERS), images.dtype)
    if config.colour:
        images = contrast(saturation(brightness(images, numbers[:, 0]), numbers[:, 1]), numbers[:, 2])
    if config.translation:
        images = translate(images, numbers[:, 3:5], config.translation)
    if config.cutout:
        images = cutout(images, numbers[:, 5:7], config.cutout)
    return images


def brightness(images: Tensor, r: Tensor) -> Tensor:
    """images + (r - 1/2), r [n] in [0, 1)."""
    return images + (r - 0.5)[:, None, None, None]


def saturation(images: Tensor, r: Tensor) -> Tensor:
    """Distances from each pixel's grey, the mean of its channels, times 2 r, r [n] in [0, 1)."""
    return torch.lerp(images.mean(1, keepdim=True), images, (2 * r)[:, None, None, None])


def contrast(images: Tensor, r: Tensor) -> Tensor:
    """Distances from each image's mean times r + 1/2, r [n] in [0, 1)."""
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, (r + 0.5)[:, None, None, None])


def translate(images: Tensor, r: Tensor, share: float) -> Tensor:
    """Shifted by whole pixels, at most share of the side, zeros moving in; r [n, 2] in [0, 1): down, right."""
    side = images.shape[2]
    most = int(side * share + 0.5)
    shift = torch.floor(r * (2 * most + 1)).long() - most
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    pixels = torch.arange(most, most + side, device=images.device)
    rows, columns = (pixels - shift[:, i, None] for i in (0, 1))  # [n, side]
    each = torch.arange(len(images), device=images.device)[:, None, None]
    moved = padded[each, :, rows[:, :, None], columns[:, None, :]]  # [n, side, side, c]
    return moved.permute(0, 3, 1, 2).contiguous()


def cutout(images: Tensor, r: Tensor, share: float) -> Tensor:
    """A square of share of the side set to 0; its centre is anywhere, its outside part is lost. r [n, 2] in [0, 1)."""
    side = images.shape[2]
    size = int(side * share + 0.5)
    first = torch.floor(r * (side + 1 - size % 2)).long() - size // 2  # [n, 2]
    pixels = torch.arange(side, device=images.device)
    row, column = ((pixels >= first[:, i, None]) & (pixels < first[:, i, None] + size) for i in (0, 1))  # [n, side]
    return images * ~(row[:, :, None] & column[:, None, :])[:, None]
