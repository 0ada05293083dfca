"""Doubling and halving a map [n, c, h, w]: nearest, bilinear, and the mean of 2x2."""

import torch.nn.functional as F
from torch import Tensor


def upsample_nearest(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, c, 2h, 2w], each pixel four times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def upsample_bilinear(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, c, 2h, 2w], edges clamped."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


UPSAMPLINGS = {"nearest": upsample_nearest, "bilinear": upsample_bilinear}


def mean_pool(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, c, h/2, w/2], the mean of each 2x2; h and w even."""
    return F.avg_pool2d(x, 2)
