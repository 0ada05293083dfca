"""Which device the reference computes on in these tests (`--torch-device`), and what brings numbers there."""

import numpy as np
import torch
from torch import Tensor

from parity_tests import emulated_gpu
from torch_ref.system import machine

CHOICES = "cpu, cuda, cuda:N, auto, or emulated (a GPU that is not there: finds what mixes two devices)"


def use(name: str, precision: str = "highest") -> None:
    """Every tensor that torch makes from here on is made there; precision: of products of float32.

    Raises:
      UserError: there is no such device.
    """
    device = emulated_gpu.start() if name == emulated_gpu.NAME else machine.device(name)
    machine.set_precision(precision, device)
    if device.type != "cpu":
        torch.set_default_device(device)


def tensor(array: np.ndarray) -> Tensor:
    """A numpy array on that device; on the CPU the array's own memory."""
    return torch.from_numpy(array).to(torch.get_default_device())
