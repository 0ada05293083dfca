"""SN-GAN (Miyato et al. 2018) in JAX, with a PyTorch reference that it is tested against.

Names are loaded when first used, so that torch_ref can read `jax_sngan.config.schema` without loading jax.
"""

from jax_sngan.system.starting import guard

guard()  # first of all: what follows takes its time to load

import importlib
from typing import TYPE_CHECKING, Any

from jax_sngan.accelerators.environment import quiet_compilers

if TYPE_CHECKING:  # what editors and type checkers see of the table below
    from jax_sngan import nn
    from jax_sngan.config.presets import names as presets
    from jax_sngan.config.presets import preset
    from jax_sngan.config.reference_programs import with_protocol
    from jax_sngan.config.schema import ModelConfig, OptimizerConfig, RunConfig, SpectralNormConfig, TrainConfig
    from jax_sngan.core.gan import GAN, gan
    from jax_sngan.core.inputs import Inputs, draw_inputs
    from jax_sngan.core.losses import Loss
    from jax_sngan.core.penalties import Penalty
    from jax_sngan.core.state import TrainState, create_state
    from jax_sngan.core.step import train_step
    from jax_sngan.data.datasets import Dataset, load_data
    from jax_sngan.models.network import build
    from jax_sngan.runs.pretrained import pretrained
    from jax_sngan.runs.run import Run, load
    from jax_sngan.system.errors import UserError
    from jax_sngan.training.interface import train

_HOME = {
    "Dataset": "data.datasets",
    "GAN": "core.gan",
    "Inputs": "core.inputs",
    "Loss": "core.losses",
    "ModelConfig": "config.schema",
    "OptimizerConfig": "config.schema",
    "Penalty": "core.penalties",
    "Run": "runs.run",
    "RunConfig": "config.schema",
    "SpectralNormConfig": "config.schema",
    "TrainConfig": "config.schema",
    "TrainState": "core.state",
    "UserError": "system.errors",
    "build": "models.network",
    "create_state": "core.state",
    "draw_inputs": "core.inputs",
    "gan": "core.gan",
    "load": "runs.run",
    "load_data": "data.datasets",
    "nn": "",
    "preset": "config.presets",
    "presets": "config.presets",
    "pretrained": "runs.pretrained",
    "train": "training.interface",
    "train_step": "core.step",
    "with_protocol": "config.reference_programs",
}
_RENAMED = {"presets": "names"}

__all__ = [
    "GAN",
    "Dataset",
    "Inputs",
    "Loss",
    "ModelConfig",
    "OptimizerConfig",
    "Penalty",
    "Run",
    "RunConfig",
    "SpectralNormConfig",
    "TrainConfig",
    "TrainState",
    "UserError",
    "build",
    "create_state",
    "draw_inputs",
    "gan",
    "load",
    "load_data",
    "nn",
    "preset",
    "presets",
    "pretrained",
    "train",
    "train_step",
    "with_protocol",
]
__version__ = "0.2.0"

quiet_compilers()  # here, since whatever uses jax in this package comes by first


if not TYPE_CHECKING:  # which would take every name for one that there is

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'jax_sngan' has no attribute {name!r}")
        if not _HOME[name]:  # a folder
            return importlib.import_module(f"jax_sngan.{name}")
        return getattr(importlib.import_module(f"jax_sngan.{_HOME[name]}"), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
