"""The standard CNN (Miyato et al. 2018, Table 3) at 28, 32, 48, 64 and 128 pixels.

The paper's table is for 32 and 48: three halvings down to size/8. 28 pixels have two (28 = 4 x 7), where the widest
stage is left out, and 128 four. Channels double from `width` at full resolution.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config.architectures import CNN_HALVINGS
from jax_sngan.config.schema import ModelConfig
from torch_ref.models.options import in_full, layer_options, normalization
from torch_ref.nn.activations import OUTPUTS, leaky_relu
from torch_ref.nn.dropout import dropout, keys_of_layers
from torch_ref.nn.layers import Conv, ConvTranspose, Embedding, Linear, normal
from torch_ref.nn.normalization import NoNorm

_INIT = normal(0.02)  # the paper does not say; DCGAN's (Radford et al. 2016)


class Generator(nn.Module):
    """Latents [n, latent_size] -> images [n, channels, size, size] in (-1, 1)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        depth = CNN_HALVINGS[config.image_size]
        widths = [config.generator_width << i for i in range(depth, -1, -1)]
        base = config.image_size >> depth
        layer = dict(init=_INIT, **layer_options(config, "generator"))
        self.output, self.dropout = OUTPUTS[config.output], config.generator_dropout
        self.map = (widths[0], base, base)
        self.project = Linear(config.latent_size, base**2 * widths[0], **layer)
        self.deconvs = nn.ModuleList(
            [ConvTranspose(a, b, 4, stride=2, padding=1, **layer) for a, b in pairwise(widths)]
        )
        self.norms = nn.ModuleList(
            [normalization(config, "generator", width, conditional=True) for width in widths[1:]]
        )
        self.to_image = Conv(widths[-1], config.channels, 3, padding=1, **in_full(layer))

    def forward(self, latents: Tensor, labels: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """latents [n, latent_size]; labels int [n], or None where unconditional; key of the dropout after each ReLU."""
        h = self.project(latents).reshape(-1, *self.map)
        keys = keys_of_layers(key, len(self.deconvs))
        for deconv, norm, own_key in zip(self.deconvs, self.norms, keys, strict=True):
            h = dropout(F.relu(norm(deconv(h), labels)), self.dropout, own_key)
        return self.output(self.to_image(h))


class Discriminator(nn.Module):
    """Images [n, channels, size, size] -> scores [n]; with classes, plus the projection (Miyato & Koyama 2018)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        depth = CNN_HALVINGS[config.image_size]
        widths = [config.discriminator_width << i for i in range(depth + 1)]
        layer = dict(init=_INIT, **layer_options(config, "discriminator"))
        self.dropout = config.discriminator_dropout
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
        # The first layer has none, as in DCGAN: it would take brightness and contrast out of the images.
        norms = [normalization(config, "discriminator", conv.out_channels) for conv in convs[1:]]
        self.norms = nn.ModuleList([NoNorm(), *norms])
        features = (config.image_size >> depth) ** 2 * widths[-1]
        self.score = Linear(features, 1, bias=config.score_bias, **in_full(layer))
        self.embed = Embedding(config.num_classes, features, **in_full(layer)) if config.num_classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """x [n, channels, size, size]; labels int [n], or None; key of the dropout after each leaky ReLU."""
        keys = keys_of_layers(key, len(self.convs))
        for conv, norm, own_key in zip(self.convs, self.norms, keys, strict=True):
            x = dropout(leaky_relu(norm(conv(x))), self.dropout, own_key)
        features = x.flatten(1)  # [n, c * h * w]
        scores = self.score(features)[:, 0]
        if self.embed is not None:
            scores = scores + (self.embed(labels) * features.to(scores.dtype)).sum(1)
        return scores
