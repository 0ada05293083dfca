"""Kernel distance: the squared maximum mean discrepancy of features under a cubic kernel, without bias."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SUBSETS, SUBSET_SIZE = 100, 1000  # torch-fidelity's defaults
_LARGE = 500  # vectors in a subset from which on float32 is faster by more than it takes to look at the error
_NEAR = 1e-7
_ROWS = 50  # of the products at a time, so that their powers stay in the cache

Features = NDArray[np.float32] | NDArray[np.float64]


def kernel_distance(
    real: ArrayLike, fake: ArrayLike, seed: int = 0, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets of MMD^2 (Binkowski et al. 2018, section 4; with Inception KID).

    Each subset is drawn without replacement by numpy's RandomState(seed), real first, as torch-fidelity draws the first
    and the second of its inputs.

    Of large subsets the products are taken in float32, which is twice as fast, and their sum is set right in float64:
    what is left are single errors that cancel. Where the first subset, taken both ways, differs by more than 1e-7 of
    its value, all are taken in float64.

    Args:
      real, fake: [n, d], [m, d] features.
      seed: of the subsets.
      subsets: how many.
      subset_size: vectors in each; where a set has fewer, all of the smaller set's number.
    Returns:
      (mean, standard deviation); the mean may be below 0: its expectation is 0 for equal distributions.
    Raises:
      ValueError: a shape is not as above, a feature is not finite, or a set holds fewer than 2 vectors.
    """
    x, y = features_of(real, "real"), features_of(fake, "fake")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features have {x.shape[1]} and {y.shape[1]} dimensions; they must be equal")
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"subsets must be at least 1 and subset_size at least 2, got {subsets} and {subset_size}")
    size = min(subset_size, len(x), len(y))
    rng = np.random.RandomState(seed)  # the reference library's, so that its subsets can be had
    rows = [tuple(rng.choice(len(s), size, replace=False) for s in (x, y)) for _ in range(subsets)]
    sets: tuple[Features, Features] = (x, y)
    if size >= _LARGE:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not near
            quick = x.astype(np.float32), y.astype(np.float32)
            error = _squared_mmd_of(quick, rows[0]) - (first := _squared_mmd_of(sets, rows[0]))
        if abs(error) <= _NEAR * abs(first):
            sets = quick
    values = [_squared_mmd_of(sets, drawn) for drawn in rows]
    return float(np.mean(values)), float(np.std(values))


def _squared_mmd_of(sets: tuple[Features, Features], rows: tuple[NDArray[np.int64], ...]) -> float:
    return squared_mmd(sets[0][rows[0]], sets[1][rows[1]])


def squared_mmd(x: Features, y: Features) -> float:
    """Unbiased estimate of MMD^2 under (x . y / d + 1)^3 (Gretton et al. 2012, lemma 6) of [n, d] and [n, d].

    Products are taken in the features' type, all sums in float64.
    """
    n, m = len(x), len(y)
    within = _kernel_sum(x) / (n * (n - 1)) + _kernel_sum(y) / (m * (m - 1))
    return within - 2 * _kernel_sum(x, y) / (n * m)


def _kernel_sum(x: Features, y: Features | None = None) -> float:
    """Sum of the kernel over all pairs of x and y, or over all of x with another of x."""
    products = x @ (x if y is None else y).T  # of x and x, numpy computes one half
    sums = np.zeros(3)  # of the products, their squares and their cubes
    for start in range(0, len(products), _ROWS):
        sums += _power_sums(products[start : start + _ROWS])
    totals = [s.sum(axis=0, dtype=np.float64) for s in (x, x if y is None else y)]
    error = (float(totals[0] @ totals[1]) - sums[0]) / products.size
    count = products.size
    if y is None:
        sums -= _power_sums(products.diagonal())
        count -= len(x)
    first, second, third = sums
    third += 3 * error * second + 3 * error**2 * first + count * error**3  # as if each product had error added
    second += 2 * error * first + count * error**2
    first += count * error
    d = x.shape[1]
    return float(third / d**3 + 3 * second / d**2 + 3 * first / d + count)


def _power_sums(products: Features) -> NDArray[np.float64]:
    values = products.astype(np.float64).ravel()
    squares = values * values
    return np.array([values.sum(), squares.sum(), squares @ values])


def features_of(features: ArrayLike, name: str) -> NDArray[np.float64]:
    """Features [n, d] in float64, checked."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise ValueError(f"{name} must be [n, d] with n at least 2, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return x
