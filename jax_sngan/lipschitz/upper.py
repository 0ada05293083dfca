"""A bound on a discriminator's slope from above: the product of its layers' norms as linear maps.

Activations have slope at most 1, so the product bounds the whole, with a sum where branches meet (Szegedy et al. 2014,
section 4.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.conv import conv, input_gradient
from jax_sngan.nn.layer_norm import EPS as LAYER_NORM_EPS
from jax_sngan.nn.layer_norm import LayerNorm
from jax_sngan.nn.layers import Conv, Embedding, Linear
from jax_sngan.nn.normalization import NoNorm
from jax_sngan.nn.operator_norm import operator_norm_bound
from jax_sngan.system.errors import UserError

Float64s = NDArray[np.float64]

MOST_ITERATIONS = 100  # of Lanczos; each keeps one map


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


class Walk:
    """Follows a map through a network. Its methods return factors of the bound: [3], from each layer's reshaped sigma,
    its norm and the norm's bound."""

    def __init__(self, size: tuple[int, int]):
        self.size = size  # (h, w) of the map that the next layer reads
        self.layers: list[LayerCertificate] = []

    def norm(self, norm: BatchNorm | LayerNorm | NoNorm) -> Float64s:
        """The factor of a normalisation in evaluation."""
        if isinstance(norm, NoNorm):
            return np.ones(3)
        scale = np.abs(_numpy(norm.scale[...]))
        if isinstance(norm, LayerNorm):  # steepest where an image's spread is nothing beside eps: hundreds, but a bound
            return np.full(3, scale.max() / np.sqrt(LAYER_NORM_EPS))
        return np.full(3, (scale / np.sqrt(_numpy(norm.var[...]) + norm.eps)).max())  # an affine map of each channel

    def layer(self, name: str, layer: Linear | Conv) -> Float64s:
        """The factor of a layer; the map's size moves on."""
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
        longest = float(np.linalg.norm(_numpy(embed.kernel[...]), axis=1).max())
        self._add("embed", embed, None, longest, longest)
        return np.full(3, np.linalg.norm(rows + _numpy(embed._weight(False)), axis=1).max())

    def _add(self, name: str, layer: Any, size: tuple[int, int] | None, norm: float, bound: float) -> Float64s:
        kernel = layer.kernel[...]
        # Taken from what the forward pass multiplies by, so that it holds however that was normalised.
        divisor = np.linalg.norm(_numpy(kernel)) / np.linalg.norm(_numpy(layer._weight(False, size or ())))
        reshaped = _largest_singular(_numpy(layer.kernel_matrix(kernel)))
        sigma = None if layer.norm is None and layer.exact_target is None else float(divisor)
        self.layers.append(LayerCertificate(name, tuple(kernel.shape), size, sigma, reshaped, norm, bound))
        return np.array([reshaped, norm, bound]) / (sigma or 1.0)


def upper_bound(
    module: nnx.Module, image_shape: Sequence[int], *, conditional: bool
) -> tuple[Float64s, list[LayerCertificate]]:
    """Products over a discriminator's layers.

    Args:
      module: a discriminator that has `slope`, as those of models/ do (models/architecture.py).
      image_shape: (h, w, c).
      conditional: whether its score is that of a class.
    Returns:
      [3], Certificate's nominal, upper_estimate and upper; and the layers.
    Raises:
      UserError: the module has no such method.
    """
    if (slope := getattr(module, "slope", None)) is None:
        name = f"{type(module).__module__}.{type(module).__name__}"
        raise UserError(f"no Lipschitz bound is known for {name}: it has no method `slope` (models/architecture.py)")
    walk = Walk((image_shape[0], image_shape[1]))
    return slope(walk, conditional), walk.layers


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


def _numpy(x: Any) -> Float64s:
    return np.asarray(x, np.float64)


def _largest_singular(matrix: Float64s) -> float:
    return float(np.linalg.norm(matrix, 2))
