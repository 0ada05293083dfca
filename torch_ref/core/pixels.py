"""Pixels: uint8 [0, 255] in data, metrics and pictures; float [-1, 1] inside the networks."""

import torch
from torch import Tensor


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 of any shape in [0, 255] -> dtype in [-1, 1]."""
    return images.to(dtype) / 127.5 - 1


def dequantize(images: Tensor, noise: Tensor) -> Tensor:
    """uint8 of any shape with noise in [0, 1), one grey level, added -> in [-1, 1), uniform within each level."""
    return (images.to(noise.dtype) + noise) / 128 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float of any shape in [-1, 1] -> uint8 in [0, 255], to the nearest; what lies outside is clipped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
