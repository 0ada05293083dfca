"""One D update, one G update, one training step. Nothing here is random. The state is changed in place and returned.

Both networks run in training mode in every update: each pass of D moves u and v by its power iterations, each pass
of G moves its running statistics, also where no gradient is taken. A batch in several parts (config.accumulate) moves
u and v as a whole one does, and its gradient is the parts' mean.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from jax_sngan.config.schema import TrainConfig
from torch_ref.core import penalties, watch
from torch_ref.core.augment import augment
from torch_ref.core.inputs import Inputs
from torch_ref.core.losses import LOSSES
from torch_ref.core.optim import average_decay, clip, descend, learning_rate, moving_average
from torch_ref.core.pixels import dequantize, to_float
from torch_ref.core.state import TrainState
from torch_ref.nn import rng
from torch_ref.nn.spectral_norm import held, load_spectral_state, spectral_state

Logs = dict[str, Tensor]
_D_BATCH = ("real_images", "d_latents", "real_labels", "d_labels")  # what one D update takes, beside its key
_G_BATCH = ("g_latents", "g_labels")
_REAL_BATCH = ("real_images", "real_labels")


def discriminator_update(
    config: TrainConfig, state: TrainState, inputs: Inputs, *, by_layer: bool = False
) -> tuple[TrainState, Logs]:
    """One D update.

    Args:
      inputs: of this update alone: real_images [batch, c, h, w], d_latents [batch, latent_size], labels, d_keys [2].
      by_layer: log each layer's norms too.
    Returns:
      (state, logs): "d_loss" and, with a penalty, "d_penalty", its part of the loss; the numbers of watch.of_scores,
      watch.spreads and watch.norms; each [].
    """
    state.discriminator_opt.zero_grad()
    logs: list[Logs] = []
    for pass_of, part in _parts(config, inputs, _D_BATCH, "d_keys"):
        key = part.d_keys
        with torch.no_grad(), pass_of(state.generator, 0):
            fake = state.generator(part.d_latents, part.d_labels, _use(key, rng.DROPOUT_G))
        real = real_images(config, part.real_images, key)
        if config.augment.any:
            real = augment(config.augment, real, _subkey(key, rng.AUGMENT_REAL))
            fake = augment(config.augment, fake, _subkey(key, rng.AUGMENT_FAKE))
        real_scores, fake_scores = score_both(config, state.discriminator, pass_of, real, fake, part)
        loss = LOSSES[config.loss].d(real_scores, fake_scores)
        entry = watch.of_scores(LOSSES[config.loss], real_scores.detach(), fake_scores.detach())
        if config.penalty.kind != "none":
            with pass_of(state.discriminator, passes(config) - 1):
                term = penalty(config, state.discriminator, real, fake, part)
            entry["d_penalty"] = term.detach()
            loss = loss + term
        (loss / config.accumulate).backward()
        logs.append(entry | {"d_loss": loss.detach()})
    before = watch.copies(state.discriminator)
    descend(state.discriminator_opt, learning_rate(config.discriminator_optimizer, state.step, config.steps))
    if config.weight_clip:
        clip(state.discriminator, config.weight_clip)
    return state, watch.spreads(_means(logs)) | watch.norms("d", state.discriminator, before, by_layer=by_layer)


def real_images(config: TrainConfig, images: Tensor, key: Tensor | None) -> Tensor:
    """Real images as D sees them: bytes brought to [-1, 1], with noise if the config says so, floats as they are."""
    dtype = getattr(torch, config.model.dtype)
    if images.dtype != torch.uint8:
        return images.to(dtype)
    if not config.dequantize:
        return to_float(images, dtype)
    return dequantize(images, _like_images(_subkey(key, rng.DEQUANTIZE), images, dtype))


def passes(config: TrainConfig) -> int:
    """Passes of D in one D update, each with its power iterations."""
    return (2 if config.passes == "separate" else 1) + (config.penalty.kind != "none")


def score_both(
    config: TrainConfig, network: nn.Module, pass_of: Any, real: Tensor, fake: Tensor, inputs: Inputs
) -> tuple[Tensor, Tensor]:
    """D's scores [n] of real and of generated images, in two passes or a joint one."""
    real_labels, fake_labels, key = inputs.real_labels, inputs.d_labels, inputs.d_keys
    if config.passes == "separate":
        with pass_of(network, 0):
            real_scores = network(real, real_labels, _use(key, rng.DROPOUT_REAL))
        with pass_of(network, 1):
            fake_scores = network(fake, fake_labels, _use(key, rng.DROPOUT_FAKE))
        return real_scores, fake_scores
    labels = None if real_labels is None or fake_labels is None else torch.cat([real_labels, fake_labels])
    with pass_of(network, 0):
        scores = network(torch.cat([real, fake]), labels, _use(key, rng.DROPOUT_REAL))
    return scores[: len(real)], scores[len(real) :]


def penalty(config: TrainConfig, network: nn.Module, real: Tensor, fake: Tensor, inputs: Inputs) -> Tensor:
    """[] the config's penalty with its weight, by one more pass of D; the classes are the real images'."""
    c, key = config.penalty, inputs.d_keys

    def score(images: Tensor) -> Tensor:
        return network(images, inputs.real_labels, _use(key, rng.DROPOUT_PENALTY))

    if c.kind == "r1":
        return c.weight * penalties.r1(score, real)
    mix = rng.uniform(_subkey(key, rng.MIX), (len(real),), real.dtype)
    if c.kind == "gradient_penalty":
        return c.weight * penalties.gradient_penalty(score, real, fake, mix, c.target, c.sides)
    around = _like_images(_subkey(key, rng.SURROUNDINGS), real, real.dtype)
    return c.weight * penalties.dragan(score, real, around, mix, c.target, c.sides)


