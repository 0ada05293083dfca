"""Terms of D's loss beside its game: penalties on the norm of its gradient in its images.

D is `score`: images [n, h, w, c] -> scores [n], each from its own image alone, with u and v held.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jax_sngan.nn import rng
from jax_sngan.system.errors import UserError

Score = Callable[..., Array]


def _draws_nothing(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    del shape
    return {}


@dataclass(frozen=True)
class Penalty:
    """A term of D's loss beside its game: what it draws, its value, its passes, and what a mesh may split.

    Attributes:
      value: (score, real [n, h, w, c], fake [n, h, w, c], drawn) -> []. score(images [n, h, w, c]) -> [n] is D in a
        training pass, with the real images' labels where it takes labels; score(images, i) its i-th pass, i below
        `passes`. drawn: by name, what `draws` asked for. Real and generated images are as D sees them, augmented.
      draws: shape [n, h, w, c] -> the shapes of the numbers in [0, 1) that it needs, by name.
      passes: of D that it makes, each with its power iterations; what D's running statistics would learn from them is
        left out.
      images_apart: it is a mean over the batch of terms of one image each (Loss.images_apart).
    """

    value: Callable[[Score, Array, Array, dict[str, Array]], Array]
    draws: Callable[[tuple[int, ...]], dict[str, tuple[int, ...]]] = _draws_nothing
    passes: int = 1
    images_apart: bool = False


# The streams of an update's key that a penalty's numbers come from, in the order of Penalty.draws (nn/rng.py).
_STREAMS = (rng.MIX, rng.SURROUNDINGS, *range(rng.DROPOUT_PENALTY + 1, rng.PARTS))


def draw(penalty: Penalty, real: Array, subkey: Callable[[int], Array]) -> dict[str, Array]:
    """What a penalty draws for real images [n, h, w, c], the whole batch; subkey: number of a stream -> its key.

    Raises:
      UserError: it asks for more arrays than an update's key has streams for.
    """
    shapes = penalty.draws(real.shape)
    if len(shapes) > len(_STREAMS):
        raise UserError(f"a penalty may draw {len(_STREAMS)} arrays, got {len(shapes)}: {', '.join(shapes)}")
    return {
        name: rng.uniform(subkey(stream), shape, real.dtype)
        for stream, (name, shape) in zip(_STREAMS, shapes.items(), strict=False)
    }


def gradient_norms(score: Score, images: Array) -> Array:
    """[n] Euclidean norms of D's gradient at each of the images [n, h, w, c]; a norm of 0 has gradient 0."""
    gradients = jax.grad(lambda x: jnp.sum(score(x)))(images)
    squares = jnp.sum(jnp.square(gradients), axis=tuple(range(1, images.ndim)))
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def distance_to_target(norms: Array, target: float, sides: Literal["two", "one"]) -> Array:
    """[] mean of (norm - target)^2 over norms [n]; one-sided: of max(norm - target, 0)^2.

    Gulrajani et al. 2017, eq. 3 and section 4 ("two-sided penalty").
    """
    excess = norms - target
    return jnp.mean(jnp.square(excess if sides == "two" else jax.nn.relu(excess)))


def gradient_penalty(
    score: Score, real: Array, fake: Array, mix: Array, target: float = 1.0, sides: Literal["two", "one"] = "two"
) -> Array:
    """WGAN-GP's penalty (Gulrajani et al. 2017, Algorithm 1), its weight left out.

    Args:
      real, fake: [n, h, w, c].
      mix: [n] in [0, 1): the share of the real image in the point where the gradient is taken.
      target, sides: see distance_to_target.
    """
    mix = mix.reshape(-1, *(1,) * (real.ndim - 1))
    return distance_to_target(gradient_norms(score, mix * real + (1 - mix) * fake), target, sides)


def r1(score: Score, real: Array) -> Array:
    """[] half the mean squared norm at real images [n, h, w, c] (Mescheder et al. 2018, eq. 9), gamma left out."""
    gradients = jax.grad(lambda x: jnp.sum(score(x)))(real)
    return 0.5 * jnp.mean(jnp.sum(jnp.square(gradients), axis=tuple(range(1, real.ndim))))


def dragan(
    score: Score,
    real: Array,
    noise: Array,
    mix: Array,
    target: float = 1.0,
    sides: Literal["two", "one"] = "two",
) -> Array:
    """DRAGAN's penalty (Kodali et al. 2017, eq. 4, in the form of their program): WGAN-GP's around real images.

    Args:
      real: [n, h, w, c].
      noise: like real, in [0, 1); times half the batch's standard deviation it is the farthest point.
      mix: [n] in [0, 1): how far towards it the gradient is taken.
    """
    mix = mix.reshape(-1, *(1,) * (real.ndim - 1))
    return distance_to_target(gradient_norms(score, real + mix * (0.5 * jnp.std(real) * noise)), target, sides)
