"""One D update, one G update, one training step: pure functions of a GAN, state and inputs. Nothing here is random.

Both networks run in training mode in every update: each pass of D moves u and v by its power iterations, each pass
of G moves its running statistics, also where no gradient is taken. A batch in several parts (gan.accumulate) moves
u and v as a whole one does, and its gradient is the parts' mean: where nothing ties the images together (batch
normalisation, a relativistic loss), the same gradient.

A config stands for the GAN that it names.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core import watch
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.optim import NumberByNumber, average_decay, clip, descend, moving_average
from jax_sngan.core.parts import in_parts, mean_of_parts
from jax_sngan.core.penalties import draw
from jax_sngan.core.pixels import dequantize, to_float
from jax_sngan.core.precision import at_its_precision
from jax_sngan.core.sharding import mean_of_devices, update_in_parts
from jax_sngan.core.state import TrainState
from jax_sngan.models.network import Tree, Variables
from jax_sngan.nn import rng

Logs = dict[str, Array]
Key = Array | None  # uint32 [2]; None where nothing is drawn
_REAL = ("real_images", "real_labels")
_D_BATCH = (*_REAL, "d_latents", "d_labels")  # what one D update takes, beside its key
_G_BATCH = ("g_latents", "g_labels")


class _Seen(NamedTuple):
    """What D is shown in one update: images [n, h, w, c] in [-1, 1], their classes, and numbers for the penalty."""

    real: Array | None  # None: generated images alone
    fake: Array
    real_labels: Array | None
    fake_labels: Array | None
    drawn: dict[str, Array]


@at_its_precision
def discriminator_update(
    gan: GAN, state: TrainState, inputs: Inputs, *, made: Array | None = None, mesh: Mesh | None = None,
    split: bool = False, by_layer: bool = False,
) -> tuple[TrainState, Logs]:  # fmt: skip
    """One D update.

    Args:
      inputs: of this update alone: real_images [batch, h, w, c], d_latents [batch, latent_size], labels, d_keys [2].
      made: the generated images [batch, h, w, c], if G's pass is done and its variables have moved.
      mesh: that the batch is split over; split: whether the optimisers' states are, too.
      by_layer: log each layer's norms too.
    Returns:
      (state, logs): "d_loss" and, with a penalty, "d_penalty", its part of the loss; the numbers of watch.of_scores,
      watch.spreads and watch.norms; each [].
    """
    networks = gan.networks
    generator = state.generator if made is not None else networks.generator.iterate(state.generator)
    moved = networks.discriminator.iterates(state.discriminator, passes(gan))

    def part(carry: tuple[Variables, Variables], inputs: Inputs) -> tuple[Any, tuple[Tree, Logs]]:
        (generator, discriminator), key, fake = carry, inputs.d_keys, made
        if fake is None:
            fake, generator = _generate(gan, generator, inputs.d_latents, inputs.d_labels, key)
        seen = _show(gan, inputs.real_images, fake, inputs.real_labels, inputs.d_labels, key)
        if gan.penalty is not None and seen.real is not None:
            seen = seen._replace(drawn=draw(gan.penalty, seen.real, partial(_subkey, key)))
        gradient = partial(_discriminator_gradient, gan, discriminator, moved, key)
        if not gan.images_apart or (mesh is not None and len(fake) % mesh.size):
            after, found = gradient(discriminator.params, seen)
            return (generator, after), found

        def alone(params: Tree, seen: _Seen) -> tuple[Tree, Logs]:
            return gradient(params, seen)[1]

        if mesh is not None:
            found = mean_of_devices(mesh, alone, discriminator.params, seen)
        else:
            found = mean_of_parts(alone, discriminator.params, fake, seen)
        return (generator, discriminator), found

    first = (generator, state.discriminator)
    (generator, after), (gradients, logs) = in_parts(gan.accumulate, part, first, inputs, _D_BATCH, "d_keys")

    def descended(params: Tree, given: tuple[Tree, Array], opt: Any) -> tuple[Tree, Any]:
        gradients, step = given
        params, opt = descend(gan.discriminator_optimizer, gradients, opt, params, step)
        return clip(params, gan.weight_clip) if gan.weight_clip else params, opt

    where, given, opt = (mesh if split else None), (gradients, state.step), state.discriminator_opt
    apart = isinstance(gan.discriminator_optimizer, NumberByNumber)
    params, opt = update_in_parts(where, descended, state.discriminator.params, given, opt, number_by_number=apart)
    discriminator = after._replace(params=params, spectral=moved[-1])
    logs = watch.spreads(logs) | watch.norms("d", gradients, state.discriminator.params, params, by_layer=by_layer)
    return state._replace(generator=generator, discriminator=discriminator, discriminator_opt=opt), logs


def _generate(
    gan: GAN, generator: Variables, latents: Array, labels: Array | None, key: Key
) -> tuple[Array, Variables]:
    """Generated images [n, h, w, c] of a training pass by the u and v that are there, and G's variables after it."""
    own = _use(key, rng.DROPOUT_G)
    return gan.networks.generator.apply(generator, latents, labels, train=True, key=own, hold=True)


