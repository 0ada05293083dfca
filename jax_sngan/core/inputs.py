"""What training step k consumes, drawn from (seed, k, rollbacks) alone: so a resumed run sees what the whole run saw.

A rollback, the return to a checkpoint after a NaN, makes every later step's inputs others; none: those of (seed, k).
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.config.schema import TrainConfig
from jax_sngan.data.streaming import ImageArray, take

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


def draw_inputs(config: TrainConfig, data: Images, step: int, rollbacks: int = 0) -> Inputs:
    """The inputs of training step `step` (from 0) of a run that went back `rollbacks` times.

    Real images come in a new random order each epoch, each once an epoch; a step takes the next n_dis * batch of them.
    Latents and labels are drawn in float32 and int32 whatever the networks' type, so that every type sees the same.

    Raises:
      ValueError: the images are not those that the config's networks take.
    """
    return _draw_whole(config, *real_batch(config, data, step, rollbacks), np.uint32(step), np.uint32(rollbacks))


def real_batch(
    config: TrainConfig, data: Images, step: int, rollbacks: int = 0, columns: np.ndarray | slice = slice(None)
) -> tuple[np.ndarray, np.ndarray | None]:
    """The real images [n_dis, batch, h, w, c] of a step and their labels int32 [n_dis, batch], None if unconditional.

    columns: which of each batch's; the other images are not read.

    Raises:
      ValueError: as draw_inputs.
    """
    want = (config.model.image_size, config.model.image_size, config.model.channels)
    if data.images.shape[1:] != want:
        raise ValueError(f"images must be [n, {want[0]}, {want[1]}, {want[2]}], got {list(data.images.shape)}")
    rows = step_rows(config, len(data.images), step, rollbacks, columns)
    shape = (config.n_dis, len(rows) // config.n_dis)
    labels = data.labels[rows].astype(np.int32).reshape(shape) if config.model.num_classes else None
    return take(data.images, rows, step, rollbacks).reshape(*shape, *want), labels


def input_shapes(config: TrainConfig) -> Inputs:
    """The shapes and types that draw_inputs returns."""
    m, rounds, latents = config.model, (config.n_dis, config.batch_size), (config.generator_batch,)
    of: Any = jax.ShapeDtypeStruct

    def labels(shape: tuple[int, ...]) -> Any:
        return of(shape, jnp.int32) if m.num_classes else None

    return Inputs(
        real_images=of(
            (*rounds, m.image_size, m.image_size, m.channels), jnp.float32 if m.channels == 2 else jnp.uint8
        ),
        d_latents=of((*rounds, m.latent_size), jnp.dtype(m.dtype)),
        g_latents=of((*latents, m.latent_size), jnp.dtype(m.dtype)),
        real_labels=labels(rounds),
        d_labels=labels(rounds),
        g_labels=labels(latents),
        d_keys=of((config.n_dis, 2), jnp.uint32) if config.needs_keys else None,
        g_key=of((2,), jnp.uint32) if config.needs_keys else None,
    )


def step_rows(
    config: TrainConfig, n: int, step: int, rollbacks: int = 0, columns: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """[n_dis * batch] rows of the n real images that step `step` takes; columns: as real_batch.

    A streaming.Plan once config, n and columns are given.
    """
    rows = image_order(config.seed, step, config.n_dis * config.batch_size, n, rollbacks)
    return rows.reshape(config.n_dis, config.batch_size)[:, columns].ravel()


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


def draw(config: TrainConfig, images: Array, labels: Array | None, step: Array, rollbacks: Array) -> Inputs:
    """All of a step's inputs from its real batch: mirrored where the config says so, with latents, labels and keys."""
    m, rounds, batch = config.model, config.n_dis, config.batch_size
    key = _key(config.seed, _LATENTS)
    key = jax.random.wrap_key_data(  # not folded in where there was no rollback: those are the inputs of (seed, step)
        jnp.where(rollbacks > 0, jax.random.key_data(jax.random.fold_in(key, rollbacks)), jax.random.key_data(key)),
        impl="threefry2x32",
    )
    keys = iter(jax.random.split(jax.random.fold_in(key, step), 6))
    dtype = jnp.dtype(m.dtype)
    d_latents = latents_from(next(keys), (rounds, batch), m.latent_size, dtype)
    g_latents = latents_from(next(keys), (config.generator_batch,), m.latent_size, dtype)
    flip_key, d_key, g_key, update_key = keys
    if config.flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (rounds * batch, 1, 1, 1)).reshape(rounds, batch, 1, 1, 1)
        images = jnp.where(mirrored, images[:, :, :, ::-1], images)
    inputs = Inputs(images, d_latents, g_latents)
    if config.needs_keys:
        own = jax.random.key_data(jax.random.split(update_key, rounds + 1))
        inputs = inputs._replace(d_keys=own[:rounds], g_key=own[rounds])
    if labels is None:
        return inputs
    return inputs._replace(
        real_labels=labels,
        d_labels=jax.random.randint(d_key, (rounds, batch), 0, m.num_classes, jnp.int32),
        g_labels=jax.random.randint(g_key, (config.generator_batch,), 0, m.num_classes, jnp.int32),
    )


_draw_whole = jax.jit(draw, static_argnums=0)


def latents_from(key: Array, shape: tuple[int, ...], latent_size: int, dtype: jnp.dtype) -> Array:
    """N(0, 1) [*shape, latent_size], drawn in float32."""
    return jax.random.normal(key, (*shape, latent_size), jnp.float32).astype(dtype)


def sample_latents(seed: int, num: int, latent_size: int, dtype: jnp.dtype) -> Array:
    """[num, latent_size] for pictures; row i is the same whatever num is."""
    keys = jax.vmap(partial(jax.random.fold_in, _key(seed, _SAMPLES)))(jnp.arange(num, dtype=jnp.uint32))
    return jax.vmap(lambda k: latents_from(k, (), latent_size, dtype))(keys)


def _key(seed: int, stream: int) -> Array:
    """One stream of a seed; the generator is named, so that jax's default cannot change a run."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)
