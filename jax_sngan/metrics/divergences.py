"""Distances between distributions: KL, Jensen-Shannon, total variation and Wasserstein, in float64.

The first three compare shares of the same k outcomes and do not know which outcomes are near each other; the
Wasserstein distance compares points and does. Natural logarithms give nats, base 2 gives bits.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse
from scipy.spatial.distance import cdist

Float64s = NDArray[np.float64]

SUM_TOLERANCE = 1e-5  # float32 shares of thousands of outcomes sum to 1 within it
MOST_POINTS = 3_000  # in each set of an assignment: seconds, and 72 MB of distances
MOST_PAIRS = 100_000  # in a linear program: seconds


def kl_divergence(p: ArrayLike, q: ArrayLike, *, base: float = np.e) -> float:
    """Kullback-Leibler divergence sum p log(p / q) of two discrete distributions (Kullback & Leibler 1951).

    Args:
      p: [k] shares of k outcomes, at least 0, of sum 1 (within 1e-5; they are divided by their sum).
      q: [k] likewise.
      base: of the logarithm, above 1: e for nats, 2 for bits.
    Returns:
      At least 0; 0 where p = q; infinite where an outcome of p has no share in q.
    Raises:
      ValueError: p or q is no distribution, their shapes differ, or base is not above 1.
    """
    p, q = _two_distributions(p, q)
    return _kl(p, q) / _log_base(base)


def js_divergence(p: ArrayLike, q: ArrayLike, *, base: float = np.e) -> float:
    """Jensen-Shannon divergence KL(p | m)/2 + KL(q | m)/2 with m = (p + q)/2 (Lin 1991, with equal weights).

    Args:
      p, q, base: as in `kl_divergence`.
    Returns:
      From 0, where p = q, to log 2 (1 in bits), where no outcome has a share in both. Its root is a metric.
    Raises:
      ValueError: as `kl_divergence`.
    """
    p, q = _two_distributions(p, q)
    middle = (p + q) / 2
    value = (_kl(p, middle) + _kl(q, middle)) / 2
    return min(value, float(np.log(2.0))) / _log_base(base)  # rounding may pass log 2


def total_variation(p: ArrayLike, q: ArrayLike) -> float:
    """sum |p - q| / 2, the largest difference that any set of outcomes has: from 0 to 1. Takes and raises as above."""
    p, q = _two_distributions(p, q)
    return min(float(np.abs(p - q).sum()) / 2, 1.0)


def shared_histograms(x: ArrayLike, y: ArrayLike, bins: int) -> tuple[Float64s, Float64s]:
    """Two sets of points as shares of the same cells, for the three divergences above.

    Args:
      x: [n] or [n, d] points; d is small, for there are bins^d cells.
      y: [m] or [m, d].
      bins: cells along each axis, of equal width, from the least to the greatest coordinate of both sets.
    Returns:
      Two arrays [bins^d] of sum 1.
    Raises:
      ValueError: a set is empty or not finite, the two have different d, or bins is below 1.
    """
    x, y = _two_sets(x, y)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    both = np.concatenate([x, y])
    ends = zip(both.min(0), both.max(0), strict=True)
    ranges = [(low, high) if high > low else (low - 0.5, low + 0.5) for low, high in ends]
    p, q = (np.histogramdd(s, bins=bins, range=ranges)[0].ravel() / len(s) for s in (x, y))
    return p, q


def wasserstein_1d(
    x: ArrayLike,
    y: ArrayLike,
    *,
    order: float = 1.0,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> float:
    """Exact Wasserstein distance on the line: the L^order distance of the quantile functions (Vallender 1974).

    Args:
      x: [n] points.
      y: [m] points.
      order: at least 1; 1 is the earth mover's distance of WGAN.
      x_weights: [n] shares of sum 1; default: 1 / n each.
      y_weights: [m] likewise.
    Returns:
      (integral over t in [0, 1] of |F_x^-1(t) - F_y^-1(t)|^order)^(1 / order), in the unit of the points.
    Raises:
      ValueError: x or y is not [n], empty or not finite, weights are no distribution over it, or order is below 1.
    """
    x, y = _two_sets(x, y)
    if x.shape[1] != 1:
        raise ValueError(f"wasserstein_1d takes points on a line, [n], got shape {x.shape}")
    _check_order(order)
    x_points, x_levels = _quantiles(x[:, 0], x_weights, "x_weights")
    y_points, y_levels = _quantiles(y[:, 0], y_weights, "y_weights")
    levels = np.union1d(x_levels, y_levels)  # between two of them both quantile functions are constant
    starts = np.concatenate([[0.0], levels[:-1]])
    middles = (starts + levels) / 2
    gaps = np.abs(_at(x_points, x_levels, middles) - _at(y_points, y_levels, middles))
    return _rooted(gaps, levels - starts, order)


def wasserstein(
    x: ArrayLike,
    y: ArrayLike,
    *,
    order: float = 1.0,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> float:
    """Exact Wasserstein distance of two small sets under the Euclidean distance (Kantorovich's optimal plan).

    On a line by quantiles, of any size; of two sets of equally many points without weights as an assignment; else as
    a linear program over plans.

    Args:
      x: [n] or [n, d] points.
      y: [m] or [m, d].
      order: at least 1.
      x_weights: [n] shares of sum 1; default: 1 / n each.
      y_weights: [m] likewise.
    Returns:
      (min over plans of sum plan |x - y|^order)^(1 / order).
    Raises:
      ValueError: as `wasserstein_1d`, the sets have different d, or are too large (more than MOST_POINTS to assign,
        or MOST_PAIRS in a program).
      RuntimeError: the linear program was not solved.
    """
    x, y = _two_sets(x, y)
    if x.shape[1] == 1:
        return wasserstein_1d(x[:, 0], y[:, 0], order=order, x_weights=x_weights, y_weights=y_weights)
    _check_order(order)
    n, m = len(x), len(y)
    if n == m and x_weights is None and y_weights is None:
        if n > MOST_POINTS:
            raise ValueError(f"x and y must have at most {MOST_POINTS} points each, got {n}; see sliced_wasserstein")
        distances = cdist(x, y)
        rows, columns = optimize.linear_sum_assignment(distances**order)
        return _rooted(distances[rows, columns], np.full(n, 1 / n), order)
    if n * m > MOST_PAIRS:
        raise ValueError(f"x and y must have at most {MOST_PAIRS} pairs, got {n} * {m}; see sliced_wasserstein")
    distances = cdist(x, y)
    shares = np.concatenate([_weights(x_weights, n, "x_weights"), _weights(y_weights, m, "y_weights")])
    # Row sums, then column sums, of the plan. The last sum follows from the others; left in, rounding contradicts it.
    sums = sparse.vstack([sparse.kron(sparse.eye(n), np.ones((1, m))), sparse.kron(np.ones((1, n)), sparse.eye(m))])
    scale = max(distances.max(), np.finfo(float).tiny)  # the solver's tolerances are absolute
    solved = optimize.linprog(
        ((distances / scale) ** order).ravel(),
        A_eq=sums.tocsr()[:-1],
        b_eq=shares[:-1],
        method="highs-ds",
        options=dict(primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10),  # 1e-7 leaves 1e-8
    )
    if not solved.success:
        raise RuntimeError(f"the optimal plan was not found: {solved.message}")
    return _rooted(distances.ravel(), np.maximum(solved.x, 0.0), order)


def sliced_wasserstein(
    x: ArrayLike, y: ArrayLike, *, projections: int = 256, seed: int = 0, order: float = 1.0
) -> float:
    """Sliced Wasserstein distance (Bonneel et al. 2015): the mean over directions of the distance on a line.

    Args:
      x: [n, ...] points or images; all axes but the first are taken as one.
      y: [m, ...] of the same shape but for m.
      projections: random directions, uniform on the sphere.
      seed: of the directions.
      order: at least 1.
    Returns:
      (mean of W^order)^(1 / order). On a line it is the Wasserstein distance; in d dimensions it is smaller: a shift
      by t gives about |t| / sqrt(d) at order 2.
    Raises:
      ValueError: a set is empty or not finite, the shapes of one point differ, projections or order is below 1.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"a point of x has shape {x.shape[1:]} and one of y {y.shape[1:]}; they must be equal")
    x, y = (s.reshape(len(s), -1) if s.ndim > 1 and s.size else s for s in (x, y))
    x, y = _two_sets(x, y)
    if projections < 1:
        raise ValueError(f"projections must be at least 1, got {projections}")
    _check_order(order)
    directions = np.random.default_rng(seed).normal(size=(x.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    distances = [wasserstein_1d(a, b, order=order) for a, b in zip((x @ directions).T, (y @ directions).T, strict=True)]
    return _rooted(np.array(distances), np.full(projections, 1 / projections), order)


def _kl(p: Float64s, q: Float64s) -> float:
    there = p > 0
    if (q[there] == 0).any():
        return float("inf")
    return max(float((p[there] * np.log(p[there] / q[there])).sum()), 0.0)  # rounding may fall below 0


def _log_base(base: float) -> float:
    if not base > 1:
        raise ValueError(f"base must be above 1, got {base}")
    return float(np.log(base))


def _check_order(order: float) -> None:
    if not 1 <= order < np.inf:
        raise ValueError(f"order must be at least 1 and finite, got {order}")


def _two_distributions(p: ArrayLike, q: ArrayLike) -> tuple[Float64s, Float64s]:
    p, q = _distribution(p, "p"), _distribution(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"p has {p.size} outcomes and q {q.size}; they must be equal")
    return p, q


def _distribution(shares: ArrayLike, name: str) -> Float64s:
    p = np.asarray(shares, np.float64)
    if p.ndim != 1 or p.size == 0:
        raise ValueError(f"{name} must be shares [k], k at least 1, got shape {p.shape}")
    if not np.isfinite(p).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if p.min() < 0:
        raise ValueError(f"{name} must be at least 0, got {p.min()}")
    if abs(p.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(f"{name} must sum to 1, got {p.sum()}")
    return p / p.sum()


def _two_sets(x: ArrayLike, y: ArrayLike) -> tuple[Float64s, Float64s]:
    """Both as float64 [n, d]."""
    x, y = _points(x, "x"), _points(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} dimensions and y {y.shape[1]}; they must be equal")
    return x, y


def _points(points: ArrayLike, name: str) -> Float64s:
    x = np.asarray(points, np.float64)
    if x.ndim not in (1, 2) or x.size == 0:
        raise ValueError(f"{name} must be points [n] or [n, d], not empty, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return x if x.ndim == 2 else x[:, None]


def _weights(weights: ArrayLike | None, n: int, name: str) -> Float64s:
    if weights is None:
        return np.full(n, 1 / n)
    shares = _distribution(weights, name)
    if len(shares) != n:
        raise ValueError(f"{name} must be {n} shares, one a point, got {len(shares)}")
    return shares


def _quantiles(x: Float64s, weights: ArrayLike | None, name: str) -> tuple[Float64s, Float64s]:
    """Sorted points [n], and the distribution function at each [n], which ends at exactly 1."""
    order = np.argsort(x, kind="stable")
    if weights is None:
        return x[order], np.arange(1, len(x) + 1) / len(x)
    levels = np.minimum(np.cumsum(_weights(weights, len(x), name)[order]), 1.0)
    levels[-1] = 1.0
    return x[order], levels


def _at(points: Float64s, levels: Float64s, t: Float64s) -> Float64s:
    """The quantile function at levels t, none of which is a jump."""
    return points[np.searchsorted(levels, t)]


def _rooted(distances: Float64s, shares: Float64s, order: float) -> float:
    """(sum shares distances^order)^(1 / order), scaled so that a power neither over- nor underflows."""
    largest = distances.max()
    if largest == 0:
        return 0.0
    return float(largest * (shares @ (distances / largest) ** order) ** (1 / order))
