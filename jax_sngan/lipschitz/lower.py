"""A discriminator's slope from below: its scores' gradients at images, and a search for the steepest place."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

Float64s = NDArray[np.float64]

_REACH = 0.05  # of the ascent's steps and of a pair's distance, for each root of the number of coordinates

Evaluate = Callable[[Float64s, NDArray[np.int32] | None], tuple[Float64s, Float64s]]


def evaluator(module: nnx.Module, batch: int) -> Evaluate:
    """(images, labels) -> scores [n] and their gradients [n, h, w, c], in batches of one size: compiled once."""
    graph, split = nnx.split(module)
    state = nnx.to_pure_dict(split)  # merged in a traced function, which an nnx.State refuses

    def evaluate(images: Float64s, labels: NDArray[np.int32] | None) -> tuple[Float64s, Float64s]:
        rows = [np.arange(i, i + batch) % len(images) for i in range(0, len(images), batch)]  # the last one goes round
        results = [_of_batch(graph, state, jnp.asarray(images[r]), None if labels is None else labels[r]) for r in rows]
        scores, gradients = (
            np.concatenate([np.asarray(a, np.float64) for a in r])[: len(images)] for r in zip(*results, strict=True)
        )
        return scores, gradients

    return evaluate


@partial(jax.jit, static_argnums=0)
def _of_batch(graph: Any, state: Any, x: jax.Array, labels: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = nnx.merge(graph, state)(x, labels, train=False)
        return jnp.sum(scores), scores

    (_, scores), gradients = jax.value_and_grad(total, has_aux=True)(x)
    return scores, gradients


def ascend(
    evaluate: Evaluate, x: Float64s, labels: NDArray[np.int32] | None, steps: int, box: tuple[float, float] | None
) -> float:
    """The largest gradient norm met while pairs of images climb the slope between them, (D(a) - D(b)) / |a - b|.

    The slope is climbed, and not the gradient norm, since that is constant wherever the activations are linear. Each
    image of a pair moves along the slope's gradient, by steps of a length that falls to 0. A pair within one linear
    piece, where the slope has no gradient, moves apart along D's.
    """
    reach = _REACH * np.sqrt(x[0].size)
    low, high = box or (-np.inf, np.inf)
    _, gradients = evaluate(x, labels)
    pairs = np.stack([x, np.clip(x - reach * _unit(gradients), low, high)])  # [2, n, h, w, c]
    doubled = None if labels is None else np.tile(labels, 2)
    largest = 0.0
    for step in range(steps):
        scores, gradients = evaluate(pairs.reshape(-1, *x.shape[1:]), doubled)
        largest = max(largest, float(lengths(gradients).max()))
        scores, gradients = scores.reshape(2, -1), gradients.reshape(pairs.shape)
        gap = pairs[0] - pairs[1]
        distance = np.maximum(lengths(gap), 1e-6 * reach)
        along = _scaled(gap, (scores[0] - scores[1]) / distance**2)  # the slope, in the direction of the gap
        uphill = np.stack([_either(gradients[0] - along, gradients[0]), _either(along - gradients[1], -gradients[1])])
        pairs = np.clip(pairs + reach * (1 - step / steps) * uphill, low, high)
    return max(largest, float(lengths(evaluate(pairs.reshape(-1, *x.shape[1:]), doubled)[1]).max()))


def _either(x: Float64s, instead: Float64s) -> Float64s:
    """Unit rows: those of x [n, ...], or of the other where x is but its rounding."""
    rounding = lengths(x) <= 1e-9 * lengths(instead)
    return np.where(rounding.reshape(-1, *(1,) * (x.ndim - 1)), _unit(instead), _unit(x))


def lengths(x: Float64s) -> Float64s:
    """[n, ...] -> [n], the Euclidean norm of each row."""
    return np.linalg.norm(x.reshape(len(x), -1), axis=1)


def _scaled(x: Float64s, factors: Float64s) -> Float64s:
    """Each row of x [n, ...] times its factor [n]."""
    return x * factors.reshape(-1, *(1,) * (x.ndim - 1))


def _unit(x: Float64s) -> Float64s:
    """Each row of x [n, ...] over its norm; a zero row stays."""
    return _scaled(x, 1 / np.maximum(lengths(x), 1e-300))
