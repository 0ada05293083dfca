"""The standard CNN (Miyato et al. 2018, Table 3) at 28, 32, 48 and 64 pixels.

The paper's table is for 32 and 48: three halvings down to size/8. 28 pixels have two (28 = 4 x 7); there the widest
stage is left out. Channels double from `width` at full resolution.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config import ModelConfig
from torch_ref.nn.batch_norm import BatchNorm
from torch_ref.nn.layers import Conv, ConvTranspose, Embedding, Linear, normal

_INIT = normal(0.02)  # the paper does not say; DCGAN's (Radford et al. 2016)


def leaky_relu(x: Tensor) -> Tensor:
    """x, or 0.1 x where it is not positive; the slope at exactly 0 is 0.1."""
    return F.leaky_relu(x, 0.1)


def halvings(image_size: int) -> int:
    """How often the map is halved."""
    return 2 if image_size == 28 else 3


class Generator(nn.Module):
    """Latents [n, latent_size] -> images [n, channels, size, size] in (-1, 1)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        depth = halvings(config.image_size)
        widths = [config.generator_width << i for i in range(depth, -1, -1)]
        base = config.image_size >> depth
        dtype = getattr(torch, config.dtype)
        layer: dict[str, Any] = dict(init=_INIT, dtype=dtype)
        norm: dict[str, Any] = dict(
            eps=config.batch_norm_eps,
            momentum=config.batch_norm_momentum,
            num_classes=config.num_classes,
            dtype=dtype,
        )
        self.map = (widths[0], base, base)
        self.project = Linear(config.latent_size, base**2 * widths[0], **layer)
        self.deconvs = nn.ModuleList(
            [ConvTranspose(a, b, 4, stride=2, padding=1, **layer) for a, b in pairwise(widths)]
        )
        self.norms = nn.ModuleList([BatchNorm(width, **norm) for width in widths[1:]])
        self.to_image = Conv(widths[-1], config.channels, 3, padding=1, **layer)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """latents [n, latent_size]; labels int [n], or None where unconditional."""
        h = self.project(latents).reshape(-1, *self.map)
        for deconv, norm in zip(self.deconvs, self.norms, strict=True):
            h = F.relu(norm(deconv(h), labels))
        return torch.tanh(self.to_image(h))


class Discriminator(nn.Module):
    """Images [n, channels, size, size] -> scores [n]; with classes, plus the projection (Miyato & Koyama 2018)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        depth = halvings(config.image_size)
        widths = [config.discriminator_width << i for i in range(depth + 1)]
        layer: dict[str, Any] = dict(spectral_norm=config.spectral_norm, init=_INIT, dtype=getattr(torch, config.dtype))
        convs = []
        channels = config.channels
        for width in widths[:-1]:
            convs += [
                Conv(channels, width, 3, padding=1, **layer),
                Conv(width, width, 4, stride=2, padding=1, **layer),
            ]
            channels = width
        convs.append(Conv(channels, widths[-1], 3, padding=1, **layer))
        self.convs = nn.ModuleList(convs)
        features = (config.image_size >> depth) ** 2 * widths[-1]
        self.score = Linear(features, 1, bias=config.score_bias, **layer)
        self.embed = Embedding(config.num_classes, features, **layer) if config.num_classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x [n, channels, size, size]; labels int [n], or None where unconditional."""
        for conv in self.convs:
            x = leaky_relu(conv(x))
        features = x.flatten(1)  # [n, c * h * w]
        scores = self.score(features)[:, 0]
        if self.embed is not None:
            scores = scores + (self.embed(labels) * features).sum(1)
        return scores
