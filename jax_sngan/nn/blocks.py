"""Residual blocks of the SN-GAN ResNet (Miyato et al. 2018, Figure 8), as the authors and torch-mimicry build them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_sngan.config import ModelConfig
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.layers import Conv, glorot_uniform
from jax_sngan.nn.resample import UPSAMPLINGS, mean_pool

_MAIN = glorot_uniform(math.sqrt(2.0))
_SHORTCUT = glorot_uniform()


class GeneratorBlock(nnx.Module):
    """BatchNorm, ReLU, up-sample, 3x3, BatchNorm, ReLU, 3x3; plus up-sample, 1x1: [n, h, w, in] -> [n, 2h, 2w, out]."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        norm: dict[str, Any] = dict(
            eps=config.batch_norm_eps,
            momentum=config.batch_norm_momentum,
            num_classes=config.num_classes,
            dtype=dtype,
        )
        self.upsampling = config.upsampling
        self.norm1 = BatchNorm(in_channels, **norm)
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(out_channels, **norm)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, dtype=dtype, rngs=rngs)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, labels: Array | None, *, train: bool) -> Array:
        """x [n, h, w, in]; labels int [n], or None where unconditional."""
        upsample = UPSAMPLINGS[self.upsampling]
        h = jax.nn.relu(self.norm1(x, labels, train=train))
        h = self.conv1(upsample(h), train=train)
        h = jax.nn.relu(self.norm2(h, labels, train=train))
        return self.conv2(h, train=train) + self.shortcut(upsample(x), train=train)


class DiscriminatorBlock(nnx.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus 1x1, mean of 2x2: [n, h, w, in] -> [n, h/2, w/2, out].

    Without `downsample` the means are left out, and with in = out the 1x1 too.
    """

    def __init__(self, in_channels: int, out_channels: int, downsample: bool, config: ModelConfig, rngs: nnx.Rngs):
        layer: dict[str, Any] = dict(spectral_norm=config.spectral_norm, dtype=jnp.dtype(config.dtype), rngs=rngs)
        self.downsample = downsample
        self.shortcut_input = config.shortcut_input
        self.conv1 = Conv(in_channels, in_channels, 3, padding=1, init=_MAIN, **layer)
        self.conv2 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        learned = downsample or in_channels != out_channels
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer) if learned else None

    def __call__(self, x: Array, *, train: bool) -> Array:
        """x [n, h, w, in]."""
        active = jax.nn.relu(x)
        h = self.conv2(jax.nn.relu(self.conv1(active, train=train)), train=train)
        # torch-mimicry's ReLU works in place on x, so its shortcut sees ReLU(x).
        shortcut = active if self.shortcut_input == "activated" else x
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut, train=train)
        return mean_pool(h) + mean_pool(shortcut) if self.downsample else h + shortcut


class FirstDiscriminatorBlock(nnx.Module):
    """3x3, ReLU, 3x3, mean of 2x2; plus mean of 2x2, 1x1: images [n, h, w, channels] -> [n, h/2, w/2, out]."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig, rngs: nnx.Rngs):
        layer: dict[str, Any] = dict(spectral_norm=config.spectral_norm, dtype=jnp.dtype(config.dtype), rngs=rngs)
        self.conv1 = Conv(in_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, init=_MAIN, **layer)
        self.shortcut = Conv(in_channels, out_channels, 1, init=_SHORTCUT, **layer)

    def __call__(self, x: Array, *, train: bool) -> Array:
        """x [n, h, w, in], images: no ReLU comes before the first convolution."""
        h = self.conv2(jax.nn.relu(self.conv1(x, train=train)), train=train)
        return mean_pool(h) + self.shortcut(mean_pool(x), train=train)
