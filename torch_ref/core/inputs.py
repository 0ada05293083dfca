"""What one training step consumes, as tensors. Drawn elsewhere, so that both frameworks can be given the same."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """One training step's inputs; labels are None where the networks are unconditional."""

    real_images: Tensor  # uint8 [n_dis, batch, c, h, w]; floats are taken as the networks' already
    d_latents: Tensor  # [n_dis, batch, latent_size], N(0, 1)
    g_latents: Tensor  # [generator_batch, latent_size], N(0, 1)
    real_labels: Tensor | None = None  # int [n_dis, batch]
    d_labels: Tensor | None = None  # int [n_dis, batch]
    g_labels: Tensor | None = None  # int [generator_batch]
    # Of what else an update draws (nn/rng.py); None where it draws nothing.
    d_keys: Tensor | None = None  # int64 [n_dis, 2], each number of 32 bits
    g_key: Tensor | None = None  # int64 [2]


def from_numpy(arrays: dict[str, Any], device: torch.device | None = None) -> Inputs:
    """Inputs from numpy arrays by field, as jax_sngan.interop.torch_layout.inputs_to_torch lays them out.

    device: where they are put; torch's default where none is given.
    """
    device = device or torch.get_default_device()
    given = {name: a for name, a in arrays.items() if a is not None}
    # torch computes with signed integers alone.
    whole = {name: a.astype("int64") if a.dtype == "uint32" else a.copy() for name, a in given.items()}
    return Inputs(**{name: torch.from_numpy(a).to(device) for name, a in whole.items()})
