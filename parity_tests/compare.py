"""How a number of one framework is held against the other's: one measure of error, and one place where it is judged."""

from typing import Any

import numpy as np

from parity_kit.rows import Row, Tolerance, relative

EXACT = Tolerance(0.0, "equal to the bit: nothing is rounded, or both round the same number once")


# Where the report listens: report_plugin puts a list here for each test. Without a listener nothing is kept.
comparisons: list[Row] | None = None


def assert_within(error: float, tolerance: float, what: str = "", dtype: str = "float64") -> None:
    """Fails unless an error, however it was measured, is at most `tolerance`. Every comparison of the ladder ends here.

    Args:
      dtype: the type that the error's number was computed in.
    """
    if comparisons is not None:
        comparisons.append(Row("", what, float(error), tolerance, dtype))
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
