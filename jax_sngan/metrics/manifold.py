"""What lies within what: precision and recall, density and coverage, and the nearest real image of each generated one.

Sets of features are compared through balls around each vector that reach to its k-th nearest neighbour in its own set.
Distances are taken in float64 and in blocks of rows, so memory is linear in the number of vectors.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_sngan.metrics.kernel import features_of

Float64s = NDArray[np.float64]
_BLOCK = 1024  # rows whose distances to all are held at once


def precision_recall(
    real: ArrayLike, fake: ArrayLike, k: int = 3, *, real_radii: Float64s | None = None
) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eq. 1 and 2).

    Args:
      real, fake: [n, d], [m, d] features.
      k: neighbours that a ball reaches to, below n and m.
      real_radii: radii(real, k), where they are there already.
    Returns:
      (precision, recall): the share of fake in some real vector's ball, and of real in some fake vector's ball; a
      vector on the rim is inside, as in their program.
    Raises:
      ValueError: a shape is not as above, a feature is not finite, or k is out of its range.
    """
    x, y = _both(real, fake, k)
    real_radii, fake_radii = _radii(x, k) if real_radii is None else real_radii, _radii(y, k)
    recalled, precise = 0, np.zeros(len(y), np.bool_)
    for start, distances in _distances(x, y):
        precise |= (distances <= real_radii[start : start + len(distances), None]).any(axis=0)
        recalled += int((distances <= fake_radii).any(axis=1).sum())
    return float(precise.mean()), recalled / len(x)


def density_coverage(
    real: ArrayLike, fake: ArrayLike, k: int = 5, *, real_radii: Float64s | None = None
) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eq. 3 and 4).

    Args:
      real, fake: [n, d], [m, d] features.
      k: neighbours that a real vector's ball reaches to, below n.
      real_radii: radii(real, k), where they are there already.
    Returns:
      (density, coverage): real balls that a fake vector lies in, over k, on average, which may pass 1; and the share of
      real balls that hold a fake vector. A vector on the rim is outside, as in their program.
    Raises:
      ValueError: a shape is not as above, a feature is not finite, or k is out of its range.
    """
    x, y = _both(real, fake, k, only_real=True)
    radii = _radii(x, k) if real_radii is None else real_radii
    inside, covered = 0, 0
    for start, distances in _distances(x, y):
        reach = radii[start : start + len(distances), None]
        inside += int((distances < reach).sum())
        covered += int((distances.min(axis=1) < reach[:, 0]).sum())
    return inside / (k * len(y)), covered / len(x)


def nearest_real(real: ArrayLike, fake: ArrayLike) -> tuple[NDArray[np.int64], Float64s]:
    """The nearest real vector of each fake one, to look for memorised images.

    Returns:
      (rows [m] of real, distances [m]).
    Raises:
      ValueError: a shape is not [n, d] and [m, d], or a feature is not finite.
    """
    x, y = _both(real, fake, 1, only_real=True)
    parts = [(distances.argmin(1), distances.min(1)) for _, distances in _distances(y, x)]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([least for _, least in parts])


def radii(features: ArrayLike, k: int = 1) -> Float64s:
    """[n] distances of each vector of a set [n, d] to its k-th nearest neighbour, itself not counted.

    Raises:
      ValueError: features is not [n, d], a feature is not finite, or k is not from 1 to n - 1.
    """
    return _radii(_both(features, features, k)[0], k)


def _radii(x: Float64s, k: int) -> Float64s:
    """Each pair's distance is computed once: a block of rows meets only the rows from its own on."""
    nearest = np.full((len(x), k + 1), np.inf)  # squares of the k + 1 least so far, itself among them
    squares = np.sum(x * x, axis=1)
    for start in range(0, len(x), _BLOCK):
        squared = _squared(x[start : start + _BLOCK], squares[start : start + _BLOCK], x[start:], squares[start:])
        rows = len(squared)
        squared[np.arange(rows), np.arange(rows)] = 0
        end = start + rows
        nearest[end:] = _least(np.concatenate([nearest[end:], squared[:, rows:].T], axis=1), k)
        nearest[start:end] = _least(np.concatenate([nearest[start:end], squared], axis=1), k)
    return np.sqrt(nearest.max(axis=1))


def _least(squared: Float64s, k: int) -> Float64s:
    """The k + 1 least of each row, in any order."""
    squared.partition(k, axis=1)
    return squared[:, : k + 1]


def _squared(x: Float64s, x_squares: Float64s, y: Float64s, y_squares: Float64s) -> Float64s:
    """[n, m] squared distances of x [n, d] to y [m, d], whose sums of squares are given."""
    squared: Float64s = (-2 * x) @ y.T
    squared += y_squares
    squared += x_squares[:, None]
    return np.maximum(squared, 0, out=squared)  # rounding may fall below 0


def _distances(x: Float64s, y: Float64s) -> Iterator[tuple[int, Float64s]]:
    """(first row, [rows, m] Euclidean distances) of blocks of x to all of y."""
    squares = np.sum(y * y, axis=1)
    for start in range(0, len(x), _BLOCK):
        part = x[start : start + _BLOCK]
        squared = _squared(part, np.sum(part * part, axis=1), y, squares)
        yield start, np.sqrt(squared, out=squared)


def _both(real: ArrayLike, fake: ArrayLike, k: int, *, only_real: bool = False) -> tuple[Float64s, Float64s]:
    x, y = features_of(real, "real"), features_of(fake, "fake")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features have {x.shape[1]} and {y.shape[1]} dimensions; they must be equal")
    fewest = len(x) if only_real else min(len(x), len(y))
    if not 1 <= k < fewest:
        raise ValueError(f"k must be from 1 to {fewest - 1}, got {k}")
    # Around their common centre the squares above lose the fewest digits.
    centre = x.mean(axis=0)
    return x - centre, y - centre
