"""Which form of a map a program holds: that of the platform it is lowered for, whichever machine traces it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import Array, lax


def by_platform(
    in_form: Callable[..., Array], form: str, a: Array, b: Array, *options: Any, elsewhere: str = "plain"
) -> Array:
    """in_form(form, a, b, *options) in a program for CPUs, in_form(elsewhere, ...) in one for any other platform.

    A program with a batch of any size (jax.export) has the latter everywhere: a CPU's forms count their rows.

    Args:
      in_form: a function of a module, not one made for the call: jax traces it once for arrays of the same shapes.
      options: hashable.
    """
    if form == elsewhere or not all(isinstance(length, int) for length in (*a.shape, *b.shape)):
        return in_form(elsewhere, a, b, *options)
    return _by_platform(in_form, form, elsewhere, options, a, b)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def _by_platform(
    in_form: Callable[..., Array], form: str, elsewhere: str, options: tuple[Any, ...], a: Array, b: Array
) -> Array:
    def take(form: str) -> Callable[[Array, Array], Array]:
        return lambda a, b: in_form(form, a, b, *options)

    return lax.platform_dependent(a, b, cpu=take(form), default=take(elsewhere))
