"""One D update, one G update, one training step: pure functions of a GAN, state and inputs. Nothing here is random.

Both networks run in training mode in every update: each pass of D moves u and v by its power iterations, each pass
of G moves its running statistics, also where no gradient is taken. A batch in several parts (gan.accumulate) moves
u and v as a whole one does, and its gradient is the parts' mean: where nothing ties the images together (batch
normalisation, a relativistic loss), the same gradient.

A GAN is what each function takes first; of a config, the GAN that it names.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.optim import NumberByNumber, average_decay, clip, descend, moving_average
from jax_sngan.core.penalties import draw
from jax_sngan.core.pixels import dequantize, to_float
from jax_sngan.core.precision import at_its_precision
from jax_sngan.core.sharding import mean_of_devices, update_in_parts
from jax_sngan.core.state import TrainState
from jax_sngan.models.network import Tree, Variables
from jax_sngan.nn import rng

Logs = dict[str, Array]
_D_BATCH = ("real_images", "d_latents", "real_labels", "d_labels")  # what one D update takes, beside its key
_G_BATCH = ("g_latents", "g_labels")
_REAL_BATCH = ("real_images", "real_labels")


class _Seen(NamedTuple):
    """What D is shown in one update: images [n, h, w, c] in [-1, 1], their classes, and numbers for the penalty."""

    real: Array
    fake: Array
    real_labels: Array | None
    fake_labels: Array | None
    drawn: dict[str, Array]


@at_its_precision
def discriminator_update(
    gan: GAN,
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
      mesh: that the batch is split over; split: whether the optimisers' states are, too.
    Returns:
      (state, {"d_loss", "d_real", "d_fake"}): the loss and the mean scores, each []; with a penalty also
      "d_penalty", its part of the loss.
    """
    networks = gan.networks
    generator = state.generator if made is not None else networks.generator.iterate(state.generator)
    moved = networks.discriminator.iterates(state.discriminator, passes(gan))

    def part(carry: tuple[Variables, Variables], inputs: Inputs) -> tuple[Any, tuple[Tree, Logs]]:
        generator, discriminator = carry
        key, fake = inputs.d_keys, made
        if fake is None:
            fake, generator = networks.generator.apply(
                generator, inputs.d_latents, inputs.d_labels, train=True, key=_use(key, rng.DROPOUT_G), hold=True
            )
        real = _augmented(gan, real_images(gan, inputs.real_images, key), key, rng.AUGMENT_REAL)
        fake = _augmented(gan, fake, key, rng.AUGMENT_FAKE)
        drawn = {} if gan.penalty is None else draw(gan.penalty, real, partial(_subkey, key))
        seen = _Seen(real, fake, inputs.real_labels, inputs.d_labels, drawn)

        gradient = jax.grad(partial(_discriminator_loss, gan, discriminator, moved, key), has_aux=True)
        if mesh is not None and gan.images_apart and len(real) % mesh.size == 0:

            def of_a_part(params: Tree, seen: _Seen) -> tuple[Tree, Logs]:
                gradients, (_, logs) = gradient(params, seen)
                return gradients, logs

            return (generator, discriminator), mean_of_devices(mesh, of_a_part, discriminator.params, seen)
        gradients, (after, logs) = gradient(discriminator.params, seen)
        return (generator, after), (gradients, logs)

    carry, batched = (generator, state.discriminator), {name: getattr(inputs, name) for name in _D_BATCH}
    (generator, after), (gradients, logs) = _in_parts(gan.accumulate, part, carry, inputs, batched, "d_keys")

    def descended(params: Tree, given: tuple[Tree, Array], opt: Any) -> tuple[Tree, Any]:
        gradients, step = given
        params, opt = descend(gan.discriminator_optimizer, gradients, opt, params, step)
        return clip(params, gan.weight_clip) if gan.weight_clip else params, opt

    params, opt = update_in_parts(
        mesh if split else None,
        descended,
        state.discriminator.params,
        (gradients, state.step),
        state.discriminator_opt,
        number_by_number=isinstance(gan.discriminator_optimizer, NumberByNumber),
    )
    discriminator = after._replace(params=params, spectral=moved[-1])
    return state._replace(generator=generator, discriminator=discriminator, discriminator_opt=opt), logs


def real_images(gan: GAN, images: Array, key: Array | None) -> Array:
    """Real images as D sees them: bytes brought to [-1, 1], with noise if the GAN says so, floats as they are."""
    dtype = jnp.dtype(gan.dtype)
    if images.dtype != jnp.uint8:
        return images.astype(dtype)
    if not gan.dequantize:
        return to_float(images, dtype)
    return dequantize(images, rng.uniform(_subkey(key, rng.DEQUANTIZE), images.shape, dtype))


def _augmented(gan: GAN, images: Array, key: Array | None, use: int) -> Array:
    """Images [n, h, w, c] as the GAN's augmentation changes them."""
    return images if gan.augment is None else gan.augment(images, _subkey(key, use))


