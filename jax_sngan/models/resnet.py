"""The SN-GAN ResNet (Miyato et al. 2018, Tables 4 to 6) at 28, 32, 48, 64 and 128 pixels.

Widths and depths are those of the authors' code and of torch-mimicry: 32 pixels generator_width 256 and
discriminator_width 128; 48: 512 and 1024; 64 and 128: 1024 and 1024. 28 pixels: 32's without the generator's first
block, from a map of 7 x 7.
"""

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_sngan.config.schema import ModelConfig
from jax_sngan.models.options import block_options, in_full, layer_options, normalization
from jax_sngan.nn.activations import OUTPUTS
from jax_sngan.nn.blocks import DiscriminatorBlock, FirstDiscriminatorBlock, GeneratorBlock
from jax_sngan.nn.dropout import keys_of_layers
from jax_sngan.nn.layers import Conv, Embedding, Linear, glorot_uniform


class Plan(NamedTuple):
    """One resolution: channels are the width divided by 2 to the power of an entry."""

    base: int  # pixels a side of the generator's first map
    generator: tuple[int, ...]  # the first map, then each block's result
    discriminator: tuple[int, ...]  # each block's result
    downsampling: int  # how many of D's blocks, from the first, halve the map


PLANS = {
    28: Plan(7, (0, 0, 0), (0, 0, 0, 0), 2),
    32: Plan(4, (0, 0, 0, 0), (0, 0, 0, 0), 2),
    48: Plan(6, (0, 1, 2, 3), (4, 3, 2, 1, 0), 4),
    64: Plan(4, (0, 1, 2, 3, 4), (4, 3, 2, 1, 0), 5),
    128: Plan(4, (0, 0, 1, 2, 3, 4), (4, 3, 2, 1, 0, 0), 5),
}


class Generator(nnx.Module):
    """Latents [n, latent_size] -> images [n, size, size, channels] in (-1, 1)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        plan = PLANS[config.image_size]
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


class Discriminator(nnx.Module):
    """Images [n, size, size, channels] -> scores [n]; with classes the projection (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        plan = PLANS[config.image_size]
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
