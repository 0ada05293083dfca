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
      real, fake: [n, d], [m, d] features; computed in float64.
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
    values = []
    for _ in range(subsets):
        a, b = (s[rng.choice(len(s), size, replace=False)] for s in (x, y))
        values.append(squared_mmd(a, b))
    return float(np.mean(values)), float(np.std(values))


def squared_mmd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Unbiased estimate of MMD^2 under (x . y / d + 1)^3 (Gretton et al. 2012, lemma 6) of [n, d] and [n, d]."""
    n, m = len(x), len(y)
    kxx, kyy, kxy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy)) / (m * (m - 1))
    return float(within - 2 * kxy.mean())


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    k = x @ y.T  # of x and x, numpy computes one half
    k /= x.shape[1]
    k += 1
    cubed: NDArray[np.float64] = k * k
    cubed *= k  # a power is ten times slower
    return cubed


def features_of(features: ArrayLike, name: str) -> NDArray[np.float64]:
    """Features [n, d] in float64, checked."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise ValueError(f"{name} must be [n, d] with n at least 2, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return x