def passes(gan: GAN) -> int:
    """Passes of D in one D update, each with its power iterations."""
    return (2 if gan.passes == "separate" else 1) + (gan.penalty.passes if gan.penalty else 0)


def generator_passes(gan: GAN) -> int:
    """Passes of D in one G update: of real images too where G's loss sees them."""
    return 2 if gan.loss.g_sees_real and gan.passes == "separate" else 1


def _discriminator_loss(
    gan: GAN, discriminator: Variables, moved: list[Tree], key: Array | None, params: Tree, seen: _Seen
) -> tuple[Array, tuple[Variables, Logs]]:
    """([] D's loss at params, (D's variables after its passes, logs)); moved: u and v of each pass."""
    real_scores, fake_scores, after = score_both(gan, discriminator._replace(params=params), moved, seen, key)
    value = gan.loss.d(real_scores, fake_scores)
    logs = {"d_real": jnp.mean(real_scores), "d_fake": jnp.mean(fake_scores)}
    if gan.penalty is not None:
        logs["d_penalty"] = penalty(gan, after, moved[-gan.penalty.passes :], seen, key)
        value = value + logs["d_penalty"]
    return value, (after, logs | {"d_loss": value})


def score_both(
    gan: GAN, variables: Variables, moved: list[Tree], seen: _Seen, key: Array | None
) -> tuple[Array, Array, Variables]:
    """D's scores [n] of real and of generated images, and its variables after the two passes or the joint one.

    moved: u and v of each pass.
    """
    real, fake, real_labels, fake_labels, _ = seen

    def scores(images: Array, labels: Array | None, i: int, use: int) -> tuple[Array, Variables]:
        held = variables._replace(spectral=moved[i])
        return gan.networks.discriminator.apply(held, images, labels, train=True, key=_use(key, use), hold=True)

    if gan.passes == "separate":
        real_scores, variables = scores(real, real_labels, 0, rng.DROPOUT_REAL)
        fake_scores, variables = scores(fake, fake_labels, 1, rng.DROPOUT_FAKE)
        return real_scores, fake_scores, variables
    labels = None if real_labels is None or fake_labels is None else jnp.concatenate([real_labels, fake_labels])
    both, variables = scores(jnp.concatenate([real, fake]), labels, 0, rng.DROPOUT_REAL)
    return both[: len(real)], both[len(real) :], variables


def penalty(gan: GAN, variables: Variables, moved: list[Tree], seen: _Seen, key: Array | None) -> Array:
    """[] the GAN's penalty, by more passes of D, whose u and v moved has; the classes are the real images'."""
    assert gan.penalty is not None

    def score(images: Array, i: int = 0) -> Array:
        held, own_key = variables._replace(spectral=moved[i]), _use(key, rng.DROPOUT_PENALTY)
        return gan.networks.discriminator.apply(held, images, seen.real_labels, train=True, key=own_key, hold=True)[0]

    return gan.penalty.value(score, seen.real, seen.fake, seen.drawn)


@at_its_precision
def generator_update(
    gan: GAN, state: TrainState, inputs: Inputs, *, mesh: Mesh | None = None, split: bool = False
) -> tuple[TrainState, Logs]:
    """One G update and the average's.

    Args:
      inputs: g_latents [generator_batch, latent_size], g_labels, g_key; where G's loss sees real images also
        real_images [batch, h, w, c] and real_labels.
      mesh: that the batch is split over; split: whether the optimisers' states and the average are, too.
    Returns:
      (state, {"g_loss"}), the loss [].
    """
    networks, sees_real = gan.networks, gan.loss.g_sees_real
    moved = networks.discriminator.iterates(state.discriminator, generator_passes(gan))
    first = (networks.generator.iterate(state.generator), state.discriminator._replace(spectral=moved[0]))

    def part(carry: tuple[Variables, Variables], inputs: Inputs) -> tuple[Any, tuple[Tree, Logs]]:
        generator, discriminator = carry
        key, labels = inputs.g_key, inputs.g_labels

        def loss(params: Tree) -> tuple[Array, tuple[Variables, Variables]]:
            own = generator._replace(params=params)
            made, after = networks.generator.apply(
                own, inputs.g_latents, labels, train=True, key=_use(key, rng.DROPOUT_G), hold=True
            )
            fake = _augmented(gan, made, key, rng.AUGMENT_FAKE)
            real_scores = None
            if sees_real:
                real = _augmented(gan, real_images(gan, inputs.real_images, key), key, rng.AUGMENT_REAL)
                seen = _Seen(real, fake, inputs.real_labels, labels, {})
                real_scores, scores, d_after = score_both(gan, discriminator, moved, seen, key)
            else:
                scores, d_after = networks.discriminator.apply(
                    discriminator, fake, labels, train=True, key=_use(key, rng.DROPOUT_FAKE), hold=True
                )
            return gan.loss.g(real_scores, scores), (after, d_after)

        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(generator.params)
        return carry, (gradients, {"g_loss": value})

    batched = {name: getattr(inputs, name) for name in _G_BATCH + (_REAL_BATCH if sees_real else ())}
    (generator, discriminator), (gradients, logs) = _in_parts(gan.accumulate, part, first, inputs, batched, "g_key")

    def descended(params: Tree, given: tuple[Tree, Array], kept: tuple[Any, Tree]) -> tuple[Tree, tuple[Any, Tree]]:
        (gradients, step), (opt, average) = given, kept
        params, opt = descend(gan.generator_optimizer, gradients, opt, params, step)
        return params, (opt, moving_average(average, params, average_decay(gan.ema_decay, gan.ema_warmup, step)))

    params, (opt, average) = update_in_parts(
        mesh if split else None,
        descended,
        state.generator.params,
        (gradients, state.step),
        (state.generator_opt, state.generator_ema),
        number_by_number=isinstance(gan.generator_optimizer, NumberByNumber),
    )
    generator = generator._replace(params=params)
    state = state._replace(generator=generator, discriminator=discriminator, generator_ema=average, generator_opt=opt)
    return state, logs