def generator_update(
    config: TrainConfig, state: TrainState, inputs: Inputs, *, by_layer: bool = False
) -> tuple[TrainState, Logs]:
    """One G update and the average's.

    Args:
      inputs: g_latents [generator_batch, latent_size], g_labels, g_key; where G's loss sees real images also
        real_images [batch, c, h, w] and real_labels.
      by_layer: log each layer's norms too.
    Returns:
      (state, logs): "g_loss" and the numbers of watch.norms, each [].
    """
    state.discriminator.requires_grad_(False)  # gradients flow through D, not into its weights
    state.generator_opt.zero_grad()
    logs: list[Logs] = []
    game = LOSSES[config.loss]
    batched = _G_BATCH + (_REAL_BATCH if game.g_sees_real else ())
    for pass_of, part in _parts(config, inputs, batched, "g_key"):
        key = part.g_key
        with pass_of(state.generator, 0):
            fake = state.generator(part.g_latents, part.g_labels, _use(key, rng.DROPOUT_G))
        if config.augment.any:
            fake = augment(config.augment, fake, _subkey(key, rng.AUGMENT_FAKE))
        if game.g_sees_real:
            real = real_images(config, part.real_images, key)
            if config.augment.any:
                real = augment(config.augment, real, _subkey(key, rng.AUGMENT_REAL))
            shown = part._replace(d_labels=part.g_labels, d_keys=key)
            loss = game.g(*score_both(config, state.discriminator, pass_of, real, fake, shown))
        else:
            with pass_of(state.discriminator, 0):
                scores = state.discriminator(fake, part.g_labels, _use(key, rng.DROPOUT_FAKE))
            loss = game.g(None, scores)
        (loss / config.accumulate).backward()
        logs.append({"g_loss": loss.detach()})
    state.discriminator.requires_grad_(True)
    before = watch.copies(state.generator)
    descend(state.generator_opt, learning_rate(config.generator_optimizer, state.step, config.steps))
    moving_average(state.generator_ema, state.generator, average_decay(config.ema_decay, config.ema_warmup, state.step))
    return state, _means(logs) | watch.norms("g", state.generator, before, by_layer=by_layer)


def _parts(
    config: TrainConfig, inputs: Inputs, batched: tuple[str, ...], key_name: str
) -> Iterator[tuple[Any, Inputs]]:
    """(pass_of, inputs) of each part of a batch. `with pass_of(network, i)` surrounds pass i of a network.

    Every pass of the first part moves u and v as PyTorch does by itself; those of the others find what it left.
    """
    n = config.accumulate
    seen: dict[tuple[nn.Module, int], dict[str, Tensor]] = {}

    @contextmanager
    def first(network: nn.Module, i: int) -> Iterator[None]:
        yield
        if n > 1:
            seen[network, i] = spectral_state(network)

    @contextmanager
    def later(network: nn.Module, i: int) -> Iterator[None]:
        load_spectral_state(network, seen[network, i])
        with held(network):
            yield

    split = {name: a.chunk(n) for name in batched if (a := getattr(inputs, name)) is not None}
    if (key := getattr(inputs, key_name)) is not None:
        split[key_name] = (key,) if n == 1 else tuple(rng.subkey(key, rng.PARTS + i) for i in range(n))
    for i in range(n):
        yield later if i else first, inputs._replace(**{name: part[i] for name, part in split.items()})


def _means(logs: list[Logs]) -> Logs:
    return {name: torch.stack([entry[name] for entry in logs]).mean() for name in logs[0]}


def _like_images(key: Tensor, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in [0, 1) for images [n, c, h, w], drawn in the JAX framework's order, channels last."""
    n, c, h, w = images.shape
    return rng.uniform(key, (n, h, w, c), dtype).permute(0, 3, 1, 2)


def _subkey(key: Tensor | None, number: int) -> Tensor:
    if key is None:
        raise ValueError("these inputs have no keys, but the config draws more than latents (TrainConfig.needs_keys)")
    return rng.subkey(key, number)


def _use(key: Tensor | None, number: int) -> Tensor | None:
    return None if key is None else rng.subkey(key, number)


def training_step(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    """n_dis D updates and one G update, in the config's order.

    Returns:
      (state, logs): those of D's updates [n_dis], one entry an update, and those of G's [].
    """
    state.generator.train()
    state.discriminator.train()
    logs: Logs = {}
    last = {name: a[-1] for name in _REAL_BATCH if (a := getattr(inputs, name)) is not None}
    if config.update_order == "generator_first":
        state, logs = generator_update(config, state, inputs._replace(**last))

    rounds = []
    for i in range(config.n_dis):
        part: dict[str, Any] = {
            name: None if (a := getattr(inputs, name)) is None else a[i] for name in (*_D_BATCH, "d_keys")
        }
        state, d_logs = discriminator_update(config, state, inputs._replace(**part))
        rounds.append(d_logs)
    if config.update_order == "discriminator_first":
        state, logs = generator_update(config, state, inputs._replace(**last))
    state.step += 1
    return state, logs | {name: torch.stack([r[name] for r in rounds]) for name in rounds[0]}


def train_step(config: TrainConfig) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    """The training step of a config: (state, inputs) -> (state, logs); the state given is changed."""

    def step(state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
        return training_step(config, state, inputs)

    return step
