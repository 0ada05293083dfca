"""Dropout by a key that the pass is given (Srivastava et al. 2014, inverted: kept activations are scaled up)."""

import torch
from torch import Tensor

from torch_ref.nn import rng


def dropout(x: Tensor, rate: float, key: Tensor | None) -> Tensor:
    """x [n, features, h, w] or [n, features] with each number zero with probability rate, else over 1 - rate.

    Numbers are drawn in the JAX framework's order, features last.
    """
    if rate == 0 or key is None:
        return x
    last = torch.movedim(x, 1, -1)
    kept = torch.movedim(rng.uniform(key, tuple(last.shape), x.dtype) >= rate, -1, 1)
    return x * kept.to(x.dtype) / (1 - rate)


def keys_of_layers(key: Tensor | None, layers: int) -> list[Tensor | None]:
    """A pass's key -> one for each place that drops, or None for each where there is no key."""
    return [None if key is None else rng.subkey(key, i) for i in range(layers)]
