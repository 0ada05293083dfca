"""A generator as StableHLO: one file for every batch size, for CPU, CUDA and TPU, that needs jax alone to run."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export
from scipy import special

from jax_sngan.config.schema import ModelConfig
from jax_sngan.models.network import Variables, build

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(config: ModelConfig, variables: Variables, truncation: float | None = None) -> bytes:
    """The generator in evaluation mode, its weights included.

    Args:
      config: of a float32 model.
      variables: the generator's.
      truncation: it takes latents from N(0, 1) and cuts them off at +- this (runs.sample.truncated); None: as given.
    Returns:
      what jax.export.deserialize reads: latents float32 [n, latent_size], with classes also labels int32 [n] ->
      images float32 [n, h, w, c]; n is free.
    """
    network = build(config).generator
    variables = jax.tree.map(jnp.asarray, variables)

    def images(latents: Array, labels: Array | None = None) -> Array:
        # XLA would fold the weights' own arithmetic otherwise: another rounding than that of the program it came from.
        weights = jax.lax.optimization_barrier(variables)
        if truncation is not None:
            latents = math.sqrt(2) * jax.lax.erf_inv(inside(truncation) * jax.lax.erf(latents / math.sqrt(2)))
        return network.apply(weights, latents, labels, train=False)[0]

    (n,) = export.symbolic_shape("n")
    inputs = [jax.ShapeDtypeStruct((n, config.latent_size), jnp.float32)]
    if config.num_classes:
        inputs.append(jax.ShapeDtypeStruct((n,), jnp.int32))
    # Written into the file: nowhere TF32 or bfloat16 factors.
    with jax.default_matmul_precision("highest"):
        exported = export.export(jax.jit(images), platforms=PLATFORMS)(*inputs)
    return bytes(exported.serialize())


def inside(truncation: float) -> np.float32:
    """The part of N(0, 1) within +- truncation, below 1: sqrt(2) erfinv(inside * erf(z / sqrt(2))) is z cut off."""
    return np.float32(min(special.erf(truncation / np.sqrt(2)), 1 - 2.0**-24))


def reader(serialized: bytes) -> Callable[..., np.ndarray]:
    """The generator of such a file: (latents, and labels where conditional) -> images."""
    call = jax.jit(export.deserialize(bytearray(serialized)).call)
    return lambda *inputs: np.asarray(call(*inputs))