def _in_parts(
    n: int, part: Any, carry: Any, inputs: Inputs, batched: dict[str, Array | None], key_name: str
) -> tuple[Any, tuple[Tree, Logs]]:
    """Runs part(carry, inputs) -> (carry, (gradients, logs)) over n parts of a batch; the results are means."""
    if n == 1:
        return part(carry, inputs)
    split = {name: a.reshape(n, len(a) // n, *a.shape[1:]) for name, a in batched.items() if a is not None}
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
    """The key of one use; the GAN says that it is needed, so it must be there."""
    if key is None:
        raise ValueError("these inputs have no keys, but the GAN draws more than latents (GAN.needs_keys)")
    return rng.subkey(key, number)


def _use(key: Array | None, number: int) -> Array | None:
    return None if key is None else rng.subkey(key, number)


@at_its_precision
def training_step(
    gan: GAN, state: TrainState, inputs: Inputs, *, mesh: Mesh | None = None, split: bool = False
) -> tuple[TrainState, Logs]:
    """n_dis D updates and one G update, in the GAN's order; mesh, split: those of the updates.

    Returns:
      (state, logs): d_loss, d_real, d_fake [n_dis], one entry an update, and g_loss [].
    """
    logs: Logs = {}
    last = {name: a[-1] for name in _REAL_BATCH if (a := getattr(inputs, name)) is not None}
    update_g = partial(generator_update, gan, inputs=inputs._replace(**last), mesh=mesh, split=split)
    if gan.update_order == "generator_first":
        state, logs = update_g(state)

    rounds = {name: a for name in (*_D_BATCH, "d_keys") if (a := getattr(inputs, name)) is not None}
    if _made_at_once(gan, state, mesh):
        keys = None if inputs.d_keys is None else jax.vmap(partial(rng.subkey, number=rng.DROPOUT_G))(inputs.d_keys)
        generator = gan.networks.generator
        rounds["made"], moved = generator.passes(state.generator, inputs.d_latents, inputs.d_labels, keys)
        state = state._replace(generator=moved)

    def one_round(state: TrainState, part: dict[str, Array]) -> tuple[TrainState, Logs]:
        made = part.pop("made", None)
        return discriminator_update(gan, state, inputs._replace(**part), made=made, mesh=mesh, split=split)

    state, d_logs = lax.scan(one_round, state, rounds, unroll=gan.n_dis == 1)
    if gan.update_order == "discriminator_first":
        state, logs = update_g(state)
    return state._replace(step=state.step + 1), logs | d_logs


def _made_at_once(gan: GAN, state: TrainState, mesh: Mesh | None) -> bool:
    """Whether G makes the images of all D updates before the first: not with other weights in each, nor to save memory,
    nor over a mesh, whose devices would exchange them."""
    return not state.generator.spectral and gan.n_dis > 1 and gan.accumulate == 1 and mesh is None


def training_steps(
    gan: GAN | TrainConfig,
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
        state, logs = training_step(gan, state, jax.tree.map(lambda x: x[i], inputs), mesh=mesh, split=split)
        return state, jax.tree.map(lambda all_steps, x: all_steps.at[i].set(x), kept, logs)

    steps, first = len(inputs.g_latents), jax.tree.map(lambda x: x[0], inputs)
    logs = jax.eval_shape(partial(training_step, gan), state, first)[1]
    nothing = jax.tree.map(lambda x: jnp.zeros((steps, *x.shape), x.dtype), logs)
    return lax.fori_loop(0, count, one, (state, nothing))


def train_step(what: GAN | TrainConfig) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    """The jitted training step of a GAN: (state, inputs) -> (state, logs); the state given is donated.

    Of GANs of equal fields, and of configs that name one GAN, it is the same function, compiled once.
    """
    return _train_step(as_gan(what))


@lru_cache(maxsize=16)
def _train_step(gan: GAN) -> Callable[[TrainState, Inputs], tuple[TrainState, Logs]]:
    return jax.jit(partial(training_step, gan), donate_argnums=0)