def _show(
    gan: GAN, real: Array | None, fake: Array, real_labels: Array | None, fake_labels: Array | None, key: Key
) -> _Seen:
    """Real images, as they were drawn, and generated ones as D sees them."""
    if real is not None:
        real = _augmented(gan, real_images(gan, real, key), key, rng.AUGMENT_REAL)
    return _Seen(real, _augmented(gan, fake, key, rng.AUGMENT_FAKE), real_labels, fake_labels, {})


def real_images(gan: GAN, images: Array, key: Key) -> Array:
    """Real images as D sees them: bytes brought to [-1, 1], with noise if the GAN says so, floats as they are."""
    dtype = jnp.dtype(gan.dtype)
    if images.dtype != jnp.uint8:
        return images.astype(dtype)
    if not gan.dequantize:
        return to_float(images, dtype)
    return dequantize(images, rng.uniform(_subkey(key, rng.DEQUANTIZE), images.shape, dtype))


def _augmented(gan: GAN, images: Array, key: Key, use: int) -> Array:
    return images if gan.augment is None else gan.augment(images, _subkey(key, use))


def passes(gan: GAN) -> int:
    """Passes of D in one D update, each with its power iterations."""
    return (2 if gan.passes == "separate" else 1) + (gan.penalty.passes if gan.penalty else 0)


def generator_passes(gan: GAN) -> int:
    """Passes of D in one G update: of real images too where G's loss sees them."""
    return 2 if gan.loss.g_sees_real and gan.passes == "separate" else 1


def _discriminator_gradient(
    gan: GAN, discriminator: Variables, moved: list[Tree], key: Key, params: Tree, seen: _Seen
) -> tuple[Variables, tuple[Tree, Logs]]:
    """(D's variables after its passes, (the gradient of its loss at params, logs)); moved: u and v of each pass."""

    def loss(params: Tree) -> tuple[Array, tuple[Variables, Logs]]:
        real_scores, fake_scores, after = score_both(gan, discriminator._replace(params=params), moved, seen, key)
        value = gan.loss.d(real_scores, fake_scores)
        logs = watch.of_scores(gan.loss, real_scores, fake_scores)
        if gan.penalty is not None:
            logs["d_penalty"] = penalty(gan, after, moved[-gan.penalty.passes :], seen, key)
            value = value + logs["d_penalty"]
        return value, (after, logs | {"d_loss": value})

    gradients, (after, logs) = jax.grad(loss, has_aux=True)(params)
    return after, (gradients, logs)


def score_both(
    gan: GAN, variables: Variables, moved: list[Tree], seen: _Seen, key: Key
) -> tuple[Any, Array, Variables]:
    """D's scores [n] of real and of generated images, and its variables after the two passes or the joint one.

    moved: u and v of each pass. Where there are no real images: (None, scores, variables after the one pass).
    """
    real, fake, real_labels, fake_labels, _ = seen

    def scores(images: Array, labels: Array | None, i: int, use: int) -> tuple[Array, Variables]:
        held = variables._replace(spectral=moved[i])
        return gan.networks.discriminator.apply(held, images, labels, train=True, key=_use(key, use), hold=True)

    if real is None:
        return None, *scores(fake, fake_labels, 0, rng.DROPOUT_FAKE)
    if gan.passes == "separate":
        real_scores, variables = scores(real, real_labels, 0, rng.DROPOUT_REAL)
        fake_scores, variables = scores(fake, fake_labels, 1, rng.DROPOUT_FAKE)
        return real_scores, fake_scores, variables
    labels = None if real_labels is None or fake_labels is None else jnp.concatenate([real_labels, fake_labels])
    both, variables = scores(jnp.concatenate([real, fake]), labels, 0, rng.DROPOUT_REAL)
    return both[: len(real)], both[len(real) :], variables


def penalty(gan: GAN, variables: Variables, moved: list[Tree], seen: _Seen, key: Key) -> Array:
    """[] the GAN's penalty, by more passes of D, whose u and v moved has; the classes are the real images'."""
    assert gan.penalty is not None
    assert seen.real is not None

    def score(images: Array, i: int = 0) -> Array:
        held, own_key = variables._replace(spectral=moved[i]), _use(key, rng.DROPOUT_PENALTY)
        return gan.networks.discriminator.apply(held, images, seen.real_labels, train=True, key=own_key, hold=True)[0]

    return gan.penalty.value(score, seen.real, seen.fake, seen.drawn)


