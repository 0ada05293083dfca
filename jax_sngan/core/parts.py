"""A batch computed in parts, one after another, to save memory."""

from collections.abc import Callable
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
    split: dict[str, Array] = {
        name: a.reshape(n, len(a) // n, *a.shape[1:]) for name in batched if (a := getattr(inputs, name)) is not None
    }
    if (key := getattr(inputs, key_name)) is not None:
        split[key_name] = jnp.stack([rng.subkey(key, rng.PARTS + i) for i in range(n)])

    def one(carry_and_sum: Any, arrays: dict[str, Array]) -> tuple[Any, None]:
        carry, so_far = carry_and_sum
        carry, result = part(carry, inputs._replace(**arrays))
        return (carry, jax.tree.map(jnp.add, so_far, result)), None

    first = inputs._replace(**{name: a[0] for name, a in split.items()})
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(part, carry, first)[1])
    (carry, total), _ = lax.scan(one, (carry, nothing), split)
    return carry, jax.tree.map(lambda x: x / n, total)


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
        split = jax.tree.map(lambda a: a.reshape(PARTS, len(a) // PARTS, *a.shape[1:]), batch)

        def add(so_far: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, so_far, function(whole, part)), None

        shapes = jax.eval_shape(function, whole, jax.tree.map(lambda a: a[0], split))
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.tree.map(lambda x: x / PARTS, lax.scan(add, nothing, split)[0])

    return lax.platform_dependent(whole, batch, cpu=in_turn, default=function)
