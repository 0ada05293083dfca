"""The SN-GAN ResNet (Miyato et al. 2018, Tables 4 to 6) at 28, 32, 48, 64 and 128 pixels.

Widths and depths are those of the authors' code and of torch-mimicry: 32 pixels generator_width 256 and
discriminator_width 128; 48: 512 and 1024; 64 and 128: 1024 and 1024. 28 pixels: 32's without the generator's first
block, from a map of 7 x 7.
"""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from jax_sngan.config.architectures import RESNET_PLANS
from jax_sngan.config.schema import ModelConfig
from jax_sngan.models.architecture import FlatMaps, FromMap, Graph, LayerPath, Walk
from jax_sngan.models.options import block_options, in_full, layer_options, normalization
from jax_sngan.nn.activations import OUTPUTS
from jax_sngan.nn.blocks import DiscriminatorBlock, FirstDiscriminatorBlock, GeneratorBlock
from jax_sngan.nn.dropout import keys_of_layers
from jax_sngan.nn.layers import Conv, Embedding, Linear, glorot_uniform


class Generator(FromMap, nnx.Module):
    """Latents [n, latent_size] -> images [n, size, size, channels] in (-1, 1)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        plan = RESNET_PLANS[config.image_size]
        layer = dict(init=glorot_uniform(), **layer_options(config, "generator", rngs))
        block = block_options(config, "generator", rngs)
        self.output = config.output
        widths = [config.generator_width >> shift for shift in plan.generator]
        self.map = (plan.base, plan.base, widths[0])
        self.project = Linear(config.latent_size, plan.base**2 * widths[0], **layer)
        self.blocks = nnx.List(
            [GeneratorBlock(a, b, upsampling=config.upsampling, **block) for a, b in pairwise(widths)]
        )
        self.norm = normalization(config, "generator", widths[-1])
        self.to_image = Conv(widths[-1], config.channels, 3, padding=1, **in_full(layer))

    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool, key: Array | None = None) -> Array:
        """latents [n, latent_size]; labels int [n], or None where unconditional; key of the blocks' dropout."""
        h = self.project(latents, train=train).reshape(-1, *self.map)
        for block, own_key in zip(self.blocks, keys_of_layers(key, len(self.blocks)), strict=True):
            h = block(h, labels, train=train, key=own_key)
        h = jax.nn.relu(self.norm(h, train=train))
        return OUTPUTS[self.output](self.to_image(h, train=train))

    def onnx(self, graph: Graph, x: str, labels: str) -> str:
        """The forward pass in evaluation as a graph: the name of the images."""
        h, w, _ = self.map
        x = graph.to_map(graph.linear(self.project, x), *self.map)
        for block in self.blocks:
            h, w = 2 * h, 2 * w
            x = _block_onnx(graph, block, x, labels, (h, w))
        x = graph.add("Relu", graph.norm(self.norm, x))
        return graph.to_image(self.output, graph.conv(self.to_image, x, (h, w)))


class Discriminator(nnx.Module):
    """Images [n, size, size, channels] -> scores [n]; with classes the projection (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        plan = RESNET_PLANS[config.image_size]
        widths = [config.discriminator_width >> shift for shift in plan.discriminator]
        layer = dict(init=glorot_uniform(), **layer_options(config, "discriminator", rngs))
        block = block_options(config, "discriminator", rngs)
        self.blocks = nnx.List(
            [
                FirstDiscriminatorBlock(config.channels, widths[0], **block),
                *(
                    DiscriminatorBlock(
                        widths[i - 1], widths[i], i < plan.downsampling, shortcut_input=config.shortcut_input, **block
                    )
                    for i in range(1, len(widths))
                ),
            ]
        )
        self.score = Linear(widths[-1], 1, bias=config.score_bias, **in_full(layer))
        self.embed = Embedding(config.num_classes, widths[-1], **in_full(layer)) if config.num_classes else None

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool, key: Array | None = None) -> Array:
        """x [n, size, size, channels]; labels int [n], or None where unconditional; key of the blocks' dropout."""
        for block, own_key in zip(self.blocks, keys_of_layers(key, len(self.blocks)), strict=True):
            x = block(x, train=train, key=own_key)
        features = jnp.sum(jax.nn.relu(x), (1, 2))  # [n, c]: a sum over the map, not a mean
        scores = self.score(features, train=train)[:, 0]
        if self.embed is not None and labels is not None:
            scores = scores + jnp.sum(self.embed(labels, train=train) * features.astype(scores.dtype), axis=1)
        return scores

    @property
    def flat_maps(self) -> dict[LayerPath, FlatMaps]:
        """None: what `score` and `embed` read is summed over the map."""
        return {}

    def slope(self, walk: Walk, conditional: bool) -> NDArray[np.float64]:
        """The factor [3] of the whole: the product of the blocks', each a sum of its two branches'."""
        bound = np.ones(3)
        for i, block in enumerate(self.blocks):
            bound = bound * _block_slope(walk, f"blocks.{i}", block)
        pixels = walk.size[0] * walk.size[1]  # a sum of p pixels: at most sqrt(p) times their norm
        return bound * np.sqrt(pixels) * walk.score(self.score, self.embed if conditional else None)


def _block_onnx(graph: Graph, block: GeneratorBlock, x: str, labels: str, size: tuple[int, int]) -> str:
    h = graph.add("Relu", graph.norm(block.norm1, x, labels))
    h = graph.conv(block.conv1, graph.upsample(block.upsampling, h), size)
    h = graph.add("Relu", graph.norm(block.norm2, h, labels))
    shortcut = graph.conv(block.shortcut, graph.upsample(block.upsampling, x), size)
    return graph.add("Add", graph.conv(block.conv2, h, size), shortcut)


def _block_slope(walk: Walk, name: str, block: Any) -> NDArray[np.float64]:
    size = walk.size
    first = isinstance(block, FirstDiscriminatorBlock)
    before = np.ones(3) if first else walk.norm(block.norm1)
    main = before * walk.layer(f"{name}.conv1", block.conv1) * walk.norm(block.norm2)
    main = main * walk.layer(f"{name}.conv2", block.conv2)
    halves = first or block.downsample
    walk.size = (size[0] // 2, size[1] // 2) if first else size
    shortcut = np.ones(3) if block.shortcut is None else walk.layer(f"{name}.shortcut", block.shortcut)
    if not first and block.shortcut_input == "activated":
        shortcut = before * shortcut
    walk.size = (size[0] // 2, size[1] // 2) if halves else size
    return (main + shortcut) * (0.5 if halves else 1.0)  # the mean of 2x2 has norm 1/2
