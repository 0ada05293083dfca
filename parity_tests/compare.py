"""How a number of one framework is held against the other's: one measure of error, and one place where it is judged."""

from typing import Any, NamedTuple

import numpy as np

from parity_kit.report import relative


class Tolerance(float):
    """A number that an error may not exceed, with the reason why it is that one."""

    reason: str

    def __new__(cls, value: float, reason: str) -> "Tolerance":
        self = super().__new__(cls, value)
        self.reason = reason
        return self


EXACT = Tolerance(0.0, "equal to the bit: nothing is rounded, or both round the same number once")


class Comparison(NamedTuple):
    """One error that a test held against its tolerance."""

    what: str
    dtype: str
    error: float
    tolerance: float

    @property
    def share(self) -> float:
        """The error as a share of its tolerance; infinite where nothing was allowed and there is something."""
        return 0.0 if self.error == 0 else self.error / self.tolerance if self.tolerance else float("inf")


# Where the report listens: report_plugin puts a list here for each test. Without a listener nothing is kept.
comparisons: list[Comparison] | None = None


def assert_within(error: float, tolerance: float, what: str = "", dtype: str = "float64") -> None:
    """Fails unless an error, however it was measured, is at most `tolerance`. Every comparison of the ladder ends here.

    Args:
      dtype: the type that the error's number was computed in.
    """
    if comparisons is not None:
        comparisons.append(Comparison(what, dtype, float(error), tolerance))
    assert error <= tolerance, f"{what}: error {error:.2e}, allowed {tolerance:.2e}"


def to_numpy(x: Any) -> np.ndarray:
    """A JAX array, a torch tensor (with or without a graph) or a number as a numpy array."""
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)


def relative_error(actual: Any, expected: Any) -> float:
    """parity_kit's measure of an error, of either framework's arrays: max|actual - expected| / max|expected|."""
    return relative(to_numpy(actual), to_numpy(expected))


def assert_close(actual: Any, expected: Any, tolerance: float, what: str = "") -> None:
    """Fails unless the relative error is at most `tolerance` and the types are the same."""
    a, b = to_numpy(actual), to_numpy(expected)
    assert a.dtype == b.dtype, f"{what}: {a.dtype} against {b.dtype}"
    assert a.shape == b.shape, f"{what}: {a.shape} against {b.shape}"
    assert_within(relative_error(a, b), tolerance, what, str(b.dtype))
