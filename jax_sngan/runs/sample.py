"""Images from a generator's variables: no training state, no discriminator, no torch."""

import copy
import math
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import special

from jax_sngan.config.schema import ModelConfig, TrainConfig, replace
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.inputs import sample_latents
from jax_sngan.core.pixels import to_uint8
from jax_sngan.models.network import Network, Tree, Variables, build
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.great_circles import great_circle
from jax_sngan.runs.labels import Labels, classes_of, names_of
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system.errors import UserError

STANDING_SEED = 2**31  # of the latents of standing statistics: none that a person samples with by chance
CHUNK = 64  # every call of the network has this batch, so an image does not depend on how many were asked for

Items = tuple[tuple[str, Any], ...]  # of a dict


class Generator:
    """A trained generator with its averaged weights (or the raw ones) and stored batch statistics."""

    def __init__(
        self,
        what: GAN | TrainConfig,
        step: int,
        variables: Variables,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        """
        Args:
          what: whose generator it is.
          step: training steps done.
          compiler_options: XLA's, of the programs that make the images.
        """
        self.gan, self.step = as_gan(what), step
        self.class_names: tuple[str, ...] = names_of(what) if isinstance(what, TrainConfig) else ()
        self._generator, self._options = variables, tuple((compiler_options or {}).items())

    @property
    def variables(self) -> Variables:
        """What its images are made with."""
        return self._generator

    def sample(
        self,
        num: int,
        *,
        seed: int = 0,
        labels: Labels | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:
        """num images from latents drawn from seed; image i is the same whatever num is.

        Args:
          labels: classes by number or name, one for all (labels="cat") or a list of num; where conditional and not
            given, classes in turn.
          truncation: as of `latents`.
        Returns:
          uint8 [num, h, w, c]; of a generator of points, float [num, 1, 1, 2].
        Raises:
          UserError: num below 1, or labels or a truncation that there can't be.
        """
        return self.images(self.latents(num, seed=seed, truncation=truncation), labels)

    def latents(self, num: int, seed: int = 0, *, truncation: float | None = None) -> np.ndarray:
        """[num, latent_size] from N(0, 1), drawn from seed; row i is the same whatever num is.

        Args:
          truncation: each number within +- this: N(0, 1) cut off there, as Brock et al. 2019 (section 3.1) draw it; a
            smaller one gives images that are better and more alike. A row keeps its place in the distribution, so that
            its image changes little by little. None: whole.
        Raises:
          UserError: num below 1, a seed out of range, or a truncation that is not above 0.
        """
        _check_whole("num", num, 1)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise UserError(f"seed must be from 0 to 2**32 - 1, got {seed!r}")
        if truncation is not None:
            check_truncation(truncation)
        drawn = np.asarray(sample_latents(seed, num, self.gan.latent_size, jnp.dtype(self.gan.dtype)))
        return drawn if truncation is None else truncated(drawn, truncation)

    def images(self, latents: Array | np.ndarray, labels: Labels | None = None) -> np.ndarray:
        """latents [num, latent_size] -> uint8 [num, h, w, c]; labels as in sample.

        Raises:
          UserError: other latents, or labels that there can't be.
        """
        return self._run(generate, latents, labels)

    def pixels(self, latents: Array | np.ndarray, labels: Labels | None = None) -> np.ndarray:
        """As images, not rounded: float [num, h, w, c] in 0 to 255, in the model's type."""
        return self._run(partial(generate, rounded=False), latents, labels)

    def standing(self, num: int) -> Self:
        """The same generator with batch statistics taken anew, on num latents of their own, in batches of 64.

        Running statistics lag behind the weights, and are not those of averaged weights. These are the mean over the
        batches of each batch's mean and unbiased variance, the generator in training mode, as Brock et al. 2019
        (section 4.2) take their standing statistics.

        Raises:
          UserError: as check_standing.
        """
        check_standing(self.gan, num)
        latents, classes = self.latents(num, STANDING_SEED), self.labels(num, None)
        total = None
        for start in range(0, num, CHUNK):
            part = None if classes is None else classes[start : start + CHUNK]
            seen = jax.tree.map(
                lambda x: np.asarray(x, np.float64),
                batch_statistics(self.gan, self._generator, latents[start : start + CHUNK], part, self._options),
            )
            total = seen if total is None else jax.tree.map(np.add, total, seen)
        mean = jax.tree.map(lambda t, old: (t / (num // CHUNK)).astype(old.dtype), total, self._generator.batch)
        made = copy.copy(self)
        made._generator = self._generator._replace(batch=mean)
        return made

    def _run(self, network: Any, latents: Array | np.ndarray, labels: Labels | None) -> np.ndarray:
        latents = self._latents(np.asarray(latents), "latents")
        num = len(latents)
        classes = self.labels(num, labels)
        padded = math.ceil(num / CHUNK) * CHUNK
        z = np.zeros((padded, latents.shape[1]), self.gan.dtype)
        z[:num] = latents
        out = []
        for start in range(0, padded, CHUNK):
            part = None if classes is None else np.resize(classes, padded)[start : start + CHUNK]
            out.append(network(self.gan, self._generator, z[start : start + CHUNK], part, self._options))
        return np.concatenate([np.asarray(o) for o in out])[:num]

    def _latents(self, latents: np.ndarray, name: str) -> np.ndarray:
        """latents in the model's type, if they are real numbers [n, latent_size]."""
        size = self.gan.latent_size
        if latents.ndim != 2 or latents.shape[1] != size or not len(latents):
            raise UserError(f"{name} must be [n, {size}], got {list(latents.shape)}")
        if latents.dtype.kind not in "fiu" and latents.dtype != jnp.bfloat16:
            raise UserError(f"{name} must be numbers, got {latents.dtype}")
        with np.errstate(over="ignore"):  # told below
            own = latents.astype(self.gan.dtype)
        if not np.isfinite(own).all():
            raise UserError(f"{name} must be finite in {self.gan.dtype}, got {latents[~np.isfinite(own)][0]}")
        return own

    def labels(self, num: int, labels: Labels | None) -> np.ndarray | None:
        """The class of each of num images, int32 [num], or None where unconditional; labels as in sample."""
        k = self.gan.num_classes
        if k == 0:
            if labels is not None:
                raise UserError("labels were given, but this model is unconditional")
            return None
        if labels is None:
            return (np.arange(num) % k).astype(np.int32)
        return classes_of(labels, num, k, self.class_names)

    def interpolate(
        self, a: Array | np.ndarray, b: Array | np.ndarray, frames: int = 24, labels: Labels | None = None
    ) -> np.ndarray:
        """Images on the way from one latent to another, or from each of n to another, both ends included.

        The latents follow the great circle (great_circle), which keeps their norm typical of N(0, 1).

        Args:
          a, b: [latent_size], or [n, latent_size] each.
          frames: 2 or more, at equal angles.
          labels: the class of the one image, or of the n, as in sample.
        Returns:
          uint8 [frames, h, w, c], or [frames, n, h, w, c]; of a generator of points, float.
        Raises:
          UserError: other latents, fewer frames, or labels that there can't be.
        """
        a, b = np.asarray(a), np.asarray(b)
        ends = [self._latents(z[None] if z.ndim == 1 else z, name) for name, z in (("a", a), ("b", b))]
        if a.shape != b.shape:
            raise UserError(f"b must be of a's shape {list(a.shape)}, got {list(b.shape)}")
        _check_whole("frames", frames, 2)
        first, last = (z.astype(np.float64) for z in ends)
        way = np.stack([great_circle(first, last, share) for share in np.linspace(0, 1, frames)])
        way[0], way[-1] = first, last
        classes = self.labels(len(first), labels)
        images = self.images(
            way.reshape(-1, way.shape[-1]).astype(ends[0].dtype), None if classes is None else np.tile(classes, frames)
        )
        shape = (frames,) if a.ndim == 1 else (frames, len(first))
        return images.reshape(*shape, *images.shape[1:])

    def walk(
        self,
        frames: int = 48,
        num: int = 16,
        *,
        seed: int = 0,
        stops: int = 4,
        labels: Labels | None = None,
    ) -> list[np.ndarray]:
        """A closed walk of num images through `stops` latents each; frames of uint8 [num, h, w, c].

        Between two stops the latents follow the great circle, which keeps their norm typical of N(0, 1).
        """
        points = self.latents(num * stops, seed).reshape(num, stops, -1)
        walk = []
        for position in np.linspace(0, stops, frames, endpoint=False):
            i, share = int(position), position % 1
            walk.append(great_circle(points[:, i], points[:, (i + 1) % stops], share))
        return [self.images(z, labels) for z in walk]


def check_truncation(truncation: float) -> None:
    """Passes where latents can be cut off at +- truncation.

    Raises:
      UserError: it is no number above 0.
    """
    if not (isinstance(truncation, (int, float, np.number)) and truncation > 0):
        raise UserError(f"truncation must be above 0, got {truncation!r}")


def truncated(latents: np.ndarray, truncation: float) -> np.ndarray:
    """Latents from N(0, 1) -> from N(0, 1) cut off at +- truncation, each number at its place in the distribution."""
    outside = special.ndtr(-truncation)
    inside = outside + (1 - 2 * outside) * special.ndtr(latents.astype(np.float64))
    return special.ndtri(inside).astype(latents.dtype)


def _check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise UserError(f"{name} must be at least {least}, got {value}")


@lru_cache(maxsize=16)
def _generate(network: Network, precision: str, kind: str, options: Items):  # type: ignore[no-untyped-def]
    def images(variables: Variables, latents: Array, labels: Array | None) -> Array:
        with jax.default_matmul_precision(precision):
            made = network.apply(variables, latents, labels, train=False)[0]
        if kind == "as they are":
            return made
        return to_uint8(made) if kind == "rounded" else (jnp.clip(made, -1, 1) + 1) * 127.5

    return jax.jit(images, compiler_options=dict(options) or None)


@lru_cache(maxsize=16)
def _batch_statistics(config: ModelConfig, precision: str, options: Items):  # type: ignore[no-untyped-def]
    network = build(replace(config, {"batch_norm_momentum": 1.0})).generator  # nothing of the old ones stays

    def statistics(variables: Variables, latents: Array, labels: Array | None) -> Tree:
        with jax.default_matmul_precision(precision):
            return network.apply(variables, latents, labels, train=True, hold=True)[1].batch

    return jax.jit(statistics, compiler_options=dict(options) or None)


def generate(
    what: GAN | TrainConfig,
    variables: Variables,
    latents: Array | np.ndarray,
    labels: np.ndarray | None,
    options: Items = (),
    *,
    rounded: bool = True,
) -> Array:
    """One jitted pass in evaluation mode: latents [n, latent_size] -> uint8 [n, h, w, c], or float points.

    rounded: False: float in 0 to 255 instead of uint8.
    """
    gan = as_gan(what)
    kind = "as they are" if gan.real_dtype == "float32" else "rounded" if rounded else "pixels"
    return _generate(gan.networks.generator, gan.precision, kind, options)(variables, latents, labels)


def batch_statistics(
    what: GAN | TrainConfig,
    variables: Variables,
    latents: Array | np.ndarray,
    labels: np.ndarray | None,
    options: Items = (),
) -> Tree:
    """The mean and unbiased variance that each batch normalisation sees in one training pass of the generator."""
    gan = as_gan(what)
    return _batch_statistics(gan.networks.generator.config, gan.precision, options)(variables, latents, labels)


def check_standing(gan: GAN, num: int) -> None:
    """Passes where standing statistics can be taken on num latents.

    Raises:
      UserError: num is no multiple of 64 above 0, or the generator is not one of this package's with batch
        normalisation and without dropout.
    """
    if num < CHUNK or num % CHUNK:
        raise UserError(f"standing_statistics must be a multiple of {CHUNK}, got {num}")
    config = gan.networks.generator.config
    if config is None:
        raise UserError(f"standing_statistics must be 0 with a generator that is not this package's, got {num}")
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
        generator, average = checkpoints.restore_part(number, like, "generator", "generator_ema")
        return Restored(config, number, generator, average, checkpoints.metrics(number))
