"""Several training steps as one program."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.state import TrainState
from jax_sngan.core.step import Logs, training_step


def training_steps(
    gan: GAN | TrainConfig, state: TrainState, inputs: Inputs, count: Array, *, mesh: Mesh | None = None,
    split: bool = False,
) -> tuple[TrainState, Logs]:  # fmt: skip
    """The first `count` of the training steps that inputs holds, as one program.

    Args:
      inputs: as training_step's, with an axis of steps in front of each array.
      count: int32 [], at least 1; not static, so that fewer steps before a log are no other program.
    Returns:
      (state, logs): logs with an axis of steps in front; zeros from count on.
    """

    def one(i: Array, carry: tuple[TrainState, Logs]) -> tuple[TrainState, Logs]:
        state, kept = carry
        state, logs = training_step(gan, state, jax.tree.map(lambda x: x[i], inputs), mesh=mesh, split=split)
        return state, jax.tree.map(lambda all_steps, x: all_steps.at[i].set(x), kept, logs)

    steps, first = len(inputs.g_latents), jax.tree.map(lambda x: x[0], inputs)
    logs = jax.eval_shape(partial(training_step, gan), state, first)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros((steps, *x.shape), x.dtype), logs)
    return lax.fori_loop(0, count, one, (state, nothing))
