"""A batch computed in parts, one after another, to save memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.core.inputs import Inputs
from jax_sngan.nn import rng

MANY = 2**17  # numbers in a batch of images, from which on a CPU's memory is mostly D's maps
PARTS = 4


def in_parts(n: int, part: Any, carry: Any, inputs: Inputs, batched: tuple[str, ...], key_name: str) -> tuple[Any, Any]:
    """Runs part(carry, inputs) -> (carry, results) over n parts of a batch; the results are means.

    Args:
      batched: the inputs that are split along their first axis.
      key_name: of the input that is the update's key; each of several parts has one of its own.
    """
    if n == 1:
        return part(carry, inputs)
    split: dict[str, Array] = {name: _split(n, a) for name in batched if (a := getattr(inputs, name)) is not None}
    if (key := getattr(inputs, key_name)) is not None:
        split[key_name] = jnp.stack([rng.subkey(key, rng.PARTS + i) for i in range(n)])
    return _in_turn(n, lambda carry, arrays: part(carry, inputs._replace(**arrays)), carry, split)


def mean_of_parts(function: Callable[[Any, Any], Any], whole: Any, images: Array, batch: Any) -> Any:
    """function(whole, batch), which is the mean of what it finds for the parts of a batch.

    A CPU takes a large batch in parts, so that the maps of one are there at a time; other platforms at once.

    Args:
      whole: every part is given it.
      images: [n, ...], of which there must be MANY numbers.
      batch: a tree of arrays [n, ...].
    """
    if images.size < MANY or len(images) % PARTS:
        return function(whole, batch)

    def in_turn(whole: Any, batch: Any) -> Any:
        split = jax.tree.map(partial(_split, PARTS), batch)
        return _in_turn(PARTS, lambda carry, part: (carry, function(whole, part)), (), split)[1]

    return lax.platform_dependent(whole, batch, cpu=in_turn, default=function)


def _split(n: int, a: Array) -> Array:
    return a.reshape(n, len(a) // n, *a.shape[1:])


def _in_turn(n: int, part: Callable[[Any, Any], tuple[Any, Any]], carry: Any, split: Any) -> tuple[Any, Any]:
    """part(carry, own) -> (carry, results), over the n parts along the first axis of split: the results' mean."""

    def one(carry_and_sum: Any, own: Any) -> tuple[Any, None]:
        carry, so_far = carry_and_sum
        carry, result = part(carry, own)
        return (carry, jax.tree.map(jnp.add, so_far, result)), None

    shapes = jax.eval_shape(part, carry, jax.tree.map(lambda a: a[0], split))[1]
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (carry, total), _ = lax.scan(one, (carry, nothing), split)
    return carry, jax.tree.map(lambda x: x / n, total)
