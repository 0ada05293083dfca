"""One D update, one G update, one training step: pure functions of state and inputs. Nothing here is random.

Both networks run in training mode in every update: each pass of D moves u and v by its power iterations, each pass
of G moves its running statistics, also where no gradient is taken. A batch in several parts (config.accumulate) moves
u and v as a whole one does, and its gradient is the parts' mean: where no batch normalisation ties the images
together, the same gradient.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from jax_sngan.config.schema import OptimizerConfig, TrainConfig
from jax_sngan.core import penalties
from jax_sngan.core.augment import augment
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.losses import LOSSES
from jax_sngan.core.optim import adam_direction, average_decay, clip, descend, learning_rate, moving_average
from jax_sngan.core.pixels import dequantize, to_float
from jax_sngan.core.precision import at_its_precision
from jax_sngan.core.sharding import mean_of_devices, update_in_parts
from jax_sngan.core.state import TrainState
from jax_sngan.models.network import Network, Tree, Variables, build
from jax_sngan.nn import rng

Logs = dict[str, Array]
_D_BATCH = ("real_images", "d_latents", "real_labels", "d_labels")  # what one D update takes, beside its key
_G_BATCH = ("g_latents", "g_labels")


@at_its_precision
def discriminator_update(
    config: TrainConfig,
    state: TrainState,
    inputs: Inputs,
    *,
    made: Array | None = None,
    mesh: Mesh | None = None,
    split: bool = False,
) -> tuple[TrainState, Logs]:
    """One D update.

    Args:
      inputs: of this update alone: real_images [batch, h, w, c], d_latents [batch, latent_size], labels, d_keys [2].
      made: the generated images [batch, h, w, c], if G's pass is done and its variables have moved.
      mesh: that the batch is split over; split: whether Adam's moments are, too.
    Returns:
      (state, {"d_loss", "d_real", "d_fake"}): the loss and the mean scores, each []; with a penalty also
      "d_penalty", its part of the loss.
    """
    networks = build(config.model)
    generator = state.generator if made is not None else networks.generator.iterate(state.generator)
    moved = networks.discriminator.iterates(state.discriminator, passes(config))

    def part(carry: tuple[Variables, Variables], inputs: Inputs) -> tuple[Any, tuple[Tree, Logs]]:
        generator, discriminator = carry
        key = inputs.d_keys
        if made is not None:
            fake = made
        else:
            fake, generator = networks.generator.apply(
                generator, inputs.d_latents, inputs.d_labels, train=True, key=_use(key, rng.DROPOUT_G), hold=True
            )
        real = real_images(config, inputs.real_images, key)
        if config.augment.any:
            real = augment(config.augment, real, _subkey(key, rng.AUGMENT_REAL))
            fake = augment(config.augment, fake, _subkey(key, rng.AUGMENT_FAKE))

        seen = {"real": real, "fake": fake, "real_labels": inputs.real_labels, "d_labels": inputs.d_labels}
        seen |= _penalty_points(config, real, key)

        def loss(params: Tree, seen: dict[str, Any]) -> tuple[Array, tuple[Variables, Logs]]:
            real, fake = seen["real"], seen["fake"]
            own = inputs._replace(real_labels=seen["real_labels"], d_labels=seen["d_labels"])
            real_scores, fake_scores, after = score_both(
                config, networks.discriminator, discriminator._replace(params=params), moved, real, fake, own
            )
            value = LOSSES[config.loss].discriminator(real_scores, fake_scores)
            logs = {"d_real": jnp.mean(real_scores), "d_fake": jnp.mean(fake_scores)}
            if config.penalty.kind != "none":
                after_passes = after._replace(spectral=moved[-1])
                logs["d_penalty"] = penalty(config, networks.discriminator, after_passes, real, fake, own, seen)
                value = value + logs["d_penalty"]
            return value, (after, logs | {"d_loss": value})

        gradient = jax.grad(loss, has_aux=True)
        if mesh is not None and _images_are_alone(config, mesh):

            def of_a_part(params: Tree, seen: dict[str, Any]) -> tuple[Tree, Logs]:
                gradients, (_, logs) = gradient(params, seen)
                return gradients, logs

            return (generator, discriminator), mean_of_devices(mesh, of_a_part, discriminator.params, seen)
        gradients, (after, logs) = gradient(discriminator.params, seen)
        return (generator, after), (gradients, logs)

    (generator, after), (gradients, logs) = _in_parts(
        config, part, (generator, state.discriminator), inputs, _D_BATCH, "d_keys"
    )

    def descended(params: Tree, given: tuple[Tree, Array], opt: Any) -> tuple[Tree, Any]:
        params, opt = _descend(config.discriminator_optimizer, config.steps, params, *given, opt)
        return clip(params, config.weight_clip) if config.weight_clip else params, opt

    given, opt = (gradients, state.step), state.discriminator_opt
    params, opt = update_in_parts(mesh if split else None, descended, state.discriminator.params, given, opt)
    discriminator = Variables(params, moved[-1], after.batch)
    return state._replace(generator=generator, discriminator=discriminator, discriminator_opt=opt), logs


def _images_are_alone(config: TrainConfig, mesh: Mesh) -> bool:
    """Whether D's gradient is the mean of those of the devices' parts of the batch, each taken by itself.

    Not where D knows an image's batch: batch normalisation, dropout (its masks are drawn for the whole batch), DRAGAN
    (the batch's standard deviation).
    """
    model = config.model
    together = model.discriminator_norm == "batch" or model.discriminator_dropout > 0 or config.penalty.kind == "dragan"
    return not together and config.batch_size % (config.accumulate * mesh.size) == 0


def real_images(config: TrainConfig, images: Array, key: Array | None) -> Array:
    """Real images as D sees them: bytes brought to [-1, 1], with noise if the config says so, floats as they are."""
    dtype = jnp.dtype(config.model.dtype)
    if images.dtype != jnp.uint8:
        return images.astype(dtype)
    if not config.dequantize:
        return to_float(images, dtype)
    return dequantize(images, rng.uniform(_subkey(key, rng.DEQUANTIZE), images.shape, dtype))


def passes(config: TrainConfig) -> int:
    """Passes of D in one D update, each with its power iterations."""
    return (2 if config.passes == "separate" else 1) + (config.penalty.kind != "none")


def score_both(
    config: TrainConfig,
    network: Network,
    variables: Variables,
    moved: list[Tree],
    real: Array,
    fake: Array,
    inputs: Inputs,
) -> tuple[Array, Array, Variables]:
    """D's scores [n] of real and of generated images, and its variables after the two passes or the joint one.

    moved: u and v of each pass.
    """
    real_labels, fake_labels, key = inputs.real_labels, inputs.d_labels, inputs.d_keys

    def scores(images: Array, labels: Array | None, i: int, use: int) -> tuple[Array, Variables]:
        held = variables._replace(spectral=moved[i])
        return network.apply(held, images, labels, train=True, key=_use(key, use), hold=True)

    if config.passes == "separate":
        real_scores, variables = scores(real, real_labels, 0, rng.DROPOUT_REAL)
        fake_scores, variables = scores(fake, fake_labels, 1, rng.DROPOUT_FAKE)
        return real_scores, fake_scores, variables
    labels = None if real_labels is None or fake_labels is None else jnp.concatenate([real_labels, fake_labels])
    both, variables = scores(jnp.concatenate([real, fake]), labels, 0, rng.DROPOUT_REAL)
    return both[: len(real)], both[len(real) :], variables


def penalty(
    config: TrainConfig,
    network: Network,
    variables: Variables,
    real: Array,
    fake: Array,
    inputs: Inputs,
    points: dict[str, Any],
) -> Array:
    """[] the config's penalty with its weight, by one more pass of D; the classes are the real images'.

    points: holds what _penalty_points has drawn.
    """
    c = config.penalty

    def score(images: Array) -> Array:
        own_key = _use(inputs.d_keys, rng.DROPOUT_PENALTY)
        return network.apply(variables, images, inputs.real_labels, train=True, key=own_key, hold=True)[0]

    if c.kind == "r1":
        return c.weight * penalties.r1(score, real)
    if c.kind == "gradient_penalty":
        return c.weight * penalties.gradient_penalty(score, real, fake, points["mix"], c.target, c.sides)
    return c.weight * penalties.dragan(score, real, points["around"], points["mix"], c.target, c.sides)


def _penalty_points(config: TrainConfig, real: Array, key: Array | None) -> dict[str, Array]:
    """Random numbers of the config's penalty, for the whole batch: mix [n], around like real; those that it needs."""
    kind, drawn = config.penalty.kind, {}
    if kind in ("gradient_penalty", "dragan"):
        drawn["mix"] = rng.uniform(_subkey(key, rng.MIX), (len(real),), real.dtype)
    if kind == "dragan":
        drawn["around"] = rng.uniform(_subkey(key, rng.SURROUNDINGS), real.shape, real.dtype)
    return drawn


@at_its_precision
def generator_update(
    config: TrainConfig, state: TrainState, inputs: Inputs, *, mesh: Mesh | None = None, split: bool = False
) -> tuple[TrainState, Logs]:
    """One G update and the average's.

    Args:
      inputs: g_latents [generator_batch, latent_size], g_labels, g_key.
      mesh: that the batch is split over; split: whether Adam's moments and the average are, too.
    Returns:
      (state, {"g_loss"}), the loss [].
    """
    networks = build(config.model)
    first = (networks.generator.iterate(state.generator), networks.discriminator.iterate(state.discriminator))

    def part(carry: tuple[Variables, Variables], inputs: Inputs) -> tuple[Any, tuple[Tree, Logs]]:
        generator, discriminator = carry
        key = inputs.g_key

        def loss(params: Tree) -> tuple[Array, tuple[Variables, Variables]]:
            fake, after = networks.generator.apply(
                generator._replace(params=params),
                inputs.g_latents,
                inputs.g_labels,
                train=True,
                key=_use(key, rng.DROPOUT_G),
                hold=True,
            )
            if config.augment.any:
                fake = augment(config.augment, fake, _subkey(key, rng.AUGMENT_FAKE))
            scores, d_after = networks.discriminator.apply(
                discriminator, fake, inputs.g_labels, train=True, key=_use(key, rng.DROPOUT_FAKE), hold=True
            )
            return LOSSES[config.loss].generator(scores), (after, d_after)

        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(generator.params)
        return carry, (gradients, {"g_loss": value})

    (generator, discriminator), (gradients, logs) = _in_parts(config, part, first, inputs, _G_BATCH, "g_key")

    def descended(params: Tree, given: tuple[Tree, Array], kept: tuple[Any, Tree]) -> tuple[Tree, tuple[Any, Tree]]:
        opt, average = kept
        params, opt = _descend(config.generator_optimizer, config.steps, params, *given, opt)
        decay = average_decay(config.ema_decay, config.ema_warmup, given[1])
        return params, (opt, moving_average(average, params, decay))

    given, kept = (gradients, state.step), (state.generator_opt, state.generator_ema)
    params, (opt, average) = update_in_parts(mesh if split else None, descended, state.generator.params, given, kept)
    generator = generator._replace(params=params)
    state = state._replace(generator=generator, discriminator=discriminator, generator_ema=average, generator_opt=opt)
    return state, logs


def _in_parts(
    config: TrainConfig, part: Any, carry: Any, inputs: Inputs, batched: tuple[str, ...], key_name: str
) -> tuple[Any, tuple[Tree, Logs]]:
    """Runs part(carry, inputs) -> (carry, (gradients, logs)) over the parts of a batch; the results are means."""
    n = config.accumulate
    if n == 1:
        return part(carry, inputs)
    split = {
        name: a.reshape(n, len(a) // n, *a.shape[1:]) for name in batched if (a := getattr(inputs, name)) is not None
    }
    if (key := getattr(inputs, key_name)) is not None:
        split[key_name] = jnp.stack([rng.subkey(key, rng.PARTS + i) for i in range(n)])

    def one(carry_and_sum: Any, arrays: dict[str, Array]) -> tuple[Any, None]:
        carry, so_far = carry_and_sum
        carry, result = part(carry, inputs._replace(**arrays))
        return (carry, jax.tree.map(jnp.add, so_far, result)), None

    first = inputs._replace(**{name: a[0] for name, a in split.items()})
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(part, carry, first)[1])
    (carry, total), _ = lax.scan(one, (carry, nothing), split)
    return carry, jax.tree.map(lambda x: x / n, total)


def _subkey(key: Array | None, number: int) -> Array:
    """The key of one use; the config says that it is needed, so it must be there."""
    if key is None:
        raise ValueError("these inputs have no keys, but the config draws more than latents (TrainConfig.needs_keys)")
    return rng.subkey(key, number)


def _use(key: Array | None, number: int) -> Array | None:
    return None if key is None else rng.subkey(key, number)


def _descend(optimizer: OptimizerConfig, steps: int, params: Tree, gradients: Tree, step: Array, opt: Any):  # type: ignore[no-untyped-def]
    direction, opt = adam_direction(optimizer).update(gradients, opt)
    return descend(params, direction, learning_rate(optimizer, step, steps)), opt


@at_its_precision
def training_step(
    config: TrainConfig, state: TrainState, inputs: Inputs, *, mesh: Mesh | None = None, split: bool = False
) -> tuple[TrainState, Logs]:
    """n_dis D updates and one G update, in the config's order; mesh, split: those of the updates.

    Returns:
      (state, logs): d_loss, d_real, d_fake [n_dis], one entry an update, and g_loss [].
    """
    logs: Logs = {}
    if config.update_order == "generator_first":
        state, logs = generator_update(config, state, inputs, mesh=mesh, split=split)

    rounds = {name: a for name in (*_D_BATCH, "d_keys") if (a := getattr(inputs, name)) is not None}
    if _made_at_once(config, mesh):
        keys = None if inputs.d_keys is None else jax.vmap(partial(rng.subkey, number=rng.DROPOUT_G))(inputs.d_keys)
        generator = build(config.model).generator
        rounds["made"], moved = generator.passes(state.generator, inputs.d_latents, inputs.d_labels, keys)
        state = state._replace(generator=moved)

    def one_round(state: TrainState, part: dict[str, Array]) -> tuple[TrainState, Logs]:
        made = part.pop("made", None)
        return discriminator_update(config, state, inputs._replace(**part), made=made, mesh=mesh, split=split)

    state, d_logs = lax.scan(one_round, state, rounds, unroll=config.n_dis == 1)
    if config.update_order == "discriminator_first":
        state, logs = generator_update(config, state, inputs, mesh=mesh, split=split)
    return state._replace(step=state.step + 1), logs | d_logs


def _made_at_once(config: TrainConfig, mesh: Mesh | None) -> bool:
    """Whether G makes the images of all D updates before the first: not with other weights in each, nor to save memory,
    nor over a mesh, whose devices would exchange them."""
    norm = config.model.spectral_norm_of("generator")
    return (norm is None or norm.form == "operator") and config.n_dis > 1 and config.accumulate == 1 and mesh is None


def training_steps(
    config: TrainConfig,
    state: TrainState,
    inputs: Inputs,
    count: Array,
    *,
    mesh: Mesh | None = None,
    split: bool = False,
) -> tuple[TrainState, Logs]:
    """The first `count` of the training steps that inputs holds, as one program.

    Args:
      inputs: as training_step's, with an axis of steps in front of each array.
      count: int32 [], at least 1; not static, so that fewer steps before a log are no other program.

    Returns:
      (state, logs): logs with an axis of steps in front; zeros from count on.
    """

    def one(i: Array, carry: tuple[TrainState, Logs]) -> tuple[TrainState, Logs]:
        state, kept = carry
        state, logs = training_step(config, state, jax.tree.map(lambda x: x[i], inputs), mesh=mesh, split=split)
        return state, jax.tree.map(lambda all_steps, x: all_steps.at[i].set(x), kept, logs)

    steps, first = len(inputs.g_latents), jax.tree.map(lambda x: x[0], inputs)
    logs = jax.eval_shape(partial(training_step, config), state, first)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros((steps, *x.shape), x.dtype), logs)
    return lax.fori_loop(0, count, one, (state, nothing))


@lru_cache(maxsize=16)
def train_step(config: TrainConfig) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    """The jitted training step of a config: (state, inputs) -> (state, logs); the state given is donated."""
    return jax.jit(partial(training_step, config), donate_argnums=0)
