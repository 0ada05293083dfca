"""Dropout by a key that the pass is given (Srivastava et al. 2014, inverted: kept activations are scaled up)."""

from jax import Array

from jax_sngan.nn import rng


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """x [n, ..., features] with each number zero with probability rate, else over 1 - rate; without a key, x itself."""
    if rate == 0 or key is None:
        return x
    kept = rng.uniform(key, x.shape, x.dtype) >= rate
    return x * kept.astype(x.dtype) / (1 - rate)


def keys_of_layers(key: Array | None, layers: int) -> list[Array | None]:
    """A pass's key -> one for each place that drops, or None for each where there is no key."""
    return [None if key is None else rng.subkey(key, i) for i in range(layers)]
