"""Fully connected networks: for points of the plane (an image of one pixel with two channels) and small images.

The generator's hidden layers have ReLU, the discriminator's leaky ReLU 0.1.
"""

import math
from itertools import pairwise

import jax
import numpy as np
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from jax_sngan.config.schema import ModelConfig
from jax_sngan.models.architecture import FlatMaps, Graph, LayerPath, Walk
from jax_sngan.models.options import in_full, layer_options, normalization
from jax_sngan.nn.activations import OUTPUTS, leaky_relu
from jax_sngan.nn.dropout import dropout, keys_of_layers
from jax_sngan.nn.layers import Linear, glorot_uniform
from jax_sngan.nn.normalization import NoNorm

_HIDDEN = glorot_uniform(math.sqrt(2.0))


class Generator(nnx.Module):
    """Latents [n, latent_size] -> images [n, size, size, channels]."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        layer = layer_options(config, "generator", rngs)
        widths = [config.latent_size, *[config.generator_width] * config.depth]
        self.output, self.dropout = config.output, config.generator_dropout
        self.image = (config.image_size, config.image_size, config.channels)
        self.hidden = nnx.List([Linear(a, b, init=_HIDDEN, **layer) for a, b in pairwise(widths)])
        self.norms = nnx.List([normalization(config, "generator", width) for width in widths[1:]])
        self.to_image = Linear(widths[-1], math.prod(self.image), init=glorot_uniform(), **in_full(layer))

    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool, key: Array | None = None) -> Array:
        """latents [n, latent_size]; labels None; key of the dropout after each ReLU."""
        del labels
        h = latents
        keys = keys_of_layers(key, len(self.hidden))
        for linear, norm, own_key in zip(self.hidden, self.norms, keys, strict=True):
            h = dropout(jax.nn.relu(norm(linear(h, train=train), train=train)), self.dropout, own_key)
        return OUTPUTS[self.output](self.to_image(h, train=train)).reshape(-1, *self.image)

    @property
    def first_layer(self) -> Linear:
        """What a latent meets first."""
        first: Linear = self.hidden[0]
        return first

    @property
    def flat_maps(self) -> dict[LayerPath, FlatMaps]:
        """Of the last layer, which makes whole images."""
        return {("to_image",): FlatMaps(out=self.image[:2])}

    def onnx(self, graph: Graph, x: str, labels: str) -> str:
        """The forward pass in evaluation as a graph: the name of the images."""
        del labels
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = graph.add("Relu", graph.norm(norm, graph.linear(linear, x)))
        x = graph.output(self.output, graph.linear(self.to_image, x))
        return graph.add("Reshape", x, graph.constant([-1, *self.image], np.int64))


class Discriminator(nnx.Module):
    """Images [n, size, size, channels] -> scores [n]."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        layer = layer_options(config, "discriminator", rngs)
        widths = [config.image_size**2 * config.channels, *[config.discriminator_width] * config.depth]
        self.dropout, self.side = config.discriminator_dropout, config.image_size
        self.hidden = nnx.List([Linear(a, b, init=_HIDDEN, **layer) for a, b in pairwise(widths)])
        norms = [normalization(config, "discriminator", width) for width in widths[2:]]
        self.norms = nnx.List([NoNorm(), *norms])  # none in the first layer, as in the standard CNN
        self.score = Linear(widths[-1], 1, bias=config.score_bias, init=glorot_uniform(), **in_full(layer))

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool, key: Array | None = None) -> Array:
        """x [n, size, size, channels]; labels None; key of the dropout after each leaky ReLU."""
        del labels
        h = x.reshape(len(x), -1)
        keys = keys_of_layers(key, len(self.hidden))
        for linear, norm, own_key in zip(self.hidden, self.norms, keys, strict=True):
            h = dropout(leaky_relu(norm(linear(h, train=train), train=train)), self.dropout, own_key)
        return self.score(h, train=train)[:, 0]

    @property
    def flat_maps(self) -> dict[LayerPath, FlatMaps]:
        """Of the first layer, which reads whole images."""
        return {("hidden", "0"): FlatMaps(rest=(self.side, self.side))}

    def slope(self, walk: Walk, conditional: bool) -> NDArray[np.float64]:
        """The factor [3] of the whole: the product of the layers'."""
        del conditional
        bound = np.ones(3)
        for i, (layer, norm) in enumerate(zip(self.hidden, self.norms, strict=True)):
            bound = bound * walk.layer(f"hidden.{i}", layer) * walk.norm(norm)
        return bound * walk.score(self.score, None)
