"""A generator as StableHLO: one file for every batch size, for CPU, CUDA and TPU, that needs jax alone to run."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export

from jax_sngan.config.schema import ModelConfig
from jax_sngan.models.network import Variables, build

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(config: ModelConfig, variables: Variables) -> bytes:
    """The generator in evaluation mode, its weights included.

    Args:
      config: of a float32 model.
      variables: the generator's.
    Returns:
      what jax.export.deserialize reads: latents float32 [n, latent_size], with classes also labels int32 [n] ->
      images float32 [n, h, w, c]; n is free.
    """
    network = build(config).generator
    variables = jax.tree.map(jnp.asarray, variables)

    def images(latents: Array, labels: Array | None = None) -> Array:
        # XLA would fold the weights' own arithmetic otherwise: another rounding than that of the program it came from.
        weights = jax.lax.optimization_barrier(variables)
        return network.apply(weights, latents, labels, train=False)[0]

    (n,) = export.symbolic_shape("n")
    inputs = [jax.ShapeDtypeStruct((n, config.latent_size), jnp.float32)]
    if config.num_classes:
        inputs.append(jax.ShapeDtypeStruct((n,), jnp.int32))
    # Written into the file: nowhere TF32 or bfloat16 factors.
    with jax.default_matmul_precision("highest"):
        exported = export.export(jax.jit(images), platforms=PLATFORMS)(*inputs)
    return bytes(exported.serialize())


def reader(serialized: bytes) -> Callable[..., np.ndarray]:
    """The generator of such a file: (latents, and labels where conditional) -> images."""
    call = jax.jit(export.deserialize(bytearray(serialized)).call)
    return lambda *inputs: np.asarray(call(*inputs))
