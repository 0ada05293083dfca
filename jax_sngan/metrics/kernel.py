"""Kernel distance: the squared maximum mean discrepancy of features under a cubic kernel, without bias."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SUBSETS, SUBSET_SIZE = 100, 1000  # torch-fidelity's defaults


def kernel_distance(
    real: ArrayLike, fake: ArrayLike, seed: int = 0, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets of MMD^2 (Binkowski et al. 2018, section 4; with Inception KID).

    Each subset is drawn without replacement by numpy's RandomState(seed), real first, as torch-fidelity draws the first
    and the second of its inputs.

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
    values = [
        squared_mmd(*(s[rng.choice(len(s), size, replace=False)] for s in (x, y)))  # real is drawn before generated
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def squared_mmd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Unbiased estimate of MMD^2 under (x . y / d + 1)^3 (Gretton et al. 2012, lemma 6) of [n, d] and [m, d]."""
    n, m = len(x), len(y)
    within_x, within_y, between = _cubes(x, x), _cubes(y, y), _cubes(x, y)
    pairs_x = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))  # of each vector with the others alone
    pairs_y = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(pairs_x + pairs_y - 2 * between.mean())


def _cubes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The kernel [n, m] of [n, d] and [m, d]."""
    values: NDArray[np.float64] = x @ y.T / x.shape[1] + 1
    return values * values * values  # numpy's ** 3 takes a logarithm of each


def features_of(features: ArrayLike, name: str) -> NDArray[np.float64]:
    """Features [n, d] in float64, checked."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise ValueError(f"{name} must be [n, d] with n at least 2, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return x
