"""Normalisations by name, all called alike."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from torch_ref.nn.batch_norm import BatchNorm
from torch_ref.nn.layer_norm import LayerNorm


class NoNorm(nn.Module):
    """x as it is."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x."""
        return x


def normalization(
    kind: Literal["batch", "layer", "none"],
    features: int,
    *,
    eps: float = 1e-5,
    momentum: float = 0.1,
    num_classes: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A normalisation of [n, features, ...] by its name; eps, momentum and num_classes are BatchNorm's."""
    if kind == "none":
        return NoNorm()
    if kind == "layer":
        return LayerNorm(features, dtype=dtype)
    if kind != "batch":
        raise ValueError(f"kind must be batch, layer or none, got {kind!r}")
    return BatchNorm(features, eps=eps, momentum=momentum, num_classes=num_classes, dtype=dtype)
