"""build(ModelConfig) -> Networks: generator and discriminator as torch modules."""

from typing import NamedTuple

from torch import nn

from jax_sngan.config.schema import ModelConfig
from torch_ref.models import mlp, resnet, standard_cnn

ARCHITECTURES = {"standard_cnn": standard_cnn, "resnet": resnet, "mlp": mlp}


class Networks(NamedTuple):
    """The pair."""

    generator: nn.Module
    discriminator: nn.Module


def build(config: ModelConfig) -> Networks:
    """Fresh networks in training mode, drawn from torch's global generator."""
    module = ARCHITECTURES[config.architecture]
    return Networks(module.Generator(config), module.Discriminator(config))
