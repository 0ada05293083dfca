"""TrainState: all that a training step reads and writes, one pytree."""

import re
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN, SEED, as_gan
from jax_sngan.models.network import Tree, Variables
from jax_sngan.system.errors import UserError
from jax_sngan.system.jax_internals import known


class TrainState(NamedTuple):
    """Saved and restored whole."""

    step: Array  # int32 [], training steps done
    generator: Variables
    discriminator: Variables
    generator_ema: Tree  # moving average of generator.params
    generator_opt: Any  # the optimisers' states: any pytrees of arrays; optax.ScaleByAdamState where a config made them
    discriminator_opt: Any


def create_state(what: GAN | TrainConfig, seed: int | None = None) -> TrainState:
    """A fresh state: the same for the same GAN and seed; None: the config's own, 0 of a GAN, which has none.

    Called in a function that is being traced (jax.jit, jax.eval_shape) it is a part of that program; else a program of
    its own, with its own compiler options, which jax allows in no other.

    Raises:
      UserError: the GAN's networks are not what it says of them (check_networks).
    """
    make = _create if _being_traced() else _create_alone(jax.default_backend())
    return make(*_checked(what, seed))


def state_shapes(what: GAN | TrainConfig) -> TrainState:
    """The shapes and types of create_state's arrays; none is computed, and create_state need not be traced again.

    Raises:
      UserError: as create_state.
    """
    return _create_alone(jax.default_backend()).eval_shape(*_checked(what, None))


def _being_traced() -> bool:
    """Whether a function is being traced: then every array that is made here is part of its program."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def _checked(what: GAN | TrainConfig, seed: int | None) -> tuple[GAN, np.uint32]:
    gan = as_gan(what)
    if seed is None:
        seed = what.seed if isinstance(what, TrainConfig) else SEED
    check_networks(gan)
    return gan, np.uint32(seed)


def _create(gan: GAN, seed: Array | np.uint32) -> TrainState:
    g_key, d_key = jax.random.split(jax.random.key(seed, impl="threefry2x32"))
    generator, discriminator = gan.networks
    return first_state(gan, generator.init(g_key), discriminator.init(d_key))


@cache
def _create_alone(platform: str) -> Any:
    """_create compiled for devices of a platform.

    One program, since op by op it takes ten times as long; and one that runs once: with all of XLA's optimisation
    `fashion`'s takes 9 s of processor time, this way 1.4 (two Xeon cores, jax 0.10.2, 2026-11-29).
    """
    runs_once = known({"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}, platform)
    return jax.jit(_create, static_argnums=0, compiler_options=runs_once)


def forget_creation() -> None:
    """Lets go of the programs that create_state compiled, 30 MiB each; it compiles them again if it is called again."""
    for platform in {device.platform for device in jax.devices()}:
        _create_alone(platform).clear_cache()


def first_state(what: GAN | TrainConfig, generator: Variables, discriminator: Variables) -> TrainState:
    """The state before the first step from two networks' variables: the average is the generator, moments are zero."""
    gan = as_gan(what)

    def copy(tree: Any) -> Any:  # a donated state must not hold one buffer twice
        return jax.tree.map(jnp.copy, tree)

    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        discriminator=discriminator,
        generator_ema=copy(generator.params),
        generator_opt=copy(gan.generator_optimizer.init(generator.params)),
        discriminator_opt=copy(gan.discriminator_optimizer.init(discriminator.params)),
    )


@lru_cache(maxsize=64)
def check_networks(gan: GAN) -> None:
    """Passes where both networks take and give what the GAN says, and classes reach one of them; nothing is computed.

    Raises:
      UserError: they do not; it names the network.
    """
    networks, n = gan.networks, 2
    if all(network.config is not None for network in networks):
        return
    if gan.num_classes and not any(network.takes_labels for network in networks):
        raise UserError(f"num_classes must be 0 where neither network takes labels, got {gan.num_classes}")
    of = jax.ShapeDtypeStruct
    labels, key = of((n,), jnp.int32) if gan.num_classes else None, of((2,), jnp.uint32)
    for name, network, given, wanted in (
        ("generator", networks.generator, (n, gan.latent_size), (n, *gan.image_shape)),
        ("discriminator", networks.discriminator, (n, *gan.image_shape), (n,)),
    ):
        if not gan.num_classes and network.must_have_labels:
            raise UserError(f"{name} takes labels, and num_classes is 0")
        variables = jax.eval_shape(network.init, jax.random.key(0, impl="threefry2x32"))
        try:
            jax.eval_shape(network.iterate, variables)
        except ValueError as error:  # a spectral norm that is out of reach
            raise UserError(f"{name}: {error}") from error
        apply = partial(network.apply, train=True)
        made = jax.eval_shape(
            lambda v, x, y, k, apply=apply: apply(v, x, y, key=k)[0],
            variables,
            of(given, jnp.dtype(gan.dtype)),
            labels,
            key,
        )
        found = getattr(made, "shape", None)
        if found != wanted:
            what = type(made).__name__ if found is None else list(found)
            raise UserError(f"{name} must give {list(wanted)} for {list(given)}, got {what}")


def not_finite(state: TrainState) -> str | None:
    """The path of an array with a number that is not finite; None where all are.

    A gradient that was not finite stays in an optimiser's mean of gradients, where optax calls it mu: it is looked at
    first, and named as the gradient that it was.
    """
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(_finite(state)))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, finite in leaves if not finite]
    gradients = [
        found for name in names if (found := re.fullmatch(r"(generator|discriminator)_opt\..*?\bmu\.(.*)", name))
    ]
    if gradients:
        return f"{gradients[0][1]}.{gradients[0][2]}'s gradient"
    return names[0] if names else None


@jax.jit
def _finite(state: TrainState) -> Any:
    def finite(x: Array) -> Any:
        return jnp.all(jnp.isfinite(x)) if jnp.issubdtype(x.dtype, jnp.inexact) else True

    return jax.tree.map(finite, state)
