"""Layer normalisation of each image by itself, as WGAN-GP's discriminator has it (Gulrajani et al. 2017, section 4)."""

import torch
from torch import Tensor, nn

EPS = 1e-5


class LayerNorm(nn.GroupNorm):
    """[n, features, ...] -> the same, normalised over all axes but the first, then scaled and shifted by feature."""

    def __init__(self, features: int, *, dtype: torch.dtype = torch.float32):
        super().__init__(1, features, EPS, dtype=dtype)

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        """input [n, features, ...]; all classes are the same."""
        return super().forward(input.to(self.weight.dtype)).to(input.dtype)
