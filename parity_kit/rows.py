"""One comparison beside its tolerance, and the one measure of error that all of them have."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jax_sngan.interop.replay import largest_error


class Tolerance(float):
    """A number that an error may not exceed, with the reason why it is that one."""

    reason: str

    def __new__(cls, value: float, reason: str) -> "Tolerance":
        self = super().__new__(cls, value)
        self.reason = reason
        return self


@dataclass(frozen=True)
class Row:
    """One comparison of one rung or pass."""

    of: str  # "pass 1, training"; "update"; a rung's number
    what: str  # "output", "gradient of conv1.weight", "bn.running_mean after it"; a test
    error: float  # max|nnx - torch| over the scale; inf where shapes differ or something is not finite
    tolerance: float  # NaN where nothing was compared; a Tolerance tells its reason
    dtype: str = "float64"
    quantity: str = ""  # which of several the error is of
    message: str = ""  # why it failed otherwise than by its error
    more: Mapping[str, Any] = field(default_factory=dict)  # what else its JSON has

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance, and nothing else failed."""
        return not self.message and self.error <= self.tolerance

    @property
    def share(self) -> float:
        """The error as a share of its tolerance; infinite where it is not finite, or nothing was allowed."""
        if not (math.isfinite(self.error) and math.isfinite(self.tolerance)):
            return math.inf
        return 0.0 if self.error == 0 else self.error / self.tolerance if self.tolerance else math.inf

    @property
    def reason(self) -> str:
        """Why the tolerance is that one, where it says so."""
        return getattr(self.tolerance, "reason", "")

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        return {
            "rung": self.of,
            "case": self.what,
            "dtype": self.dtype,
            "error": finite(self.error),
            "tolerance": finite(self.tolerance),
            "passed": self.passed,
            "quantity": self.quantity,
            "reason": self.reason,
            "message": self.message,
            **self.more,
        }


def summary(rows: Iterable[Row]) -> str:
    """Some rows in a few words."""
    rows = list(rows)
    failed = [row for row in rows if not row.passed]
    if failed:
        return f"{len(failed)} of {len(rows)} cases failed, the first: {failed[0].what}"
    worst = max(rows, key=lambda row: row.share, default=None)
    if worst is None:
        return "nothing measured"
    return f"{len(rows)} cases within tolerance, the worst at {worst.share:.1%} of it ({worst.what})"


def finite(x: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return float(x) if math.isfinite(x) else None


def relative(found: np.ndarray, expected: np.ndarray, least: float = 0.0, *, scale: float | None = None) -> float:
    """max|found - expected| over the largest of |expected|; inf where shapes differ or something is not finite.

    The largest entry is the scale: an entry near zero beside large ones is a sum of large terms that cancel, and
    carries their rounding. Where all that is expected is zero, any difference is too large.

    Args:
      least: what the scale is at least. scale: in place of the largest entry.
    """
    error = largest_error(found, expected)
    scale = largest(expected) if scale is None else scale
    # An array whose scale is another's is no nearer for that one's having been lost.
    return error / max(scale, least, 1e-300) if math.isfinite(error) and math.isfinite(scale) else math.inf


def largest(a: np.ndarray) -> float:
    """The largest entry's size; 0 of none."""
    return float(np.max(np.abs(a), initial=0))


def worst(
    found: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    scale: Callable[[str], float | None] = lambda name: None,
    group: Callable[[str], str] = lambda name: "",
) -> dict[str, tuple[float, str]]:
    """Of each group of arrays the largest relative error, and the array that has it.

    Args:
      scale: of an array, in place of its largest entry. group: which an array belongs to.
    """
    errors: dict[str, tuple[float, str]] = {}
    for name, b in expected.items():
        own = group(name)
        errors[own] = max(errors.get(own, (0.0, name)), (relative(found[name], b, scale=scale(name)), name))
    return errors
