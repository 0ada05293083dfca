"""Which normalisation a network's config asks for, all called alike."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_sngan.config.schema import ModelConfig
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.layer_norm import LayerNorm


class NoNorm(nnx.Module):
    """x as it is."""

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool) -> Array:
        """x."""
        del labels, train
        return x


def normalization(config: ModelConfig, network: str, features: int, *, conditional: bool = False) -> Any:
    """A network's normalisation of [n, ..., features]; conditional: by class where the config has classes."""
    kind, dtype = getattr(config, f"{network}_norm"), jnp.dtype(config.dtype)
    if kind == "none":
        return NoNorm()
    if kind == "layer":
        return LayerNorm(features, dtype=dtype)
    return BatchNorm(
        features,
        eps=config.batch_norm_eps,
        momentum=config.batch_norm_momentum,
        num_classes=config.num_classes if conditional else 0,
        dtype=dtype,
    )
