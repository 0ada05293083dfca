"""Images from a checkpoint: no training state, no discriminator, no torch."""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.checkpoint import Checkpoints, shapes
from jax_sngan.checkpoint_steps import choose_step
from jax_sngan.config import ModelConfig, TrainConfig
from jax_sngan.errors import UserError
from jax_sngan.images import to_uint8
from jax_sngan.inputs import sample_latents
from jax_sngan.models import Tree, Variables, allow_dtype, build
from jax_sngan.state import create_state
from jax_sngan.workdir import open_workdir

CHUNK = 64  # every call of the network has this batch, so an image does not depend on how many were asked for


class Generator:
    """A trained generator with its averaged weights (or the raw ones) and stored batch statistics."""

    def __init__(self, config: TrainConfig, step: int, variables: Variables):
        self.config, self.step = config, step
        self._variables = variables

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
        num = len(latents)
        classes = self.classes(num, labels)
        padded = math.ceil(num / CHUNK) * CHUNK
        z = np.zeros((padded, latents.shape[1]), self.config.model.dtype)
        z[:num] = latents
        out = []
        for start in range(0, padded, CHUNK):
            part = None if classes is None else np.resize(classes, padded)[start : start + CHUNK]
            out.append(generate(self.config.model, self._variables, z[start : start + CHUNK], part))
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


def great_circle(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Points [n, d] a share of the way from a to b at constant angular speed (Shoemake 1985)."""
    cosine = np.sum(a * b, 1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    angle = np.arccos(np.clip(cosine, -1, 1))[:, None]
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


@lru_cache(maxsize=16)
def _generate(config: ModelConfig):  # type: ignore[no-untyped-def]
    network = build(config).generator

    def images(variables: Variables, latents: Array, labels: Array | None) -> Array:
        made = network.apply(variables, latents, labels, train=False)[0]
        return made if config.channels == 2 else to_uint8(made)

    return jax.jit(images)


def generate(
    config: ModelConfig, variables: Variables, latents: Array | np.ndarray, labels: np.ndarray | None
) -> Array:
    """One jitted pass in evaluation mode: latents [n, latent_size] -> uint8 [n, h, w, c], or float points."""
    return _generate(config)(variables, latents, labels)


def averaged(generator: Variables, ema: Tree) -> Variables:
    """The generator with its averaged parameters and its own running statistics."""
    return generator._replace(params=ema)


def load(workdir: str | Path, step: str | int = "latest", *, average: bool = True) -> Generator:
    """The generator of a run.

    Args:
      step: latest, best, or the number of a checkpoint.
      average: with the moving average's weights, else with the raw ones.
    Raises:
      UserError: no such workdir, checkpoint or step.
    """
    with Checkpoints(open_workdir(workdir)) as checkpoints:
        number = choose_step(checkpoints, step)
        config = checkpoints.config(number)
        allow_dtype(config.model)
        generator, ema = checkpoints.restore_generator(number, shapes(partial(create_state, config)))
    return Generator(config, number, averaged(generator, ema) if average else generator)
