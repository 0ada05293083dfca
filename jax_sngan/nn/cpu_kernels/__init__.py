"""What a CPU computes convolutions and sums with, and the switch that turns it off.

`conv` and its like have derivatives written by hand (jax.custom_vjp), so that a CPU's gradients take fast forms too,
of any order. That rules forward mode out: jax.jvp, jax.jacfwd and jax.hessian raise TypeError. Switched off, every
layer of nn is made of jax's own operations alone, which have all derivatives:

    with cpu_kernels.enabled(False):
        hessian = jax.hessian(loss)(x)

The results are the same but for rounding; on a CPU the gradients take 2 to 20 times as long. What counts is how it is
set when a function is traced: one that jax.jit has traced before keeps what it had.
"""

from types import TracebackType
from typing import Self

_on = True


class enabled:
    """Turns the hand-written forms and derivatives on or off: at once, and back at the end of a `with` block of it."""

    def __init__(self, on: bool):
        global _on
        self._before, _on = _on, on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _on
        _on = self._before


def is_enabled() -> bool:
    """Whether they are on, as they are to begin with."""
    return _on
