"""What training step k consumes, drawn from (seed, k, rollbacks) alone: so a resumed run sees what the whole run saw.

A rollback, the return to a checkpoint after a NaN, makes every later step's inputs others; none: those of (seed, k).
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import BATCH_SIZE, GAN, SEED, as_gan
from jax_sngan.data.streaming import ImageArray, take
from jax_sngan.system.errors import UserError

_ORDER, _LATENTS, _SAMPLES = 0, 1, 2  # streams of one seed


class Inputs(NamedTuple):
    """One training step's inputs; labels are None where the networks are unconditional."""

    real_images: Array  # uint8 [n_dis, batch, h, w, c]; floats are taken as the networks' already
    d_latents: Array  # [n_dis, batch, latent_size], N(0, 1)
    g_latents: Array  # [generator_batch, latent_size], N(0, 1)
    real_labels: Array | None = None  # int32 [n_dis, batch]
    d_labels: Array | None = None  # int32 [n_dis, batch]
    g_labels: Array | None = None  # int32 [generator_batch]
    # Of what else an update draws (nn/rng.py); None where it draws nothing.
    d_keys: Array | None = None  # uint32 [n_dis, 2]
    g_key: Array | None = None  # uint32 [2]


class Images(Protocol):
    """What is drawn from: data.Dataset, or anything with these two."""

    @property
    def images(self) -> ImageArray: ...  # uint8 [n, h, w, c], or float32 points
    @property
    def labels(self) -> np.ndarray: ...  # int32 [n]


@dataclass(frozen=True)
class Drawing:
    """What the inputs of a training depend on beside its data and the step: a GAN's part of it, and the training's."""

    batch_size: int  # real images in one D update
    seed: int
    n_dis: int
    generator_batch: int  # latents in one G update
    latent_size: int
    image_shape: tuple[int, int, int]
    num_classes: int
    real_dtype: str
    dtype: str
    flip: bool
    needs_keys: bool


