"""What lies within what: precision and recall, density and coverage, and the nearest real image of each generated one.

Sets of features are compared through balls around each vector that reach to its k-th nearest neighbour in its own set.
Distances are taken in blocks of rows, so memory is linear in the number of vectors, and in float64; where it is only
asked on which side of a rim a vector lies, float32 answers wherever its error cannot matter.
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
    recalled, precise = _inside(x, y, real_radii, fake_radii)
    return float(precise.mean()), float(recalled.mean())


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


def _inside(
    x: Float64s, y: Float64s, x_radii: Float64s, y_radii: Float64s
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of x [n, d] lie in some ball around y [m, d], and which of y in some around x; the rim is inside.

    The product of all pairs is taken in float32, which is twice as fast; a vector that comes nearer to the nearest rim
    than that product's largest possible error is held against all balls in float64.
    """
    largest = np.sqrt(max(np.sum(x * x, axis=1).max(), np.sum(y * y, axis=1).max())) or 1.0  # so that none overflows
    x_squares, y_squares = (np.sum((s / largest) ** 2, axis=1, keepdims=True) for s in (x, y))
    left = np.concatenate([-2 * x / largest, x_squares, np.ones_like(x_squares)], axis=1).astype(np.float32)
    right = np.concatenate([y / largest, np.ones_like(y_squares), y_squares], axis=1).astype(np.float32)
    x_limits, y_limits = (((r / largest) ** 2).astype(np.float32) for r in (x_radii, y_radii))
    # Of d + 2 products that sum up to less than 4, rounded before and after (Higham 2002, eq. 3.5), and the limits.
    error = 4 * (x.shape[1] + 8) * 2.0**-24
    x_gaps, y_gaps = np.empty(len(x), np.float32), np.full(len(y), np.inf, np.float32)
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squared = left[rows] @ right.T
        x_gaps[rows] = (squared - y_limits).min(axis=1)
        np.minimum(y_gaps, (squared - x_limits[rows, None]).min(axis=0), out=y_gaps)
    return _decided(x_gaps, error, x, y, y_radii), _decided(y_gaps, error, y, x, x_radii)


def _decided(gaps: NDArray[np.float32], error: float, x: Float64s, y: Float64s, radii: Float64s) -> NDArray[np.bool_]:
    """Whether each of x lies in a ball around y: by its gap to the nearest rim, in float64 where that is too small."""
    inside: NDArray[np.bool_] = gaps < 0
    near = np.flatnonzero(np.abs(gaps) <= error)
    for start, distances in _distances(x[near], y):
        inside[near[start : start + len(distances)]] = (distances <= radii).any(axis=1)
    return inside


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
