"""Which normalisation a network's config asks for, all called alike."""

from typing import Any

import torch
from torch import Tensor, nn

from jax_sngan.config.schema import ModelConfig
from torch_ref.nn.batch_norm import BatchNorm
from torch_ref.nn.layer_norm import LayerNorm


class NoNorm(nn.Module):
    """x as it is."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x."""
        return x


def normalization(config: ModelConfig, network: str, features: int, *, conditional: bool = False) -> Any:
    """A network's normalisation of [n, features, ...]; conditional: by class where the config has classes."""
    kind, dtype = getattr(config, f"{network}_norm"), getattr(torch, config.dtype)
    if kind == "none":
        return NoNorm()
    if kind == "layer":
        return LayerNorm(features, dtype=dtype)
    return BatchNorm(
        features,
        eps=config.batch_norm_eps,
        momentum=config.batch_norm_momentum,
        num_classes=config.num_classes if conditional else 0,
        dtype=dtype,
    )
