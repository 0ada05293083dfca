"""How a number of one wing is held against the other's: one measure of error."""

from typing import Any

import numpy as np

_TINY = 1e-300  # where everything expected is zero, any difference at all is too large


def to_numpy(x: Any) -> np.ndarray:
    """A JAX array, a torch tensor (with or without a graph) or a number as a numpy array."""
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)


def relative_error(actual: Any, expected: Any) -> float:
    """max|actual - expected| / max|expected|; infinite where shapes differ or something is not finite.

    The largest entry is the scale: an entry near zero beside large ones is a sum of large terms that cancel, and
    carries their rounding.
    """
    a, b = to_numpy(actual), to_numpy(expected)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    if a.size == 0:
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), _TINY))


def assert_close(actual: Any, expected: Any, tolerance: float, what: str = "") -> None:
    """Fails unless the relative error is at most `tolerance` and the types are the same."""
    a, b = to_numpy(actual), to_numpy(expected)
    assert a.dtype == b.dtype, f"{what}: {a.dtype} against {b.dtype}"
    assert a.shape == b.shape, f"{what}: {a.shape} against {b.shape}"
    error = relative_error(a, b)
    assert error <= tolerance, f"{what}: relative error {error:.2e}, allowed {tolerance:.2e}"
