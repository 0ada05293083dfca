"""Random numbers of one update, from a key that is among its inputs: the same in both frameworks, to the bit.

Threefry-2x32 (Salmon et al. 2011) as jax.random draws it. A key is a uint32 [2]; every use has a stream of its own, so
what one use draws does not depend on which others there are.
"""

import jax
import jax.numpy as jnp
from jax import Array

# The uses of one update's key.
DEQUANTIZE, MIX, SURROUNDINGS, AUGMENT_REAL, AUGMENT_FAKE = range(5)
DROPOUT_G, DROPOUT_REAL, DROPOUT_FAKE, DROPOUT_PENALTY = range(5, 9)
PARTS = 16  # from here on: the parts of a batch that is computed in parts, each with all the uses above


def subkey(key: Array, number: int | Array) -> Array:
    """A key of its own for one use: uint32 [2] -> uint32 [2]."""
    return jax.random.key_data(jax.random.fold_in(_wrapped(key), number))


def uniform(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """[*shape] in [0, 1), multiples of 2^-23 drawn in float32 whatever the type."""
    return jax.random.uniform(_wrapped(key), shape, jnp.float32).astype(dtype)


def _wrapped(key: Array) -> Array:
    return jax.random.wrap_key_data(key, impl="threefry2x32")
