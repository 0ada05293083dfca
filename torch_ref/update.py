"""One D update, one G update, one training step. Nothing here is random. The state is changed in place and returned.

Both networks run in training mode in every update: each pass of D moves u and v by its power iterations, each pass
of G moves its running statistics, also where no gradient is taken.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jax_sngan.config import TrainConfig
from torch_ref.images import to_float
from torch_ref.inputs import Inputs
from torch_ref.losses import LOSSES
from torch_ref.optim import descend, learning_rate, moving_average
from torch_ref.state import TrainState

Logs = dict[str, Tensor]
_ROUND = ("real_images", "d_latents", "real_labels", "d_labels")  # what one D update takes


def discriminator_update(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """One D update.

    Args:
      inputs: of this update alone: real_images [batch, c, h, w] in [-1, 1], d_latents [batch, latent_size], labels.
    Returns:
      (state, {"d_loss", "d_real", "d_fake"}): the loss and the mean scores, each [].
    """
    with torch.no_grad():
        fake = state.generator(inputs.d_latents, inputs.d_labels)
    real_scores, fake_scores = score_both(
        config, state.discriminator, inputs.real_images, fake, inputs.real_labels, inputs.d_labels
    )
    loss = LOSSES[config.loss].discriminator(real_scores, fake_scores)

    state.discriminator_opt.zero_grad()
    loss.backward()
    descend(state.discriminator_opt, learning_rate(config.discriminator_optimizer, state.step, config.steps))
    return state, {
        "d_loss": loss.detach(),
        "d_real": real_scores.detach().mean(),
        "d_fake": fake_scores.detach().mean(),
    }


def score_both(
    config: TrainConfig,
    network: nn.Module,
    real: Tensor,
    fake: Tensor,
    real_labels: Tensor | None,
    fake_labels: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """D's scores [n] of real and of generated images, in two passes or a joint one."""
    if config.passes == "separate":
        return network(real, real_labels), network(fake, fake_labels)
    labels = None if real_labels is None or fake_labels is None else torch.cat([real_labels, fake_labels])
    scores = network(torch.cat([real, fake]), labels)
    return scores[: len(real)], scores[len(real) :]


def generator_update(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """One G update and the average's.

    Args:
      inputs: g_latents [generator_batch, latent_size] and g_labels.
    Returns:
      (state, {"g_loss"}), the loss [].
    """
    state.discriminator.requires_grad_(False)  # gradients flow through D, not into its weights
    fake = state.generator(inputs.g_latents, inputs.g_labels)
    loss = LOSSES[config.loss].generator(state.discriminator(fake, inputs.g_labels))

    state.generator_opt.zero_grad()
    loss.backward()
    state.discriminator.requires_grad_(True)
    descend(state.generator_opt, learning_rate(config.generator_optimizer, state.step, config.steps))
    moving_average(state.generator_ema, state.generator, config.ema_decay)
    return state, {"g_loss": loss.detach()}


def training_step(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """n_dis D updates and one G update, in the config's order.

    Returns:
      (state, logs): d_loss, d_real, d_fake [n_dis], one entry an update, and g_loss [].
    """
    if inputs.real_images.dtype == torch.uint8:
        inputs = inputs._replace(real_images=to_float(inputs.real_images, getattr(torch, config.model.dtype)))
    state.generator.train()
    state.discriminator.train()
    logs: Logs = {}
    if config.update_order == "generator_first":
        state, logs = generator_update(config, state, inputs)

    rounds = []
    for i in range(config.n_dis):
        part: dict[str, Any] = {name: None if (a := getattr(inputs, name)) is None else a[i] for name in _ROUND}
        state, d_logs = discriminator_update(config, state, inputs._replace(**part))
        rounds.append(d_logs)
    if config.update_order == "discriminator_first":
        state, logs = generator_update(config, state, inputs)
    state.step += 1
    return state, logs | {name: torch.stack([r[name] for r in rounds]) for name in rounds[0]}


def train_step(config: TrainConfig) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    """The training step of a config: (state, inputs) -> (state, logs); the state given is changed."""

    def step(state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
        return training_step(config, state, inputs)

    return step
