"""One D update, one G update, one training step: pure functions of state and inputs. Nothing here is random.

Both networks run in training mode in every update: each pass of D moves u and v by its power iterations, each pass
of G moves its running statistics, also where no gradient is taken.
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.config import OptimizerConfig, TrainConfig
from jax_sngan.images import to_float
from jax_sngan.inputs import Inputs
from jax_sngan.losses import LOSSES
from jax_sngan.models import Network, Tree, Variables, build
from jax_sngan.optim import adam_direction, descend, learning_rate, moving_average
from jax_sngan.state import TrainState

Logs = dict[str, Array]
_ROUND = ("real_images", "d_latents", "real_labels", "d_labels")  # what one D update takes


def discriminator_update(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """One D update.

    Args:
      inputs: of this update alone: real_images [batch, h, w, c] in [-1, 1], d_latents [batch, latent_size], labels.
    Returns:
      (state, {"d_loss", "d_real", "d_fake"}): the loss and the mean scores, each [].
    """
    networks = build(config.model)
    fake, generator = networks.generator.apply(state.generator, inputs.d_latents, inputs.d_labels, train=True)
    loss_of = LOSSES[config.loss].discriminator

    def loss(params: Tree) -> tuple[Array, tuple[Variables, Array, Array]]:
        variables = state.discriminator._replace(params=params)
        real_scores, fake_scores, variables = score_both(
            config, networks.discriminator, variables, inputs.real_images, fake, inputs.real_labels, inputs.d_labels
        )
        return loss_of(real_scores, fake_scores), (variables, real_scores, fake_scores)

    (value, (after, real_scores, fake_scores)), gradients = jax.value_and_grad(loss, has_aux=True)(
        state.discriminator.params
    )
    params, opt = _descend(
        config.discriminator_optimizer, config, state, state.discriminator.params, gradients, state.discriminator_opt
    )
    state = state._replace(generator=generator, discriminator=after._replace(params=params), discriminator_opt=opt)
    return state, {"d_loss": value, "d_real": jnp.mean(real_scores), "d_fake": jnp.mean(fake_scores)}


def score_both(
    config: TrainConfig,
    network: Network,
    variables: Variables,
    real: Array,
    fake: Array,
    real_labels: Array | None,
    fake_labels: Array | None,
) -> tuple[Array, Array, Variables]:
    """D's scores [n] of real and of generated images, and its variables after the two passes or the joint one."""
    if config.passes == "separate":
        real_scores, variables = network.apply(variables, real, real_labels, train=True)
        fake_scores, variables = network.apply(variables, fake, fake_labels, train=True)
        return real_scores, fake_scores, variables
    labels = None if real_labels is None or fake_labels is None else jnp.concatenate([real_labels, fake_labels])
    scores, variables = network.apply(variables, jnp.concatenate([real, fake]), labels, train=True)
    return scores[: len(real)], scores[len(real) :], variables


def generator_update(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """One G update and the average's.

    Args:
      inputs: g_latents [generator_batch, latent_size] and g_labels.
    Returns:
      (state, {"g_loss"}), the loss [].
    """
    networks = build(config.model)
    loss_of = LOSSES[config.loss].generator

    def loss(params: Tree) -> tuple[Array, tuple[Variables, Variables]]:
        variables = state.generator._replace(params=params)
        fake, generator = networks.generator.apply(variables, inputs.g_latents, inputs.g_labels, train=True)
        scores, discriminator = networks.discriminator.apply(state.discriminator, fake, inputs.g_labels, train=True)
        return loss_of(scores), (generator, discriminator)

    (value, (generator, discriminator)), gradients = jax.value_and_grad(loss, has_aux=True)(state.generator.params)
    params, opt = _descend(
        config.generator_optimizer, config, state, state.generator.params, gradients, state.generator_opt
    )
    state = state._replace(
        generator=generator._replace(params=params),
        discriminator=discriminator,
        generator_ema=moving_average(state.generator_ema, params, config.ema_decay),
        generator_opt=opt,
    )
    return state, {"g_loss": value}


def _descend(optimizer: OptimizerConfig, config: TrainConfig, state: TrainState, params, gradients, opt):  # type: ignore[no-untyped-def]
    direction, opt = adam_direction(optimizer).update(gradients, opt)
    return descend(params, direction, learning_rate(optimizer, state.step, config.steps)), opt


def training_step(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """n_dis D updates and one G update, in the config's order.

    Returns:
      (state, logs): d_loss, d_real, d_fake [n_dis], one entry an update, and g_loss [].
    """
    if inputs.real_images.dtype == jnp.uint8:
        inputs = inputs._replace(real_images=to_float(inputs.real_images, jnp.dtype(config.model.dtype)))
    logs: Logs = {}
    if config.update_order == "generator_first":
        state, logs = generator_update(config, state, inputs)

    def one_round(state: TrainState, part: dict[str, Array]) -> tuple[TrainState, Logs]:
        return discriminator_update(config, state, inputs._replace(**part))

    rounds = {name: getattr(inputs, name) for name in _ROUND if getattr(inputs, name) is not None}
    state, d_logs = lax.scan(one_round, state, rounds, unroll=config.n_dis == 1)
    if config.update_order == "discriminator_first":
        state, logs = generator_update(config, state, inputs)
    return state._replace(step=state.step + 1), logs | d_logs


@lru_cache(maxsize=16)
def train_step(config: TrainConfig) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    """The jitted training step of a config: (state, inputs) -> (state, logs); the state given is donated."""

    def step(state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
        return training_step(config, state, inputs)

    return jax.jit(step, donate_argnums=0)
