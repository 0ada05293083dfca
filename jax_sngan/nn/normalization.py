"""Normalisations by name, all called alike."""

from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.layer_norm import LayerNorm


class NoNorm(nnx.Module):
    """x as it is."""

    def __call__(self, x: Array, labels: Array | None = None, *, train: bool | None = None) -> Array:
        """x."""
        del labels, train
        return x


def normalization(
    kind: Literal["batch", "layer", "none"],
    features: int,
    *,
    eps: float = 1e-5,
    momentum: float = 0.1,
    num_classes: int = 0,
    dtype: DTypeLike = jnp.float32,
) -> Any:
    """A normalisation of [n, ..., features] by its name; eps, momentum and num_classes are BatchNorm's."""
    if kind == "none":
        return NoNorm()
    if kind == "layer":
        return LayerNorm(features, dtype=dtype)
    if kind != "batch":
        raise ValueError(f"kind must be batch, layer or none, got {kind!r}")
    return BatchNorm(features, eps=eps, momentum=momentum, num_classes=num_classes, dtype=dtype)
