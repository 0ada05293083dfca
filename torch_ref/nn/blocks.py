"""Residual blocks of the SN-GAN ResNet (Miyato et al. 2018, Figure 8), as the authors and torch-mimicry build them."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from torch_ref.nn.batch_norm import BatchNorm
from torch_ref.nn.dropout import dropout, keys_of_layers
from torch_ref.nn.layers import Conv, glorot_uniform
from torch_ref.nn.normalization import NoNorm
from torch_ref.nn.resample import UPSAMPLINGS, mean_pool

Norm = Callable[[int], Any]  # features -> a normalisation of so many
_MAIN = glorot_uniform(math.sqrt(2.0))
_SHORTCUT = glorot_uniform()


def no_norm(features: int) -> NoNorm:
    """A block without normalisation."""
    del features
    return NoNorm()


class GeneratorBlock(nn.Module):
    """BatchNorm, ReLU, up-sample, 3x3, BatchNorm, ReLU, 3x3; plus up-sample, 1x1: [n, in, h, w] -> [n, out, 2h, 2w]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm = BatchNorm,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
        dropout: float = 0.0,
        **layer: Any,
    ):
        super().__init__()
        self.upsample, self.dropout = UPSAMPLINGS[upsampling], dropout
        self.norm1 = norm(in_channels)
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.norm2 = norm(out_channels)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer)

    def forward(self, x: Tensor, labels: Tensor | None, key: Tensor | None = None) -> Tensor:
        """x [n, in, h, w]; labels int [n], or None where unconditional; key of the dropout between the convolutions."""
        h = F.relu(self.norm1(x, labels))
        h = self.conv1(self.upsample(h))
        h = dropout(F.relu(self.norm2(h, labels)), self.dropout, key)
        return self.conv2(h) + self.shortcut(self.upsample(x))


class DiscriminatorBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus 1x1, mean of 2x2: [n, in, h, w] -> [n, out, h/2, w/2].

    Without `downsample` the means are left out, and with in = out the 1x1 too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        downsample: bool,
        *,
        norm: Norm = no_norm,
        shortcut_input: Literal["raw", "activated"] = "raw",
        dropout: float = 0.0,
        **layer: Any,
    ):
        super().__init__()
        self.downsample = downsample
        self.shortcut_input, self.dropout = shortcut_input, dropout
        self.norm1 = norm(in_channels)
        self.norm2 = norm(in_channels)
        self.conv1 = Conv(in_channels, in_channels, 3, padding=1, init=_MAIN, **layer)
        self.conv2 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        learned = downsample or in_channels != out_channels
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer) if learned else None

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """x [n, in, h, w]; key of the dropout after each ReLU."""
        keys = keys_of_layers(key, 2)
        active = F.relu(self.norm1(x))
        h = self.conv1(dropout(active, self.dropout, keys[0]))
        h = self.conv2(dropout(F.relu(self.norm2(h)), self.dropout, keys[1]))
        # torch-mimicry's ReLU works in place on x, so its shortcut sees ReLU(x).
        shortcut = active if self.shortcut_input == "activated" else x
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        return mean_pool(h) + mean_pool(shortcut) if self.downsample else h + shortcut


class FirstDiscriminatorBlock(nn.Module):
    """3x3, ReLU, 3x3, mean of 2x2; plus mean of 2x2, 1x1: images [n, channels, h, w] -> [n, out, h/2, w/2]."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: Norm = no_norm, dropout: float = 0.0, **layer: Any
    ):
        super().__init__()
        self.dropout = dropout
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.norm2 = norm(out_channels)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer)

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """x [n, in, h, w], images, so no ReLU comes before conv1; key of the dropout after the one ReLU."""
        h = F.relu(self.norm2(self.conv1(x)))
        h = self.conv2(dropout(h, self.dropout, key))
        return mean_pool(h) + self.shortcut(mean_pool(x))