@lru_cache(maxsize=64)
def drawing(
    what: GAN | TrainConfig | Drawing,
    training: TrainConfig | None = None,
    *,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Drawing:
    """The Drawing of a GAN, of a config, or as it is.

    training: whose batch size and seed count; None: the config's own, and 64 and 0 of a GAN, which has none.
    batch_size, seed: in place of those.

    Raises:
      UserError: batch_size cannot be computed in the GAN's parts.
    """
    if isinstance(what, Drawing):
        return what
    gan = as_gan(what)
    training = training or (what if isinstance(what, TrainConfig) else None)
    size, start = (training.batch_size, training.seed) if training else (BATCH_SIZE, SEED)
    size, start = size if batch_size is None else batch_size, start if seed is None else seed
    if size < 1 or size % gan.accumulate:
        raise UserError(f"batch_size must be a multiple of accumulate={gan.accumulate}, got {size}")
    return Drawing(
        batch_size=size,
        seed=start,
        n_dis=gan.n_dis,
        generator_batch=size * gan.generator_batch_multiplier,
        latent_size=gan.latent_size,
        image_shape=gan.image_shape,
        num_classes=gan.num_classes,
        real_dtype=gan.real_dtype,
        dtype=gan.dtype,
        flip=gan.flip,
        needs_keys=gan.needs_keys,
    )


def draw_inputs(
    what: GAN | TrainConfig | Drawing,
    data: Images,
    step: int,
    rollbacks: int = 0,
    *,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Inputs:
    """The inputs of training step `step` (from 0) of a run that went back `rollbacks` times.

    Real images come in a new random order each epoch, each once an epoch; a step takes the next n_dis * batch of them.
    Latents and labels are drawn in float32 and int32 whatever the networks' type, so that every type sees the same.

    Args:
      batch_size, seed: as `drawing`: a config has its own, a GAN has 64 and 0 unless they are given.
    Raises:
      ValueError: the images are not those that the networks take.
    """
    own = drawing(what, batch_size=batch_size, seed=seed)
    return _draw_whole(own, *real_batch(own, data, step, rollbacks), np.uint32(step), np.uint32(rollbacks))


def real_batch(
    what: GAN | TrainConfig | Drawing,
    data: Images,
    step: int,
    rollbacks: int = 0,
    columns: np.ndarray | slice = slice(None),
) -> tuple[np.ndarray, np.ndarray | None]:
    """The real images [n_dis, batch, h, w, c] of a step and their labels int32 [n_dis, batch], None if unconditional.

    columns: which of each batch's; the other images are not read.

    Raises:
      ValueError: as draw_inputs.
    """
    own = drawing(what)
    if data.images.shape[1:] != own.image_shape:
        raise ValueError(f"images must be [n, {', '.join(map(str, own.image_shape))}], got {list(data.images.shape)}")
    rows = step_rows(own, len(data.images), step, rollbacks, columns)
    shape = (own.n_dis, len(rows) // own.n_dis)
    labels = data.labels[rows].astype(np.int32).reshape(shape) if own.num_classes else None
    return take(data.images, rows, step, rollbacks).reshape(*shape, *own.image_shape), labels


def input_shapes(what: GAN | TrainConfig | Drawing) -> Inputs:
    """The shapes and types that draw_inputs returns."""
    own = drawing(what)
    rounds, latents, dtype = (own.n_dis, own.batch_size), (own.generator_batch,), jnp.dtype(own.dtype)
    of: Any = jax.ShapeDtypeStruct

    def labels(shape: tuple[int, ...]) -> Any:
        return of(shape, jnp.int32) if own.num_classes else None

    return Inputs(
        real_images=of((*rounds, *own.image_shape), jnp.dtype(own.real_dtype)),
        d_latents=of((*rounds, own.latent_size), dtype),
        g_latents=of((*latents, own.latent_size), dtype),
        real_labels=labels(rounds),
        d_labels=labels(rounds),
        g_labels=labels(latents),
        d_keys=of((own.n_dis, 2), jnp.uint32) if own.needs_keys else None,
        g_key=of((2,), jnp.uint32) if own.needs_keys else None,
    )


def step_rows(
    what: GAN | TrainConfig | Drawing,
    n: int,
    step: int,
    rollbacks: int = 0,
    columns: np.ndarray | slice = slice(None),
) -> np.ndarray:
    """[n_dis * batch] rows of the n real images that step `step` takes; columns: as real_batch.

    A streaming.Plan once what, n and columns are given.
    """
    own = drawing(what)
    rows = image_order(own.seed, step, own.n_dis * own.batch_size, n, rollbacks)
    return rows.reshape(own.n_dis, own.batch_size)[:, columns].ravel()


def image_order(seed: int, step: int, count: int, n: int, rollbacks: int = 0) -> np.ndarray:
    """[count] rows of the n images that step `step` takes, when each step takes count.

    A rollback changes the order of every epoch, also of the one it happens in: that one alone may then hold an image
    twice.
    """
    positions = np.arange(step * count, (step + 1) * count)
    epochs = positions // n
    return np.concatenate(
        [_permutation(seed, int(epoch), n, rollbacks)[positions[epochs == epoch] % n] for epoch in np.unique(epochs)]
    )


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int, rollbacks: int) -> np.ndarray:
    bits = np.random.Philox(key=[seed, _ORDER], counter=[0, 0, rollbacks, epoch])
    return np.random.Generator(bits).permutation(n)


def draw(own: Drawing, images: Array, labels: Array | None, step: Array, rollbacks: Array) -> Inputs:
    """All of a step's inputs from its real batch: mirrored where that is asked for, with latents, labels and keys."""
    rounds, batch = own.n_dis, own.batch_size
    key = _key(own.seed, _LATENTS)
    key = jax.random.wrap_key_data(  # not folded in where there was no rollback: those are the inputs of (seed, step)
        jnp.where(rollbacks > 0, jax.random.key_data(jax.random.fold_in(key, rollbacks)), jax.random.key_data(key)),
        impl="threefry2x32",
    )
    keys = iter(jax.random.split(jax.random.fold_in(key, step), 6))
    dtype = jnp.dtype(own.dtype)
    d_latents = latents_from(next(keys), (rounds, batch), own.latent_size, dtype)
    g_latents = latents_from(next(keys), (own.generator_batch,), own.latent_size, dtype)
    flip_key, d_key, g_key, update_key = keys
    if own.flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (rounds * batch, 1, 1, 1)).reshape(rounds, batch, 1, 1, 1)
        images = jnp.where(mirrored, images[:, :, :, ::-1], images)
    inputs = Inputs(images, d_latents, g_latents)
    if own.needs_keys:
        each = jax.random.key_data(jax.random.split(update_key, rounds + 1))
        inputs = inputs._replace(d_keys=each[:rounds], g_key=each[rounds])
    if labels is None:
        return inputs
    return inputs._replace(
        real_labels=labels,
        d_labels=jax.random.randint(d_key, (rounds, batch), 0, own.num_classes, jnp.int32),
        g_labels=jax.random.randint(g_key, (own.generator_batch,), 0, own.num_classes, jnp.int32),
    )


_draw_whole = jax.jit(draw, static_argnums=0)


def latents_from(key: Array, shape: tuple[int, ...], latent_size: int, dtype: jnp.dtype) -> Array:
    """N(0, 1) [*shape, latent_size], drawn in float32."""
    return jax.random.normal(key, (*shape, latent_size), jnp.float32).astype(dtype)


def sample_latents(seed: int, num: int, latent_size: int, dtype: jnp.dtype) -> Array:
    """[num, latent_size] for pictures; row i is the same whatever num is."""
    return _sample_latents(np.uint32(seed % 2**32), num, latent_size, dtype)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _sample_latents(seed: Array, num: int, latent_size: int, dtype: jnp.dtype) -> Array:
    keys = jax.vmap(partial(jax.random.fold_in, _key(seed, _SAMPLES)))(jnp.arange(num, dtype=jnp.uint32))
    return jax.vmap(lambda k: latents_from(k, (), latent_size, dtype))(keys)


def _key(seed: int | Array, stream: int) -> Array:
    """One stream of a seed; the generator is named, so that jax's default cannot change a run."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)
