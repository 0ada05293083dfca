"""The SN-GAN ResNet (Miyato et al. 2018, Tables 4 to 6) at 28, 32, 48, 64 and 128 pixels.

Widths and depths are those of the authors' code and of torch-mimicry: 32 pixels generator_width 256 and
discriminator_width 128; 48: 512 and 1024; 64 and 128: 1024 and 1024. 28 pixels: 32's without the generator's first
block, from a map of 7 x 7.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config.architectures import RESNET_PLANS
from jax_sngan.config.schema import ModelConfig
from torch_ref.models.options import block_options, in_full, layer_options, normalization
from torch_ref.nn.activations import OUTPUTS
from torch_ref.nn.blocks import DiscriminatorBlock, FirstDiscriminatorBlock, GeneratorBlock
from torch_ref.nn.dropout import keys_of_layers
from torch_ref.nn.layers import Conv, Embedding, Linear, glorot_uniform


class Generator(nn.Module):
    """Latents [n, latent_size] -> images [n, channels, size, size] in (-1, 1)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        plan = RESNET_PLANS[config.image_size]
        layer = dict(init=glorot_uniform(), **layer_options(config, "generator"))
        block = block_options(config, "generator")
        self.output = OUTPUTS[config.output]
        widths = [config.generator_width >> shift for shift in plan.generator]
        self.map = (widths[0], plan.base, plan.base)
        self.project = Linear(config.latent_size, plan.base**2 * widths[0], **layer)
        self.blocks = nn.ModuleList(
            [GeneratorBlock(a, b, upsampling=config.upsampling, **block) for a, b in pairwise(widths)]
        )
        self.norm = normalization(config, "generator", widths[-1])
        self.to_image = Conv(widths[-1], config.channels, 3, padding=1, **in_full(layer))

    def forward(self, latents: Tensor, labels: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """latents [n, latent_size]; labels int [n], or None where unconditional; key of the blocks' dropout."""
        h = self.project(latents).reshape(-1, *self.map)
        for block, own_key in zip(self.blocks, keys_of_layers(key, len(self.blocks)), strict=True):
            h = block(h, labels, own_key)
        h = F.relu(self.norm(h))
        return self.output(self.to_image(h))


class Discriminator(nn.Module):
    """Images [n, channels, size, size] -> scores [n]; with classes, plus the projection (Miyato & Koyama 2018)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        plan = RESNET_PLANS[config.image_size]
        widths = [config.discriminator_width >> shift for shift in plan.discriminator]
        layer = dict(init=glorot_uniform(), **layer_options(config, "discriminator"))
        block = block_options(config, "discriminator")
        self.blocks = nn.ModuleList(
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

    def forward(self, x: Tensor, labels: Tensor | None = None, key: Tensor | None = None) -> Tensor:
        """x [n, channels, size, size]; labels int [n], or None where unconditional; key of the blocks' dropout."""
        for block, own_key in zip(self.blocks, keys_of_layers(key, len(self.blocks)), strict=True):
            x = block(x, own_key)
        features = F.relu(x).sum((2, 3))  # [n, c]: a sum over the map, not a mean
        scores = self.score(features)[:, 0]
        if self.embed is not None:
            scores = scores + (self.embed(labels) * features.to(scores.dtype)).sum(1)
        return scores
