"""SN-GAN (Miyato et al. 2018) in JAX, with a PyTorch reference that it is tested against.

Names are loaded when first used, so that torch_ref can read `jax_sngan.config.schema` without loading jax.
"""

import importlib
from typing import Any

from jax_sngan.accelerators.environment import quiet_compilers

_HOME = {
    "Dataset": "data.datasets",
    "GAN": "core.gan",
    "Inputs": "core.inputs",
    "Loss": "core.losses",
    "ModelConfig": "config.schema",
    "OptimizerConfig": "config.schema",
    "Penalty": "core.penalties",
    "RunConfig": "config.schema",
    "SpectralNormConfig": "config.schema",
    "TrainConfig": "config.schema",
    "TrainState": "core.state",
    "UserError": "system.errors",
    "build": "models.network",
    "create_state": "core.state",
    "draw_inputs": "core.inputs",
    "gan": "core.gan",
    "load": "runs.sample",
    "load_data": "data.datasets",
    "preset": "config.presets",
    "presets": "config.presets",
    "train_step": "core.step",
    "with_protocol": "config.reference_programs",
}
_RENAMED = {"presets": "names"}
_FOLDERS = ("nn",)  # public as a whole: sn.nn.SpectralNorm

__all__ = sorted([*_HOME, *_FOLDERS])  # built from the tables above
__version__ = "0.1.0"

quiet_compilers()  # here, since whatever uses jax in this package comes by first


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"jax_sngan.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'jax_sngan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jax_sngan.{_HOME[name]}"), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_FOLDERS])
