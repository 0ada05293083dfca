"""Residual blocks of the SN-GAN ResNet (Miyato et al. 2018, Figure 8), as the authors and torch-mimicry build them.

What they compute is what torch_ref's say, layer by layer. Two things are written for fewer multiplications: a 3x3 and
the change of size beside it are one map, and a 1x1 works on the smaller of its two maps, since it commutes with both.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import nnx
from jax import Array

from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.dropout import dropout, keys_of_layers
from jax_sngan.nn.layers import Conv, glorot_uniform
from jax_sngan.nn.normalization import NoNorm
from jax_sngan.nn.resample import UPSAMPLINGS, mean_pool

Norm = Callable[[int], Any]  # features -> a normalisation of so many
_MAIN = glorot_uniform(math.sqrt(2.0))
_SHORTCUT = glorot_uniform()


def no_norm(features: int) -> NoNorm:
    """A block without normalisation."""
    del features
    return NoNorm()


class GeneratorBlock(nnx.Module):
    """BatchNorm, ReLU, up-sample, 3x3, BatchNorm, ReLU, 3x3; plus up-sample, 1x1: [n, h, w, in] -> [n, 2h, 2w, out]."""

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
        self.upsampling, self.dropout = upsampling, dropout
        self.norm1 = norm(in_channels)
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.norm2 = norm(out_channels)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer)

    def __call__(self, x: Array, labels: Array | None, *, train: bool, key: Array | None = None) -> Array:
        """x [n, h, w, in]; labels int [n], or None where unconditional; key of the dropout between the convolutions."""
        upsample = UPSAMPLINGS[self.upsampling]
        h = jax.nn.relu(self.norm1(x, labels, train=train))
        h = self.conv1.of_upsampled(h, self.upsampling, train=train)
        h = dropout(jax.nn.relu(self.norm2(h, labels, train=train)), self.dropout, key)
        return self.conv2(h, train=train) + upsample(self.shortcut(x, train=train))


class DiscriminatorBlock(nnx.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus 1x1, mean of 2x2: [n, h, w, in] -> [n, h/2, w/2, out].

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
        self.downsample = downsample
        self.shortcut_input, self.dropout = shortcut_input, dropout
        self.norm1 = norm(in_channels)
        self.norm2 = norm(in_channels)
        self.conv1 = Conv(in_channels, in_channels, 3, padding=1, init=_MAIN, **layer)
        self.conv2 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        learned = downsample or in_channels != out_channels
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer) if learned else None

    def __call__(self, x: Array, *, train: bool, key: Array | None = None) -> Array:
        """x [n, h, w, in]; key of the dropout after each ReLU."""
        keys = keys_of_layers(key, 2)
        active = jax.nn.relu(self.norm1(x, train=train))
        h = self.conv1(dropout(active, self.dropout, keys[0]), train=train)
        h = dropout(jax.nn.relu(self.norm2(h, train=train)), self.dropout, keys[1])
        # torch-mimicry's ReLU works in place on x, so its shortcut sees ReLU(x).
        shortcut = active if self.shortcut_input == "activated" else x
        if self.downsample:
            return self.conv2.mean_pooled(h, train=train) + self._shortcut(mean_pool(shortcut), train)
        return self.conv2(h, train=train) + self._shortcut(shortcut, train)

    def _shortcut(self, x: Array, train: bool) -> Array:
        return x if self.shortcut is None else self.shortcut(x, train=train)


class FirstDiscriminatorBlock(nnx.Module):
    """3x3, ReLU, 3x3, mean of 2x2; plus mean of 2x2, 1x1: images [n, h, w, channels] -> [n, h/2, w/2, out]."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: Norm = no_norm, dropout: float = 0.0, **layer: Any
    ):
        self.dropout = dropout
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.norm2 = norm(out_channels)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer)

    def __call__(self, x: Array, *, train: bool, key: Array | None = None) -> Array:
        """x [n, h, w, in], images, so no ReLU comes before conv1; key of the dropout after the one ReLU."""
        h = jax.nn.relu(self.norm2(self.conv1(x, train=train), train=train))
        h = self.conv2.mean_pooled(dropout(h, self.dropout, key), train=train)
        return h + self.shortcut(mean_pool(x), train=train)
