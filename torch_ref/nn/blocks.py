"""Residual blocks of the SN-GAN ResNet (Miyato et al. 2018, Figure 8), as the authors and torch-mimicry build them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config import ModelConfig
from torch_ref.nn.batch_norm import BatchNorm
from torch_ref.nn.layers import Conv, glorot_uniform
from torch_ref.nn.resample import UPSAMPLINGS, mean_pool

_MAIN = glorot_uniform(math.sqrt(2.0))
_SHORTCUT = glorot_uniform()


class GeneratorBlock(nn.Module):
    """BatchNorm, ReLU, up-sample, 3x3, BatchNorm, ReLU, 3x3; plus up-sample, 1x1: [n, in, h, w] -> [n, out, 2h, 2w]."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig):
        super().__init__()
        dtype = getattr(torch, config.dtype)
        norm: dict[str, Any] = dict(
            eps=config.batch_norm_eps,
            momentum=config.batch_norm_momentum,
            num_classes=config.num_classes,
            dtype=dtype,
        )
        self.upsample = UPSAMPLINGS[config.upsampling]
        self.norm1 = BatchNorm(in_channels, **norm)
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, dtype=dtype)
        self.norm2 = BatchNorm(out_channels, **norm)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, dtype=dtype)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, dtype=dtype)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """x [n, in, h, w]; labels int [n], or None where unconditional."""
        h = F.relu(self.norm1(x, labels))
        h = self.conv1(self.upsample(h))
        h = F.relu(self.norm2(h, labels))
        return self.conv2(h) + self.shortcut(self.upsample(x))


class DiscriminatorBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus 1x1, mean of 2x2: [n, in, h, w] -> [n, out, h/2, w/2].

    Without `downsample` the means are left out, and with in = out the 1x1 too.
    """

    def __init__(self, in_channels: int, out_channels: int, downsample: bool, config: ModelConfig):
        super().__init__()
        layer: dict[str, Any] = dict(spectral_norm=config.spectral_norm, dtype=getattr(torch, config.dtype))
        self.downsample = downsample
        self.shortcut_input = config.shortcut_input
        self.conv1 = Conv(in_channels, in_channels, 3, padding=1, init=_MAIN, **layer)
        self.conv2 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        learned = downsample or in_channels != out_channels
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """x [n, in, h, w]."""
        active = F.relu(x)
        h = self.conv2(F.relu(self.conv1(active)))
        # torch-mimicry's ReLU works in place on x, so its shortcut sees ReLU(x).
        shortcut = active if self.shortcut_input == "activated" else x
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        return mean_pool(h) + mean_pool(shortcut) if self.downsample else h + shortcut


class FirstDiscriminatorBlock(nn.Module):
    """3x3, ReLU, 3x3, mean of 2x2; plus mean of 2x2, 1x1: images [n, channels, h, w] -> [n, out, h/2, w/2]."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig):
        super().__init__()
        layer: dict[str, Any] = dict(spectral_norm=config.spectral_norm, dtype=getattr(torch, config.dtype))
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, in, h, w], images: no ReLU comes before the first convolution."""
        h = self.conv2(F.relu(self.conv1(x)))
        return mean_pool(h) + self.shortcut(mean_pool(x))
