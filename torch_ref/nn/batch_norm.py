"""Batch normalisation, plain and class-conditional: PyTorch's own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """[n, features, h, w] -> the same, normalised over all axes but the second, then scaled and shifted.

    With num_classes > 0 scale and shift are those of each image's class, [num_classes, features] (Dumoulin 2017).
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        num_classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(features, eps, momentum, dtype=dtype)
        # A count of passes, which a fixed momentum does not read and the JAX framework does not have.
        self.num_batches_tracked = None
        if num_classes:
            self.weight = nn.Parameter(torch.ones(num_classes, features, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(num_classes, features, dtype=dtype))

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        """input [n, features, h, w], labels int [n] where conditional."""
        given, input = input.dtype, input.to(self.weight.dtype)  # statistics are not for bfloat16
        if labels is None:
            return super().forward(input).to(given)
        normalised = F.batch_norm(
            input, self.running_mean, self.running_var, None, None, self.training, self.momentum or 0.0, self.eps
        )
        return (normalised * self.weight[labels, :, None, None] + self.bias[labels, :, None, None]).to(given)

    def _check_input_dim(self, input: Tensor) -> None:
        """Maps, and the mlp's features [n, features]."""

    def _load_from_state_dict(self, *args: Any) -> None:
        # BatchNorm2d's own would ask for num_batches_tracked in a state dict that has lost its version number.
        nn.Module._load_from_state_dict(self, *args)


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """([features] mean, [features] biased variance) of x [n, features, h, w] over all axes but the second."""
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, variance