@at_its_precision
def generator_update(
    gan: GAN, state: TrainState, inputs: Inputs, *, mesh: Mesh | None = None, split: bool = False,
    by_layer: bool = False,
) -> tuple[TrainState, Logs]:  # fmt: skip
    """One G update and the average's.

    Args:
      inputs: g_latents [generator_batch, latent_size], g_labels, g_key; where G's loss sees real images also
        real_images [batch, h, w, c] and real_labels.
      mesh: that the batch is split over; split: whether the optimisers' states and the average are, too.
      by_layer: log each layer's norms too.
    Returns:
      (state, logs): "g_loss" and the numbers of watch.norms, each [].
    """
    networks = gan.networks
    moved = networks.discriminator.iterates(state.discriminator, generator_passes(gan))
    first = (networks.generator.iterate(state.generator), state.discriminator._replace(spectral=moved[0]))

    def part(carry: tuple[Variables, Variables], inputs: Inputs) -> tuple[Any, tuple[Tree, Logs]]:
        (generator, discriminator), key, labels = carry, inputs.g_key, inputs.g_labels

        def loss(params: Tree) -> tuple[Array, tuple[Variables, Variables]]:
            fake, after = _generate(gan, generator._replace(params=params), inputs.g_latents, labels, key)
            real = inputs.real_images if gan.loss.g_sees_real else None
            seen = _show(gan, real, fake, inputs.real_labels, labels, key)
            real_scores, scores, d_after = score_both(gan, discriminator, moved, seen, key)
            return gan.loss.g(real_scores, scores), (after, d_after)

        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(generator.params)
        return carry, (gradients, {"g_loss": value})

    batched = (*_G_BATCH, *_REAL) if gan.loss.g_sees_real else _G_BATCH
    (generator, discriminator), (gradients, logs) = in_parts(gan.accumulate, part, first, inputs, batched, "g_key")

    def descended(params: Tree, given: tuple[Tree, Array], kept: tuple[Any, Tree]) -> tuple[Tree, tuple[Any, Tree]]:
        (gradients, step), (opt, average) = given, kept
        params, opt = descend(gan.generator_optimizer, gradients, opt, params, step)
        return params, (opt, moving_average(average, params, average_decay(gan.ema_decay, gan.ema_warmup, step)))

    where, given, kept = (mesh if split else None), (gradients, state.step), (state.generator_opt, state.generator_ema)
    apart = isinstance(gan.generator_optimizer, NumberByNumber)
    params, (opt, average) = update_in_parts(
        where, descended, state.generator.params, given, kept, number_by_number=apart
    )
    logs = logs | watch.norms("g", gradients, state.generator.params, params, by_layer=by_layer)
    generator = generator._replace(params=params)
    state = state._replace(generator=generator, discriminator=discriminator, generator_ema=average, generator_opt=opt)
    return state, logs


def _subkey(key: Key, number: int) -> Array:
    """The key of one use; the GAN says that it is needed, so it must be there."""
    if key is None:
        raise ValueError("these inputs have no keys, but the GAN draws more than latents (GAN.needs_keys)")
    return rng.subkey(key, number)


def _use(key: Key, number: int) -> Key:
    return None if key is None else rng.subkey(key, number)


@at_its_precision
def training_step(
    gan: GAN, state: TrainState, inputs: Inputs, *, mesh: Mesh | None = None, split: bool = False
) -> tuple[TrainState, Logs]:
    """n_dis D updates and one G update, in the GAN's order; mesh, split: those of the updates.

    Returns:
      (state, logs): those of D's updates [n_dis], one entry an update, and those of G's [].
    """
    logs: Logs = {}
    last = {name: a[-1] for name in _REAL if (a := getattr(inputs, name)) is not None}
    update_g = partial(generator_update, gan, inputs=inputs._replace(**last), mesh=mesh, split=split)
    if gan.update_order == "generator_first":
        state, logs = update_g(state)

    rounds = {name: a for name in (*_D_BATCH, "d_keys") if (a := getattr(inputs, name)) is not None}
    # G makes the images of all D updates before the first: not with other weights in each, nor to save memory, nor over
    # a mesh, whose devices would exchange them.
    if not state.generator.spectral and gan.n_dis > 1 and gan.accumulate == 1 and mesh is None:
        keys = None if inputs.d_keys is None else jax.vmap(partial(rng.subkey, number=rng.DROPOUT_G))(inputs.d_keys)
        generator = gan.networks.generator
        rounds["made"], moved = generator.passes(state.generator, inputs.d_latents, inputs.d_labels, keys)
        state = state._replace(generator=moved)

    names: list[str] = []  # of the logs: known once the scan has traced a round

    def one_round(state: TrainState, part: dict[str, Array]) -> tuple[TrainState, Array]:
        made = part.pop("made", None)
        state, logs = discriminator_update(gan, state, inputs._replace(**part), made=made, mesh=mesh, split=split)
        names[:] = sorted(logs)
        # One array, as a scan writes each of its results by a kernel of its own.
        return state, jnp.stack(watch.at_one_precision([logs[name] for name in names]))

    state, rows = lax.scan(one_round, state, rounds, unroll=gan.n_dis == 1)
    d_logs = {name: rows[:, i] for i, name in enumerate(names)}
    if gan.update_order == "discriminator_first":
        state, logs = update_g(state)
    return state._replace(step=state.step + 1), logs | d_logs


def train_step(what: GAN | TrainConfig) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    """The jitted training step of a GAN: (state, inputs) -> (state, logs); the state given is donated.

    Of GANs of equal fields, and of configs that name one GAN, it is the same function, compiled once.
    """
    return _train_step(as_gan(what))


@lru_cache(maxsize=16)
def _train_step(gan: GAN) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    return jax.jit(partial(training_step, gan), donate_argnums=0)
