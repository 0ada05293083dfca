"""The norm of a convolution as a linear map of maps, exact where the map wraps around, bounded where zeros surround it.

A convolution that wraps around is block diagonal in the Fourier basis, so its norm is the largest singular value of
small matrices, one a frequency (Sedghi, Gupta & Long 2019, theorem 6). The kernel as one matrix [out, rest], which
spectral norm normalises, has another norm, smaller or larger.
"""

import jax
import jax.numpy as jnp
from jax import Array


def circular_operator_norm(kernel: Array, size: tuple[int, int], stride: int = 1) -> Array:
    """Norm of the convolution of maps that wrap around: max |conv(x)| / |x|, exactly.

    Differentiable and traceable; where several frequencies reach the maximum, a subgradient.

    Args:
      kernel: [k, k, c_in, c_out].
      size: (h, w) of the map that it reads, each a multiple of stride.
      stride: step between two windows. Frequencies that are equal modulo size / stride fall together then, so their
        matrices stand side by side.
    Returns:
      [] the largest singular value.
    Raises:
      ValueError: size is not a multiple of stride.
    """
    h, w = size
    if h % stride or w % stride:
        raise ValueError(f"size must be a multiple of stride {stride}, got {h} x {w}")
    k, _, c_in, c_out = kernel.shape
    rows, columns = (jnp.arange(k) % side for side in size)  # taps beyond the map wrap around and add up
    taps = jnp.zeros((h, w, c_in, c_out), kernel.dtype).at[rows[:, None], columns[None, :]].add(kernel)
    spectrum = jnp.fft.fft2(taps, axes=(0, 1))
    low_h, low_w = h // stride, w // stride
    aliases = spectrum.reshape(stride, low_h, stride, low_w, c_in, c_out)
    # The kernel is real, so opposite frequencies have the same singular values: half of them will do.
    half = aliases[:, :, :, : low_w // 2 + 1].transpose(1, 3, 0, 2, 4, 5)
    blocks = half.reshape(-1, stride * stride * c_in, c_out)
    return largest_singular_value(blocks) / stride  # each alias has the weight 1 / stride


def largest_singular_value(matrices: Array) -> Array:
    """[] the largest of all matrices [..., m, n]; the products of its gradient in full precision on every backend."""
    with jax.default_matmul_precision("highest"), jax.named_scope("operator_norm"):
        return jnp.max(jnp.linalg.svd(matrices, compute_uv=False))


def operator_norm_bound(kernel: Array, size: tuple[int, int], stride: int = 1, padding: int = 0) -> Array:
    """Upper bound on the norm of `conv` on maps of a size, whose zero padding does not wrap around.

    A map set into a larger one of zeros, h + padding on each axis or the next multiple of stride, has the same norm,
    and its windows there read what they read in the padded map, the zeros of both borders being the same ones. What
    `conv` gives is a part of what the larger map gives.

    Args:
      kernel: [k, k, c_in, c_out].
      size: (h, w) of the map that it reads.
      stride, padding: of the convolution.
    Returns:
      [] at least the norm; equal to it for a 1x1 kernel without padding, and closer the larger the map.
    """
    h, w = (-(-(side + padding) // stride) * stride for side in size)
    return circular_operator_norm(kernel, (h, w), stride)
