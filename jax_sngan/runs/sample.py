"""Images from a checkpoint: no training state, no discriminator, no torch."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.config.schema import ModelConfig, TrainConfig, replace
from jax_sngan.core.inputs import sample_latents
from jax_sngan.core.pixels import to_uint8
from jax_sngan.models.network import Tree, Variables, build
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system.errors import UserError

STANDING_SEED = 2**31  # of the latents of standing statistics: none that a person samples with by chance
CHUNK = 64  # every call of the network has this batch, so an image does not depend on how many were asked for

Items = tuple[tuple[str, Any], ...]  # of a dict


class Generator:
    """A trained generator with its averaged weights (or the raw ones) and stored batch statistics."""

    def __init__(
        self, config: TrainConfig, step: int, variables: Variables, compiler_options: Mapping[str, Any] | None = None
    ):
        """compiler_options: XLA's, of the programs that make the images."""
        self.config, self.step = config, step
        self._variables, self._options = variables, tuple((compiler_options or {}).items())

    def sample(self, num: int, *, seed: int = 0, labels: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """num images from latents drawn from seed; image i is the same whatever num is.

        Args:
          labels: int [num], or one for all; where conditional and not given, classes in turn.
        Returns:
          uint8 [num, h, w, c]; of a generator of points, float [num, 1, 1, 2].
        Raises:
          UserError: num below 1, or labels that the model does not have.
        """
        if num < 1:
            raise UserError(f"num must be at least 1, got {num}")
        m = self.config.model
        return self.images(sample_latents(seed, num, m.latent_size, jnp.dtype(m.dtype)), labels)

    def images(self, latents: Array | np.ndarray, labels: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """latents [num, latent_size] -> uint8 [num, h, w, c]; labels as in sample."""
        return self._run(generate, latents, labels)

    def pixels(self, latents: Array | np.ndarray, labels: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """As images, not rounded: float [num, h, w, c] in 0 to 255, in the model's type."""
        return self._run(generate_pixels, latents, labels)

    def standing(self, num: int) -> "Generator":
        """The same generator with batch statistics taken anew, on num latents of their own, in batches of 64.

        Running statistics lag behind the weights, and are not those of averaged weights. These are the mean over the
        batches of each batch's mean and unbiased variance, the generator in training mode, as Brock et al. 2019
        (section 4.2) take their standing statistics.

        Raises:
          UserError: as check_standing.
        """
        m = self.config.model
        check_standing(m, num)
        latents = np.asarray(sample_latents(STANDING_SEED, num, m.latent_size, jnp.dtype(m.dtype)))
        classes = self.classes(num, None)
        total = None
        for start in range(0, num, CHUNK):
            part = None if classes is None else classes[start : start + CHUNK]
            seen = jax.tree.map(
                lambda x: np.asarray(x, np.float64),
                batch_statistics(self.config, self._variables, latents[start : start + CHUNK], part, self._options),
            )
            total = seen if total is None else jax.tree.map(np.add, total, seen)
        mean = jax.tree.map(lambda t, old: (t / (num // CHUNK)).astype(old.dtype), total, self._variables.batch)
        return Generator(self.config, self.step, self._variables._replace(batch=mean), dict(self._options))

    def _run(self, network: Any, latents: Array | np.ndarray, labels: Sequence[int] | np.ndarray | None) -> np.ndarray:
        num = len(latents)
        classes = self.classes(num, labels)
        padded = math.ceil(num / CHUNK) * CHUNK
        z = np.zeros((padded, latents.shape[1]), self.config.model.dtype)
        z[:num] = latents
        out = []
        for start in range(0, padded, CHUNK):
            part = None if classes is None else np.resize(classes, padded)[start : start + CHUNK]
            out.append(network(self.config, self._variables, z[start : start + CHUNK], part, self._options))
        return np.concatenate([np.asarray(o) for o in out])[:num]

    def classes(self, num: int, labels: Sequence[int] | np.ndarray | None) -> np.ndarray | None:
        """The class of each of num images, int32 [num], or None where unconditional; labels as in sample."""
        k = self.config.model.num_classes
        if k == 0:
            if labels is not None:
                raise UserError("labels were given, but this model is unconditional")
            return None
        wanted = np.arange(num) % k if labels is None else np.asarray(labels, np.int32)
        if wanted.ndim == 0 or wanted.size == 1:
            wanted = np.full(num, wanted.reshape(()))
        if wanted.shape != (num,) or wanted.min() < 0 or wanted.max() >= k:
            raise UserError(f"labels must be {num} numbers from 0 to {k - 1}, or one of them for all")
        return wanted.astype(np.int32)

    def interpolate(
        self,
        frames: int = 48,
        num: int = 16,
        *,
        seed: int = 0,
        stops: int = 4,
        labels: Sequence[int] | np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """A closed walk of num images through `stops` latents each; frames of uint8 [num, h, w, c].

        Between two stops the latents follow the great circle, which keeps their norm typical of N(0, 1).
        """
        m = self.config.model
        points = np.asarray(sample_latents(seed, num * stops, m.latent_size, jnp.dtype(m.dtype)))
        points = points.reshape(num, stops, -1)
        walk = []
        for position in np.linspace(0, stops, frames, endpoint=False):
            i, share = int(position), position % 1
            walk.append(great_circle(points[:, i], points[:, (i + 1) % stops], share))
        return [self.images(z, labels) for z in walk]


def great_circle(a: np.ndarray, b: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Points [n, d] a share of the way from a to b at constant angular speed (Shoemake 1985); share: one, or [n, 1]."""
    cosine = np.sum(a * b, 1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    angle = np.arccos(np.clip(cosine, -1, 1))[:, None]
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


@lru_cache(maxsize=16)
def _generate(config: ModelConfig, precision: str, rounded: bool, options: Items):  # type: ignore[no-untyped-def]
    network = build(config).generator

    def images(variables: Variables, latents: Array, labels: Array | None) -> Array:
        with jax.default_matmul_precision(precision):
            made = network.apply(variables, latents, labels, train=False)[0]
        if config.channels == 2:
            return made
        return to_uint8(made) if rounded else (jnp.clip(made, -1, 1) + 1) * 127.5

    return jax.jit(images, compiler_options=dict(options) or None)


@lru_cache(maxsize=16)
def _batch_statistics(config: ModelConfig, precision: str, options: Items):  # type: ignore[no-untyped-def]
    network = build(replace(config, {"batch_norm_momentum": 1.0})).generator  # nothing of the old ones stays

    def statistics(variables: Variables, latents: Array, labels: Array | None) -> Tree:
        with jax.default_matmul_precision(precision):
            return network.apply(variables, latents, labels, train=True, hold=True)[1].batch

    return jax.jit(statistics, compiler_options=dict(options) or None)


def generate(
    config: TrainConfig,
    variables: Variables,
    latents: Array | np.ndarray,
    labels: np.ndarray | None,
    options: Items = (),
) -> Array:
    """One jitted pass in evaluation mode: latents [n, latent_size] -> uint8 [n, h, w, c], or float points."""
    return _generate(config.model, config.precision, True, options)(variables, latents, labels)


def generate_pixels(
    config: TrainConfig,
    variables: Variables,
    latents: Array | np.ndarray,
    labels: np.ndarray | None,
    options: Items = (),
) -> Array:
    """As generate, but float in 0 to 255, not rounded."""
    return _generate(config.model, config.precision, False, options)(variables, latents, labels)


def batch_statistics(
    config: TrainConfig,
    variables: Variables,
    latents: Array | np.ndarray,
    labels: np.ndarray | None,
    options: Items = (),
) -> Tree:
    """The mean and unbiased variance that each batch normalisation sees in one training pass of the generator."""
    return _batch_statistics(config.model, config.precision, options)(variables, latents, labels)


def check_standing(config: ModelConfig, num: int) -> None:
    """Passes where standing statistics can be taken on num latents.

    Raises:
      UserError: num is no multiple of 64 above 0, the generator has no batch normalisation, or dropout.
    """
    if num < CHUNK or num % CHUNK:
        raise UserError(f"standing_statistics must be a multiple of {CHUNK}, got {num}")
    if config.generator_norm != "batch" or config.generator_dropout:
        raise UserError(
            "standing_statistics needs model.generator_norm=batch and model.generator_dropout=0, "
            f"got {config.generator_norm} and {config.generator_dropout}"
        )


def averaged(generator: Variables, ema: Tree) -> Variables:
    """The generator with its averaged parameters and its own running statistics."""
    return generator._replace(params=ema)


class Restored(NamedTuple):
    """What a checkpoint holds of its generator."""

    config: TrainConfig
    step: int
    generator: Variables  # with its own weights
    average: Tree  # the moving average of its parameters
    metrics: dict[str, float]  # as saved with it


def restore(workdir: str | Path, step: str | int = "latest", *, needs: str | None = None) -> Restored:
    """The generator in a run's checkpoint; step: latest, best, or its number; needs: as Checkpoints.choose.

    Raises:
      UserError: no such workdir, checkpoint or step; or as Checkpoints.choose.
    """
    with Checkpoints(open_workdir(workdir)) as checkpoints:
        number, config, like, _ = checkpoints.choose(step, needs=needs)
        generator, average = checkpoints.restore_generator(number, like)
        return Restored(config, number, generator, average, checkpoints.metrics(number))


def load(workdir: str | Path, step: str | int = "latest", *, average: bool = True, standing: int = 0) -> Generator:
    """The generator of a run.

    Args:
      step: latest, best, or the number of a checkpoint.
      average: with the moving average's weights, else with the raw ones.
      standing: 0, or on how many latents batch statistics are taken anew (Generator.standing).
    Raises:
      UserError: no such workdir, checkpoint or step, or statistics that cannot be taken.
    """
    config, number, generator, ema, _ = restore(workdir, step)
    made = Generator(config, number, averaged(generator, ema) if average else generator)
    return made.standing(standing) if standing else made
