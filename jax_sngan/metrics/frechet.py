"""Frechet distance between two sets of features, in float64, from features or from streamed moments."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of feature vectors; sets seen in parts merge into the whole's.

    Attributes:
      count: n, vectors seen.
      mean: [d].
      scatter: [d, d] sum over the vectors of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Float64s
    scatter: Float64s

    @classmethod
    def of(cls, features: ArrayLike) -> "Moments":
        """Moments of one batch.

        Args:
          features: [n, d], n at least 1; any real type, computed in float64.
        Raises:
          ValueError: features is not [n, d], is empty, or holds NaN or infinity.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or x.size == 0:
            raise ValueError(f"features must be [n, d] and not empty, got shape {x.shape}")
        mean = x.mean(axis=0)
        if not np.isfinite(mean).all():
            raise ValueError("features hold NaN or infinity")
        x = x - mean
        return cls(len(x), mean, x.T @ x)

    @classmethod
    def stream(cls, batches: Iterable[ArrayLike]) -> "Moments":
        """Moments of batches [n_i, d] that need not fit in memory together.

        Raises:
          ValueError: there is no batch, or one is refused by `of` or `merge`.
        """
        total: Moments | None = None
        for batch in batches:
            part = cls.of(batch)
            total = part if total is None else total.merge(part)
        if total is None:
            raise ValueError("no batches of features")
        return total

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the union of two disjoint sets (Chan, Golub, LeVeque 1983, eq. 2.1).

        Raises:
          ValueError: the two have different d.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"features have {self.mean.size} and {other.mean.size} dimensions; they must be equal")
        count = self.count + other.count
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.scatter + other.scatter + np.outer(gap, gap) * (self.count * other.count / count),
        )

    @property
    def covariance(self) -> Float64s:
        """[d, d] unbiased covariance, divided by n - 1 as numpy.cov and the reference FID do.

        Raises:
          ValueError: n is below 2.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, got {self.count}")
        return self.scatter / (self.count - 1)

    @cached_property
    def root(self) -> Float64s:
        """R [d, rank] with R R^T = covariance; kept, since real images meet many generated ones. Raises as it does."""
        return _root(self.covariance)


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1^1/2 S2 S1^1/2)^1/2). With Inception's features this is the FID.

    Args:
      real: [n, d] features, n at least 2; n below d is allowed.
      fake: [m, d] features, m at least 2.
    Returns:
      The distance, at least 0; 0 for equal means and covariances.
    Raises:
      ValueError: a shape is not as above, or a feature is not finite.
    """
    return frechet_from_moments(Moments.of(real), Moments.of(fake))


def frechet_from_moments(real: Moments, fake: Moments) -> float:
    """`frechet_distance` of two sets that are known by their moments.

    Raises:
      ValueError: the two have different d, or one holds fewer than 2 vectors.
    """
    if real.mean.shape != fake.mean.shape:
        raise ValueError(f"features have {real.mean.size} and {fake.mean.size} dimensions; they must be equal")
    s1, s2 = real.covariance, fake.covariance
    # The eigenvalues of S1^1/2 S2 S1^1/2 are the squared singular values of R1^T R2 with S = R R^T. Singular values
    # keep their accuracy near zero, where the root of an eigenvalue would turn rounding of 1e-16 into 1e-8.
    product = real.root.T @ fake.root  # [rank 1, rank 2]
    overlap = np.linalg.svd(product, compute_uv=False).sum() if product.size else 0.0
    gap = real.mean - fake.mean
    return max(float(gap @ gap + np.trace(s1) + np.trace(s2) - 2.0 * overlap), 0.0)  # rounding may fall below 0


def _root(covariance: Float64s) -> Float64s:
    """R [d, rank] with R R^T = covariance [d, d], without what is only rounding in a rank-deficient one."""
    values, vectors = np.linalg.eigh(covariance)
    # LAPACK's error in an eigenvalue is of the order of d eps |S|.
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    root: Any = vectors[:, kept] * np.sqrt(values[kept])
    return root
