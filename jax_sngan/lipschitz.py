"""How steep a discriminator is: its Lipschitz constant in the Euclidean norm of images, from above and from below.

Above: activations have slope at most 1, so the product of the layers' norms as linear maps is a bound, with a sum where
branches meet (Szegedy et al. 2014, section 4.3). Below: the largest gradient norm found. Everything is of evaluation
mode, with u and v as stored, and is computed in float64 whatever the network's type.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal

from jax_sngan.config import ModelConfig
from jax_sngan.models import Variables, build, mlp, resnet, standard_cnn
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.blocks import FirstDiscriminatorBlock
from jax_sngan.nn.conv import conv, input_gradient
from jax_sngan.nn.layers import Conv, Embedding, Linear
from jax_sngan.nn.normalization import NoNorm
from jax_sngan.nn.operator_norm import operator_norm_bound

Float64s = NDArray[np.float64]

MOST_ITERATIONS = 100  # of Lanczos; each keeps one map
_ROUNDING = 1 + 1e-9  # SVDs, transforms and gradients in float64 are off by less than 1e-12 of their size
_REACH = 0.05  # of the ascent's steps and of a pair's distance, for each root of the number of coordinates


@dataclass(frozen=True)
class LayerCertificate:
    """One layer, all figures but sigma of its stored kernel."""

    name: str
    shape: tuple[int, ...]  # of the kernel
    size: tuple[int, int] | None  # of the map that a convolution reads
    sigma: float | None  # what the forward pass divides the kernel by: |u^T W v|; None without spectral norm
    reshaped_sigma: float  # largest singular value of the kernel as the matrix that spectral norm sees, by SVD
    operator_norm: float  # of the layer as a linear map: exact, but found from below for a convolution
    operator_bound: float  # at least that norm: exact for a linear layer, operator_norm_bound for a convolution


@dataclass(frozen=True)
class Certificate:
    """lower <= Lipschitz constant <= upper, and what they come from."""

    upper: float  # a bound, from each layer's operator_bound / sigma
    upper_estimate: float  # the same from operator_norm / sigma: not certain, but what upper would be at its tightest
    nominal: float  # the same from reshaped_sigma / sigma, the norm that spectral norm controls: no bound
    lower: float  # the largest gradient norm found
    layers: list[LayerCertificate]
    box: tuple[float, float] | None  # the pixels among which the ascent looked; None: all numbers
    mean: dict[str, float]  # mean gradient norm at real, generated and interpolated images
    largest: dict[str, float]  # the largest, likewise; also of the ascent
    edges: list[float]  # of the histogram's cells
    counts: dict[str, list[int]]  # images in each cell, likewise

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def certificate(
    config: ModelConfig,
    variables: Variables,
    real: ArrayLike,
    fake: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    seed: int = 0,
    steps: int = 50,
    starts: int = 16,
    box: tuple[float, float] | None = (-1.0, 1.0),
) -> Certificate:
    """`certify` of the discriminator of a config, whose variables may be of any float type."""
    with jax.enable_x64(True):
        network = build(dataclasses.replace(config, dtype="float64")).discriminator
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), variables)
        return certify(network.module(wide), real, fake, labels=labels, seed=seed, steps=steps, starts=starts, box=box)


def certify(
    module: nnx.Module,
    real: ArrayLike,
    fake: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    seed: int = 0,
    steps: int = 50,
    starts: int = 16,
    box: tuple[float, float] | None = (-1.0, 1.0),
    bins: int = 20,
) -> Certificate:
    """Bounds on how steep a discriminator is, for a fixed class where it has classes.

    Args:
      module: a discriminator in float64 whose class is in BOUNDS.
      real: float [n, h, w, c], as the discriminator sees them.
      fake: likewise, as many; the interpolated images are at a random point between each two (Gulrajani et al. 2017).
      labels: int [n], the class of row i of real, fake and interpolated; None: the score without a class. With labels
        the upper bound holds for every class.
      seed: of the points between.
      steps: of the ascent, which begins at the steepest images; 0: none.
      starts: images that it begins at; gradients are computed for twice as many at a time.
      box: least and greatest pixel of the ascent; None: it may leave the space of images.
      bins: cells of the histogram.
    Raises:
      ValueError: a shape, type or range is not as above, or no bound is known for the module.
    """
    x, y, classes = _checked(module, real, fake, labels, box)
    for name, value, least in (("steps", steps, 0), ("starts", starts, 1), ("bins", bins, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    factors, layers = upper_bound(module, x.shape[1:], conditional=classes is not None)
    evaluate = _evaluator(module, batch=2 * starts)

    t = np.random.default_rng(seed).uniform(size=(len(x), 1, 1, 1))
    sets = {"real": x, "fake": y, "interpolated": t * x + (1 - t) * y}
    norms = {name: _norms(evaluate(images, classes)[1]) for name, images in sets.items()}
    largest = {name: float(n.max()) for name, n in norms.items()}
    if steps:
        images, steepness = np.concatenate([*sets.values()]), np.concatenate([*norms.values()])
        rows = np.argsort(-steepness, kind="stable")[:starts]
        own = None if classes is None else np.tile(classes, 3)[rows]
        largest["ascent"] = _ascend(evaluate, images[rows], own, steps, box)
    lower = max(largest.values())
    edges = np.linspace(0, max(n.max() for n in norms.values()) or 1.0, bins + 1)
    return Certificate(
        upper=float(factors[2]) * _ROUNDING,
        upper_estimate=float(factors[1]),
        nominal=float(factors[0]),
        lower=lower,
        layers=layers,
        box=box,
        mean={name: float(n.mean()) for name, n in norms.items()},
        largest=largest,
        edges=edges.tolist(),
        counts={name: np.histogram(n, edges)[0].tolist() for name, n in norms.items()},
    )


# From above ---------------------------------------------------------------------------------------------------------


class Walk:
    """Follows a map through a network. Its methods return factors of the bound: [3], from each layer's reshaped sigma,
    its norm and the norm's bound."""

    def __init__(self, size: tuple[int, int]):
        self.size = size  # (h, w) of the map that the next layer reads
        self.layers: list[LayerCertificate] = []

    def layer(self, name: str, layer: Linear | Conv | BatchNorm) -> Float64s:
        """The factor of a layer; the map's size moves on."""
        if isinstance(layer, BatchNorm):  # in evaluation an affine map of each channel
            slope = np.abs(_numpy(layer.scale[...])) / np.sqrt(_numpy(layer.var[...]) + layer.eps)
            return np.full(3, slope.max())
        kernel = _numpy(layer.kernel[...])
        if isinstance(layer, Linear):
            norm = bound = _largest_singular(kernel)
            return self._add(name, layer, None, norm, bound)
        size, stride, padding = self.size, layer.stride, layer.padding
        norm = zero_padded_operator_norm(kernel, size, stride, padding)
        bound = float(operator_norm_bound(jnp.asarray(kernel), size, stride, padding))
        h, w = ((s + 2 * padding - kernel.shape[0]) // stride + 1 for s in size)
        self.size = (h, w)
        return self._add(name, layer, size, norm, bound)

    def score(self, score: Linear, embed: Embedding | None) -> Float64s:
        """The factor of the last layer: with a class y it is the row w + e_y, the longest of which counts."""
        rows = _numpy(score._weight(False)).T  # [1, features]
        factor = self.layer("score", score)
        if embed is None:
            return factor
        longest = float(_norms(_numpy(embed.kernel[...])).max())
        self._add("embed", embed, None, longest, longest)
        return np.full(3, _norms(rows + _numpy(embed._weight(False))).max())

    def _add(self, name: str, layer: Any, size: tuple[int, int] | None, norm: float, bound: float) -> Float64s:
        kernel = layer.kernel[...]
        # Taken from what the forward pass multiplies by, so that it holds however that was normalised.
        divisor = np.linalg.norm(_numpy(kernel)) / np.linalg.norm(_numpy(layer._weight(False)))
        reshaped = _largest_singular(_numpy(layer._matrix(kernel)))
        sigma = None if layer.norm is None else float(divisor)
        self.layers.append(LayerCertificate(name, tuple(kernel.shape), size, sigma, reshaped, norm, bound))
        return np.array([reshaped, norm, bound]) / (sigma or 1.0)


def upper_bound(
    module: nnx.Module, image_shape: Sequence[int], *, conditional: bool
) -> tuple[Float64s, list[LayerCertificate]]:
    """Products over a discriminator's layers.

    Args:
      module: a discriminator whose class is in BOUNDS.
      image_shape: (h, w, c).
      conditional: whether its score is that of a class.
    Returns:
      [3], Certificate's nominal, upper_estimate and upper; and the layers.
    Raises:
      ValueError: no bound is known for the module.
    """
    if type(module) not in BOUNDS:
        raise ValueError(f"no Lipschitz bound is known for {type(module).__module__}.{type(module).__name__}")
    if any(not isinstance(norm, NoNorm) for norm in getattr(module, "norms", ())):
        raise ValueError("no Lipschitz bound is known for a discriminator with batch or layer normalisation")
    walk = Walk((image_shape[0], image_shape[1]))
    return BOUNDS[type(module)](walk, module, conditional), walk.layers


def zero_padded_operator_norm(kernel: Float64s, size: tuple[int, int], stride: int, padding: int) -> float:
    """Norm of `conv` on maps of a size, from below, by Lanczos' iteration on the map after its transpose.

    Args:
      kernel: [k, k, c_in, c_out].
      size: (h, w) of the map that it reads.
      stride, padding: of the convolution.
    Returns:
      |conv(x)| / |x| of the best x found: never above the norm but for rounding, and mostly within 1e-9 of it.
    """
    shape, w = (*size, kernel.shape[2]), jnp.asarray(kernel)
    x = np.random.default_rng(0).normal(size=shape).ravel()
    basis = [x / np.linalg.norm(x)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(MOST_ITERATIONS, x.size)):
        x = _numpy(_there_and_back(jnp.asarray(basis[-1].reshape(shape)), w, stride, padding)[1]).ravel()
        diagonal.append(float(basis[-1] @ x))
        done = np.stack(basis)
        for _ in range(2):  # once more takes away what rounding left
            x = x - done.T @ (done @ x)
        values, vectors = eigh_tridiagonal(diagonal, beside)
        best, length = vectors[:, -1] @ done, float(np.linalg.norm(x))
        if length * abs(vectors[-1, -1]) <= 1e-8 * values[-1]:  # the eigenvalue's error is of the order of its square
            break
        beside.append(length)
        basis.append(x / length)
    longest = _there_and_back(jnp.asarray(best.reshape(shape)), w, stride, padding)[0]
    return float(longest) / float(np.linalg.norm(best))


@partial(jax.jit, static_argnums=(2, 3))
def _there_and_back(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> tuple[jax.Array, jax.Array]:
    """|conv(x)|, and the transpose of conv at conv(x); x [h, w, c_in]."""
    y = conv(x[None], kernel, stride, padding)
    return jnp.sqrt(jnp.sum(y * y)), input_gradient(y, kernel, x.shape[:2], stride, padding)[0]


def _standard_cnn(walk: Walk, d: standard_cnn.Discriminator, conditional: bool) -> Float64s:
    bound = np.ones(3)
    for i, layer in enumerate(d.convs):
        bound = bound * walk.layer(f"convs.{i}", layer)
    return bound * walk.score(d.score, d.embed if conditional else None)


def _mlp(walk: Walk, d: mlp.Discriminator, conditional: bool) -> Float64s:
    del conditional  # it knows no classes
    bound = np.ones(3)
    for i, layer in enumerate(d.hidden):
        bound = bound * walk.layer(f"hidden.{i}", layer)
    return bound * walk.score(d.score, None)


def _resnet(walk: Walk, d: resnet.Discriminator, conditional: bool) -> Float64s:
    bound = np.ones(3)
    for i, block in enumerate(d.blocks):
        bound = bound * _block(walk, f"blocks.{i}", block)
    pixels = walk.size[0] * walk.size[1]  # a sum of p pixels: at most sqrt(p) times their norm
    return bound * np.sqrt(pixels) * walk.score(d.score, d.embed if conditional else None)


def _block(walk: Walk, name: str, block: Any) -> Float64s:
    size = walk.size
    main = walk.layer(f"{name}.conv1", block.conv1) * walk.layer(f"{name}.conv2", block.conv2)
    halves = isinstance(block, FirstDiscriminatorBlock) or block.downsample
    walk.size = (size[0] // 2, size[1] // 2) if isinstance(block, FirstDiscriminatorBlock) else size
    shortcut = np.ones(3) if block.shortcut is None else walk.layer(f"{name}.shortcut", block.shortcut)
    walk.size = (size[0] // 2, size[1] // 2) if halves else size
    return (main + shortcut) * (0.5 if halves else 1.0)  # the mean of 2x2 has norm 1/2


# The discriminators whose structure is known. Each takes a Walk at the image, the module and whether there is a class.
BOUNDS: dict[type, Callable[[Walk, Any, bool], Float64s]] = {
    standard_cnn.Discriminator: _standard_cnn,
    mlp.Discriminator: _mlp,
    resnet.Discriminator: _resnet,
}


# From below ---------------------------------------------------------------------------------------------------------

Evaluate = Callable[[Float64s, NDArray[np.int32] | None], tuple[Float64s, Float64s]]


def _evaluator(module: nnx.Module, batch: int) -> Evaluate:
    """(images, labels) -> scores [n] and their gradients [n, h, w, c], in batches of one size: compiled once."""
    graph, split = nnx.split(module)
    state = nnx.to_pure_dict(split)  # merged in a traced function, which an nnx.State refuses

    def evaluate(images: Float64s, labels: NDArray[np.int32] | None) -> tuple[Float64s, Float64s]:
        rows = [np.arange(i, i + batch) % len(images) for i in range(0, len(images), batch)]  # the last one goes round
        results = [_of_batch(graph, state, jnp.asarray(images[r]), None if labels is None else labels[r]) for r in rows]
        scores, gradients = (np.concatenate([_numpy(a) for a in r])[: len(images)] for r in zip(*results, strict=True))
        return scores, gradients

    return evaluate


@partial(jax.jit, static_argnums=0)
def _of_batch(graph: Any, state: Any, x: jax.Array, labels: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = nnx.merge(graph, state)(x, labels, train=False)
        return jnp.sum(scores), scores

    (_, scores), gradients = jax.value_and_grad(total, has_aux=True)(x)
    return scores, gradients


def _ascend(
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
        largest = max(largest, float(_norms(gradients).max()))
        scores, gradients = scores.reshape(2, -1), gradients.reshape(pairs.shape)
        gap = pairs[0] - pairs[1]
        distance = np.maximum(_norms(gap), 1e-6 * reach)
        along = _scaled(gap, (scores[0] - scores[1]) / distance**2)  # the slope, in the direction of the gap
        uphill = np.stack([_either(gradients[0] - along, gradients[0]), _either(along - gradients[1], -gradients[1])])
        pairs = np.clip(pairs + reach * (1 - step / steps) * uphill, low, high)
    return max(largest, float(_norms(evaluate(pairs.reshape(-1, *x.shape[1:]), doubled)[1]).max()))


def _either(x: Float64s, instead: Float64s) -> Float64s:
    """Unit rows: those of x [n, ...], or of the other where x is but its rounding."""
    rounding = _norms(x) <= 1e-9 * _norms(instead)
    return np.where(rounding.reshape(-1, *(1,) * (x.ndim - 1)), _unit(instead), _unit(x))


def _norms(x: Float64s) -> Float64s:
    """[n, ...] -> [n]."""
    return np.linalg.norm(x.reshape(len(x), -1), axis=1)


def _scaled(x: Float64s, factors: Float64s) -> Float64s:
    """Each row of x [n, ...] times its factor [n]."""
    return x * factors.reshape(-1, *(1,) * (x.ndim - 1))


def _unit(x: Float64s) -> Float64s:
    """Each row of x [n, ...] over its norm; a zero row stays."""
    return _scaled(x, 1 / np.maximum(_norms(x), 1e-300))


def _numpy(x: Any) -> Float64s:
    return np.asarray(x, np.float64)


def _largest_singular(matrix: Float64s) -> float:
    return float(np.linalg.norm(matrix, 2))


def _checked(
    module: nnx.Module, real: ArrayLike, fake: ArrayLike, labels: ArrayLike | None, box: tuple[float, float] | None
) -> tuple[Float64s, Float64s, NDArray[np.int32] | None]:
    x, y = np.asarray(real), np.asarray(fake)
    for name, images in (("real", x), ("fake", y)):
        if images.ndim != 4 or not images.size or images.dtype.kind != "f":
            raise ValueError(f"{name} must be floats [n, h, w, c], got {images.dtype} {list(images.shape)}")
        if not np.isfinite(images).all():
            raise ValueError(f"{name} holds NaN or infinity")
    if x.shape != y.shape:
        raise ValueError(f"real and fake must have one shape, got {list(x.shape)} and {list(y.shape)}")
    if box is not None and not box[0] < box[1]:
        raise ValueError(f"box must be (least, greatest), got {box}")
    if labels is None:
        return x.astype(np.float64), y.astype(np.float64), None
    embed = getattr(module, "embed", None)
    if embed is None:
        raise ValueError("labels were given for a discriminator without classes")
    classes, count = np.asarray(labels), embed.kernel.shape[0]
    if classes.dtype.kind not in "iu" or classes.shape != x.shape[:1]:
        raise ValueError(f"labels must be {len(x)} integers, got {classes.dtype} {list(classes.shape)}")
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"labels must be in [0, {count}), got {classes.min()} to {classes.max()}")
    return x.astype(np.float64), y.astype(np.float64), classes.astype(np.int32)
