"""Random numbers of one update, from a key that is among its inputs: the same in both frameworks, to the bit.

Threefry-2x32 with 20 rounds (Salmon et al. 2011), counters and keys as jax.random lays them out (with
jax_threefry_partitionable, its default). A key is a pair of 32-bit numbers in an int64 tensor [2].
"""

import math

import torch
from torch import Tensor

# The uses of one update's key.
DEQUANTIZE, MIX, SURROUNDINGS, AUGMENT_REAL, AUGMENT_FAKE = range(5)
DROPOUT_G, DROPOUT_REAL, DROPOUT_FAKE, DROPOUT_PENALTY = range(5, 9)
PARTS = 16  # from here on: the parts of a batch that is computed in parts, each with all the uses above

_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def subkey(key: Tensor, number: int) -> Tensor:
    """A key of its own for one use: [2] -> [2]."""
    return torch.stack(_threefry(key, key.new_full((), 0), key.new_full((), number)))


def uniform(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """[*shape] in [0, 1), multiples of 2^-23."""
    counter = torch.arange(math.prod(shape), device=key.device)
    a, b = _threefry(key, counter >> 32, counter & _WORD)
    return (((a ^ b) >> 9).to(torch.float32) * 2.0**-23).to(dtype).reshape(shape)


def _threefry(key: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = (x0 + keys[0]) & _WORD, (x1 + keys[1]) & _WORD
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 = (x0 + x1) & _WORD
            x1 = ((x1 << r) | (x1 >> (32 - r))) & _WORD
            x1 = x0 ^ x1
        x0 = (x0 + keys[(i + 1) % 3]) & _WORD
        x1 = (x1 + keys[(i + 2) % 3] + i + 1) & _WORD
    return x0, x1
