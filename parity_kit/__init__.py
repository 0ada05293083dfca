"""The ladder as a library: does a JAX model compute what its PyTorch original computes, and if not, where do they part?

The one package here that imports both frameworks; the extra `parity` brings torch.
"""

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "parity_kit needs PyTorch, which the extra `parity` brings: pip install 'jax-sngan[parity]'", name="torch"
    ) from None

from parity_kit.climb import Climb, climb
from parity_kit.compare import assert_equal, compare
from parity_kit.gans import TorchGAN
from parity_kit.loading import Loaded, load_state_dict
from parity_kit.replaying import replay
from parity_kit.report import Difference, Report

__all__ = [
    "Climb", "Difference", "Loaded", "Report", "TorchGAN",
    "assert_equal", "climb", "compare", "load_state_dict", "replay",
]  # fmt: skip
