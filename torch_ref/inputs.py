"""What one training step consumes, as tensors. Drawn elsewhere, so that both wings can be given the same."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """One training step's inputs; labels are None where the networks are unconditional."""

    real_images: Tensor  # uint8 [n_dis, batch, c, h, w]; floats are taken as [-1, 1] already
    d_latents: Tensor  # [n_dis, batch, latent_size], N(0, 1)
    g_latents: Tensor  # [generator_batch, latent_size], N(0, 1)
    real_labels: Tensor | None = None  # int [n_dis, batch]
    d_labels: Tensor | None = None  # int [n_dis, batch]
    g_labels: Tensor | None = None  # int [generator_batch]


def from_numpy(arrays: dict[str, Any]) -> Inputs:
    """Inputs from numpy arrays by field, as jax_sngan.convert.inputs_to_torch lays them out."""
    return Inputs(**{name: torch.from_numpy(a.copy()) for name, a in arrays.items() if a is not None})
