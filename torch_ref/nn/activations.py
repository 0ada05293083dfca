"""Activations that the networks share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def leaky_relu(x: Tensor) -> Tensor:
    """x, or 0.1 x where it is not positive; the slope at exactly 0 is 0.1."""
    return F.leaky_relu(x, 0.1)


def identity(x: Tensor) -> Tensor:
    """x."""
    return x


OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "identity": identity,
}  # what a generator's last layer goes through
