"""A batch computed in parts, one after another, to save memory."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.core.inputs import Inputs
from jax_sngan.nn import rng


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
