"""One call of a layer on equal inputs, as the searches for its kind of difference are given it."""

from dataclasses import dataclass

import numpy as np
import torch

from jax_sngan.interop.state_dicts import TorchLayer
from parity_kit.layers import NnxLayer

Array = np.ndarray


@dataclass
class Case:
    """One call of a layer. Maps are torch's, [n, c, …], on both sides."""

    torch: torch.nn.Module  # as it was before the pass
    arrays: TorchLayer  # its arrays before the pass
    nnx: NnxLayer
    x: Array  # what both are given
    expected: Array  # what torch makes of it
    found: Array  # what nnx makes of it
    train: bool

    @property
    def weight(self) -> Array:
        """The kernel before any norm."""
        return np.asarray(self.arrays.arrays["weight"], np.float64)

    @property
    def bias(self) -> Array:
        """The bias, or zeros."""
        axis = self.nnx.out_axis
        return np.asarray(self.arrays.arrays.get("bias", np.zeros(self.weight.shape[axis])), np.float64)
