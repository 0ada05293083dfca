"""Fully connected networks: for points of the plane (an image of one pixel with two channels) and small images.

The generator's hidden layers have ReLU, the discriminator's leaky ReLU 0.1.
"""

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config.schema import ModelConfig
from torch_ref.models.options import in_full, layer_options, normalization
from torch_ref.nn.activations import OUTPUTS, leaky_relu
from torch_ref.nn.dropout import dropout, keys_of_layers
from torch_ref.nn.layers import Linear, glorot_uniform
from torch_ref.nn.normalization import NoNorm

_HIDDEN = glorot_uniform(math.sqrt(2.0))


class Generator(nn.Module):
    """Latents [n, latent_size] -> images [n, channels, size, size]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        layer = layer_options(config, "generator")
        widths = [config.latent_size, *[config.generator_width] * config.depth]
        self.output, self.dropout = OUTPUTS[config.output], config.generator_dropout
        self.image = (config.channels, config.image_size, config.image_size)
        self.hidden = nn.ModuleList([Linear(a, b, init=_HIDDEN, **layer) for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([normalization(config, "generator", width) for width in widths[1:]])
        self.to_image = Linear(widths[-1], math.prod(self.image), init=glorot_uniform(), **in_full(layer))

    def forward(self, latents: Tensor, labels: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """latents [n, latent_size]; labels None; key of the dropout after each ReLU."""
        h = latents
        keys = keys_of_layers(key, len(self.hidden))
        for linear, norm, own_key in zip(self.hidden, self.norms, keys, strict=True):
            h = dropout(F.relu(norm(linear(h))), self.dropout, own_key)
        return self.output(self.to_image(h)).reshape(-1, *self.image)


class Discriminator(nn.Module):
    """Images [n, channels, size, size] -> scores [n]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        layer = layer_options(config, "discriminator")
        widths = [config.image_size**2 * config.channels, *[config.discriminator_width] * config.depth]
        self.dropout = config.discriminator_dropout
        self.hidden = nn.ModuleList([Linear(a, b, init=_HIDDEN, **layer) for a, b in pairwise(widths)])
        norms = [normalization(config, "discriminator", width) for width in widths[2:]]
        self.norms = nn.ModuleList([NoNorm(), *norms])  # none in the first layer, as in the standard CNN
        self.score = Linear(widths[-1], 1, bias=config.score_bias, init=glorot_uniform(), **in_full(layer))

    def forward(self, x: Tensor, labels: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """x [n, channels, size, size]; labels None; key of the dropout after each leaky ReLU."""
        h = x.flatten(1)
        keys = keys_of_layers(key, len(self.hidden))
        for linear, norm, own_key in zip(self.hidden, self.norms, keys, strict=True):
            h = dropout(leaky_relu(norm(linear(h))), self.dropout, own_key)
        return self.score(h)[:, 0]
