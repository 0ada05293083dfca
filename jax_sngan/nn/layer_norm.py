"""Layer normalisation of each image by itself, as WGAN-GP's discriminator has it (Gulrajani et al. 2017, section 4)."""

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

EPS = 1e-5


class LayerNorm(nnx.Module):
    """[n, ..., features] -> the same, normalised over all axes but the first, then scaled and shifted by feature.

    Ba et al. 2016, eq. 4; torch.nn.GroupNorm with one group.
    """

    def __init__(self, features: int, *, dtype: DTypeLike = jnp.float32):
        self.scale = nnx.Param(jnp.ones((features,), dtype))
        self.bias = nnx.Param(jnp.zeros((features,), dtype))

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool | None = None) -> Array:
        """x [n, ..., features]; training and evaluation are the same, and so are all classes."""
        del labels, train
        wide = x.astype(self.scale.dtype)  # statistics are not for bfloat16
        axes, shape = tuple(range(1, x.ndim)), (1,) * (x.ndim - 1) + (-1,)
        centred = wide - jnp.mean(wide, axes, keepdims=True)
        normal = centred * lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + EPS)
        return (normal * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)).astype(x.dtype)
