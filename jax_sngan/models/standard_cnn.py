"""The standard CNN (Miyato et al. 2018, Table 3) at 28, 32, 48 and 64 pixels.

The paper's table is for 32 and 48: three halvings down to size/8. 28 pixels have two (28 = 4 x 7); there the widest
stage is left out. Channels double from `width` at full resolution.
"""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_sngan.config import ModelConfig
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.layers import Conv, ConvTranspose, Embedding, Linear, normal

_INIT = normal(0.02)  # the paper does not say; DCGAN's (Radford et al. 2016)


def leaky_relu(x: Array) -> Array:
    """x, or 0.1 x where it is not positive; the slope at exactly 0 is 0.1, as torch has it (jax.nn's is 1)."""
    return jnp.where(x > 0, x, 0.1 * x)


def halvings(image_size: int) -> int:
    """How often the map is halved."""
    return 2 if image_size == 28 else 3


class Generator(nnx.Module):
    """Latents [n, latent_size] -> images [n, size, size, channels] in (-1, 1)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        depth = halvings(config.image_size)
        widths = [config.generator_width << i for i in range(depth, -1, -1)]
        base = config.image_size >> depth
        dtype = jnp.dtype(config.dtype)
        layer: dict[str, Any] = dict(init=_INIT, dtype=dtype, rngs=rngs)
        norm: dict[str, Any] = dict(
            eps=config.batch_norm_eps,
            momentum=config.batch_norm_momentum,
            num_classes=config.num_classes,
            dtype=dtype,
        )
        self.map = (base, base, widths[0])
        self.project = Linear(config.latent_size, base**2 * widths[0], **layer)
        self.deconvs = nnx.List([ConvTranspose(a, b, 4, stride=2, padding=1, **layer) for a, b in pairwise(widths)])
        self.norms = nnx.List([BatchNorm(width, **norm) for width in widths[1:]])
        self.to_image = Conv(widths[-1], config.channels, 3, padding=1, **layer)

    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool) -> Array:
        """latents [n, latent_size]; labels int [n], or None where unconditional."""
        h = self.project(latents, train=train).reshape(-1, *self.map)
        for deconv, norm in zip(self.deconvs, self.norms, strict=True):
            h = jax.nn.relu(norm(deconv(h, train=train), labels, train=train))
        return jnp.tanh(self.to_image(h, train=train))


class Discriminator(nnx.Module):
    """Images [n, size, size, channels] -> scores [n]; with classes the projection (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        depth = halvings(config.image_size)
        widths = [config.discriminator_width << i for i in range(depth + 1)]
        layer: dict[str, Any] = dict(
            spectral_norm=config.spectral_norm, init=_INIT, dtype=jnp.dtype(config.dtype), rngs=rngs
        )
        convs = []
        channels = config.channels
        for width in widths[:-1]:
            convs += [
                Conv(channels, width, 3, padding=1, **layer),
                Conv(width, width, 4, stride=2, padding=1, **layer),
            ]
            channels = width
        convs.append(Conv(channels, widths[-1], 3, padding=1, **layer))
        self.convs = nnx.List(convs)
        features = (config.image_size >> depth) ** 2 * widths[-1]
        self.score = Linear(features, 1, bias=config.score_bias, **layer)
        self.embed = Embedding(config.num_classes, features, **layer) if config.num_classes else None

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool) -> Array:
        """x [n, size, size, channels]; labels int [n], or None where unconditional."""
        for conv in self.convs:
            x = leaky_relu(conv(x, train=train))
        features = x.reshape(x.shape[0], -1)  # [n, h * w * c]
        scores = self.score(features, train=train)[:, 0]
        if self.embed is not None and labels is not None:
            scores = scores + jnp.sum(self.embed(labels, train=train) * features, axis=1)
        return scores
