"""Activations that the networks share."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array


def leaky_relu(x: Array) -> Array:
    """x, or 0.1 x where it is not positive; the slope at exactly 0 is 0.1, as torch has it (jax.nn's is 1)."""
    return jnp.where(x > 0, x, 0.1 * x)


def identity(x: Array) -> Array:
    """x."""
    return x


OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "identity": identity,
}  # what a generator's last layer goes through
