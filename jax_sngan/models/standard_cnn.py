"""The standard CNN (Miyato et al. 2018, Table 3) at 28, 32, 48, 64 and 128 pixels.

The paper's table is for 32 and 48: three halvings down to size/8. 28 pixels have two (28 = 4 x 7), where the widest
stage is left out, and 128 four. Channels double from `width` at full resolution.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from jax_sngan.config.architectures import CNN_HALVINGS
from jax_sngan.config.schema import ModelConfig
from jax_sngan.models.architecture import FlatMaps, FromMap, Graph, LayerPath, Walk
from jax_sngan.models.options import in_full, layer_options, normalization
from jax_sngan.nn.activations import OUTPUTS, leaky_relu
from jax_sngan.nn.dropout import dropout, keys_of_layers
from jax_sngan.nn.layers import Conv, ConvTranspose, Embedding, Linear, normal
from jax_sngan.nn.normalization import NoNorm

_INIT = normal(0.02)  # the paper does not say; DCGAN's (Radford et al. 2016)


class Generator(FromMap, nnx.Module):
    """Latents [n, latent_size] -> images [n, size, size, channels] in (-1, 1)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        depth = CNN_HALVINGS[config.image_size]
        widths = [config.generator_width << i for i in range(depth, -1, -1)]
        base = config.image_size >> depth
        layer = dict(init=_INIT, **layer_options(config, "generator", rngs))
        self.output, self.dropout = config.output, config.generator_dropout
        self.map = (base, base, widths[0])
        self.project = Linear(config.latent_size, base**2 * widths[0], **layer)
        self.deconvs = nnx.List([ConvTranspose(a, b, 4, stride=2, padding=1, **layer) for a, b in pairwise(widths)])
        self.norms = nnx.List([normalization(config, "generator", width, conditional=True) for width in widths[1:]])
        self.to_image = Conv(widths[-1], config.channels, 3, padding=1, **in_full(layer))

    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool, key: Array | None = None) -> Array:
        """latents [n, latent_size]; labels int [n], or None where unconditional; key of the dropout after each ReLU."""
        h = self.project(latents, train=train).reshape(-1, *self.map)
        keys = keys_of_layers(key, len(self.deconvs))
        for deconv, norm, own_key in zip(self.deconvs, self.norms, keys, strict=True):
            h = jax.nn.relu(norm(deconv(h, train=train), labels, train=train))
            h = dropout(h, self.dropout, own_key)
        return OUTPUTS[self.output](self.to_image(h, train=train))

    def onnx(self, graph: Graph, x: str, labels: str) -> str:
        """The forward pass in evaluation as a graph: the name of the images."""
        h, w, _ = self.map
        x = graph.to_map(graph.linear(self.project, x), *self.map)
        for deconv, norm in zip(self.deconvs, self.norms, strict=True):
            h, w = 2 * h, 2 * w
            x = graph.add("Relu", graph.norm(norm, graph.conv_transpose(deconv, x, (h, w)), labels))
        return graph.to_image(self.output, graph.conv(self.to_image, x, (h, w)))


class Discriminator(nnx.Module):
    """Images [n, size, size, channels] -> scores [n]; with classes the projection (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        depth = CNN_HALVINGS[config.image_size]
        widths = [config.discriminator_width << i for i in range(depth + 1)]
        layer = dict(init=_INIT, **layer_options(config, "discriminator", rngs))
        self.dropout, self.side = config.discriminator_dropout, config.image_size >> depth
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
        # The first layer has none, as in DCGAN: it would take brightness and contrast out of the images.
        norms = [normalization(config, "discriminator", conv.kernel.shape[-1]) for conv in convs[1:]]
        self.norms = nnx.List([NoNorm(), *norms])
        features = self.side**2 * widths[-1]
        self.score = Linear(features, 1, bias=config.score_bias, **in_full(layer))
        self.embed = Embedding(config.num_classes, features, **in_full(layer)) if config.num_classes else None

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool, key: Array | None = None) -> Array:
        """x [n, size, size, channels]; labels int [n], or None; key of the dropout after each leaky ReLU."""
        keys = keys_of_layers(key, len(self.convs))
        for conv, norm, own_key in zip(self.convs, self.norms, keys, strict=True):
            x = dropout(leaky_relu(norm(conv(x, train=train), train=train)), self.dropout, own_key)
        features = x.reshape(x.shape[0], -1)  # [n, h * w * c]
        scores = self.score(features, train=train)[:, 0]
        if self.embed is not None and labels is not None:
            scores = scores + jnp.sum(self.embed(labels, train=train) * features.astype(scores.dtype), axis=1)
        return scores

    @property
    def flat_maps(self) -> dict[LayerPath, FlatMaps]:
        """Of `score` and `embed`, which read a map."""
        of_last = FlatMaps(rest=(self.side, self.side))
        return {("score",): of_last, ("embed",): of_last}

    def slope(self, walk: Walk, conditional: bool) -> NDArray[np.float64]:
        """The factor [3] of the whole: the product of the layers'."""
        bound = np.ones(3)
        for i, (layer, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            bound = bound * walk.layer(f"convs.{i}", layer) * walk.norm(norm)
        return bound * walk.score(self.score, self.embed if conditional else None)
