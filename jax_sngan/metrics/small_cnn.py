"""The small convolutional network behind `classifier`, and one step of its training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from jax_sngan.config.schema import OptimizerConfig
from jax_sngan.core.optim import adam_direction
from jax_sngan.core.pixels import to_float
from jax_sngan.nn.conv import conv

FEATURES = 128
CONVOLUTIONS = ((4, 2, 1, 32), (4, 2, 1, 64), (3, 1, 1, 64))  # kernel, stride, padding, channels out
SMALLEST = 4  # pixels a side that two strides of 2 leave something of
DROPOUT = 0.2
WEIGHT_DECAY = 1e-3

Params = dict[str, Array]
Kept = tuple[Any, Any]  # boolean arrays

ADAM = adam_direction(OptimizerConfig(beta1=0.9, beta2=0.999))


def create(rng: np.random.Generator, image_shape: tuple[int, int, int], classes: int) -> Params:
    """He-normal weights, zero biases; the last layer is small, so that the first predictions are near uniform."""
    h, w, c = image_shape
    shapes: list[tuple[int, ...]] = []
    for k, stride, padding, channels in CONVOLUTIONS:
        shapes.append((k, k, c, channels))
        h, w, c = (h + 2 * padding - k) // stride + 1, (w + 2 * padding - k) // stride + 1, channels
    shapes += [(h * w * c, FEATURES), (FEATURES, classes)]
    params: Params = {}
    for i, shape in enumerate(shapes):
        std = np.sqrt(2 / np.prod(shape[:-1])) * (0.1 if i == len(shapes) - 1 else 1.0)
        params[f"{i}.kernel"] = jnp.asarray(std * rng.normal(size=shape), jnp.float32)
        params[f"{i}.bias"] = jnp.zeros(shape[-1:], jnp.float32)
    return params


def augment(rng: np.random.Generator, images: NDArray[np.uint8], flip: bool) -> NDArray[np.uint8]:
    """[n, h, w, c], each shifted by -1, 0 or 1 pixel both ways (edges repeated) and, if flip, mirrored or not."""
    n, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = rng.integers(3, size=(n, 1, 1)) + np.arange(h)[:, None]
    columns = rng.integers(3, size=(n, 1, 1)) + np.arange(w)
    shifted = padded[np.arange(n)[:, None, None], rows, columns]
    return np.where(rng.random((n, 1, 1, 1)) < 0.5, shifted[:, :, ::-1], shifted) if flip else shifted


def draw_kept(rng: np.random.Generator, n: int, params: Params) -> Kept:
    """Which inputs of the last two layers dropout leaves: boolean [n, ...], [n, 128]."""
    hidden, last = (params[f"{len(CONVOLUTIONS) + i}.kernel"].shape[0] for i in (0, 1))
    return rng.random((n, hidden), np.float32) >= DROPOUT, rng.random((n, last), np.float32) >= DROPOUT


def network(params: Params, x: Array, kept: Kept | None = None) -> tuple[Array, Array]:
    """[n, h, w, c] in [-1, 1] -> features [n, 128], logits [n, k]; with dropout where `kept` is given."""
    for i, (_, stride, padding, _) in enumerate(CONVOLUTIONS):
        x = conv(x, params[f"{i}.kernel"], stride, padding) + params[f"{i}.bias"][None, None, None, :]
        x = jax.nn.relu(x)
    x = x.reshape(len(x), -1)
    if kept is not None:
        x = jnp.where(kept[0], x / (1 - DROPOUT), 0)
    i = len(CONVOLUTIONS)
    features = jax.nn.relu(x @ params[f"{i}.kernel"] + params[f"{i}.bias"][None, :])
    x = features if kept is None else jnp.where(kept[1], features / (1 - DROPOUT), 0)
    return features, x @ params[f"{i + 1}.kernel"] + params[f"{i + 1}.bias"][None, :]


def rescale_features(params: dict[str, NDArray[np.float32]], factor: float) -> None:
    """Multiplies the features by a positive factor, in place, and leaves the probabilities as they are."""
    i, scale = len(CONVOLUTIONS), np.float32(factor)
    for name in (f"{i}.kernel", f"{i}.bias"):
        params[name] = params[name] * scale
    params[f"{i + 1}.kernel"] = params[f"{i + 1}.kernel"] / scale


@partial(jax.jit, donate_argnums=(0, 1))
def train_step(
    params: Params, moments: optax.OptState, images: Array, labels: Array, rate: Array, kept: Kept
) -> tuple[Params, optax.OptState]:
    """One update of Adam with decoupled weight decay (Loshchilov & Hutter 2019), on the mean cross-entropy.

    Args:
      images: uint8 [n, h, w, c].
      labels: int32 [n].
      rate: [] the learning rate.
      kept: from draw_kept.
    """
    x = to_float(images, jnp.dtype(jnp.float32))

    def loss(params: Params) -> Array:
        logits = network(params, x, kept)[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    direction, moments = ADAM.update(jax.grad(loss)(params), moments)
    params = jax.tree.map(lambda p, d: p - rate * (d + WEIGHT_DECAY * p), params, direction)
    return params, moments


@jax.jit
def evaluate(params: Params, images: Array) -> tuple[Array, Array]:
    """uint8 [n, h, w, c] -> features [n, 128], class probabilities [n, k]."""
    features, logits = network(params, to_float(images, jnp.dtype(jnp.float32)))
    return features, jax.nn.softmax(logits)
