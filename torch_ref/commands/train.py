"""The same run by the PyTorch reference: same options, same first weights, same inputs, same log as in JAX."""

import os
from typing import Any

from jax_sngan.commands import cli
from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import called
from jax_sngan.training.loop import Result


def main() -> int:
    """The exit code: 0 done, 1 a number was not finite, 128 + signal when stopped early."""
    config, run, arguments = cli.training_arguments(__doc__)
    if arguments.gan is not None:
        raise UserError(f"gan is for {called('train')}: the reference has this package's networks, got {arguments.gan}")
    return cli.run_training(config, run, arguments, describe, train)


def describe(config: TrainConfig) -> dict[str, Any]:
    """As of the run in JAX: the two frameworks have the same parameters and do the same work."""
    from jax_sngan.training.trainer import describe

    return describe(config)


def train(config: TrainConfig, run: RunConfig) -> Result:
    """The bridge: the JAX framework's data, first state and inputs, laid out for torch."""
    from functools import partial

    import numpy as np

    from jax_sngan.core.inputs import draw_inputs, sample_latents
    from jax_sngan.core.state import create_state
    from jax_sngan.interop import torch_layout
    from jax_sngan.models.network import allow_dtype
    from jax_sngan.runs import pictures
    from jax_sngan.runs.data_changes import of_used_images
    from jax_sngan.training.evaluation import TrainingEvaluation
    from jax_sngan.training.task import load_data, reading_ahead, with_class_names
    from torch_ref.core import inputs as torch_inputs
    from torch_ref.system import machine
    from torch_ref.training import trainer as torch_train

    # JAX draws the inputs; on a GPU it would take three quarters of the memory beforehand, of which torch needs most.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = machine.device(run.device)
    allow_dtype(config.model)
    data, m = load_data(config, run), config.model
    config = with_class_names(config, data, config.model.num_classes)
    evaluation = TrainingEvaluation(config, run) if run.evaluate_every and not run.standing_statistics else None
    latents = np.asarray(sample_latents(config.seed, pictures.count(m.is_points), m.latent_size, np.dtype(m.dtype)))
    with reading_ahead(config, run, data, mesh=None):
        return torch_train.train(
            config,
            run,
            data.identity(),
            first=lambda: torch_layout.to_torch(config, create_state(config)),
            draw=lambda k, rollbacks: torch_inputs.from_numpy(
                torch_layout.inputs_to_torch(draw_inputs(config, data, k, rollbacks)), device
            ),
            latents=latents,
            device=device,
            evaluate=evaluation,
            may_change=partial(of_used_images, config),
        )
