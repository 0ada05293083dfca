"""TrainState: all that a training step reads and writes, one pytree."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.optim import adam_direction
from jax_sngan.models.network import Tree, Variables, build
from jax_sngan.system.jax_internals import known


class TrainState(NamedTuple):
    """Saved and restored whole."""

    step: Array  # int32 [], training steps done
    generator: Variables
    discriminator: Variables
    generator_ema: Tree  # moving average of generator.params
    generator_opt: optax.ScaleByAdamState
    discriminator_opt: optax.ScaleByAdamState


def create_state(config: TrainConfig, seed: int | None = None) -> TrainState:
    """A fresh state: the same for the same config and seed (the config's own where none is given)."""
    here = jnp.zeros(())
    # Part of another program (jit, eval_shape) it has no options of its own.
    make = _create if isinstance(here, jax.core.Tracer) else _create_alone(next(iter(here.devices())).platform)
    return make(config, np.uint32(config.seed if seed is None else seed))


def _create(config: TrainConfig, seed: Array | np.uint32) -> TrainState:
    networks = build(config.model)
    g_key, d_key = jax.random.split(jax.random.key(seed, impl="threefry2x32"))
    return first_state(config, networks.generator.init(g_key), networks.discriminator.init(d_key))


@cache
def _create_alone(platform: str) -> Callable[[TrainConfig, np.uint32], TrainState]:
    """_create compiled for devices of a platform.

    One program, since op by op it takes ten times as long; and one that runs once: with all of XLA's optimisation it
    took 21 s of processor time to compile for `fashion`, this way 2.
    """
    runs_once = known({"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}, platform)
    return jax.jit(_create, static_argnums=0, compiler_options=runs_once)


def first_state(config: TrainConfig, generator: Variables, discriminator: Variables) -> TrainState:
    """The state before the first step from two networks' variables: the average is the generator, moments are zero."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        discriminator=discriminator,
        # A copy: a donated state must not hold one buffer twice.
        generator_ema=jax.tree.map(jnp.copy, generator.params),
        generator_opt=adam_direction(config.generator_optimizer).init(generator.params),
        discriminator_opt=adam_direction(config.discriminator_optimizer).init(discriminator.params),
    )
