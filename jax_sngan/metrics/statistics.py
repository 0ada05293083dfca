"""Statistics files of FID programs: mean and covariance of real images' features, FILE.npz with mu and sigma."""

from pathlib import Path

import numpy as np

from jax_sngan.metrics.frechet import Moments
from jax_sngan.system import npz
from jax_sngan.system.errors import UserError

_ROUNDING = 1e-4  # of the largest entry: sigma may have been stored in float32


def read_statistics(path: Path) -> Moments | None:
    """The moments in a file as TTUR, pytorch-fid and their like write it; None of a file of another kind.

    How many images they are of, such a file does not say.

    Raises:
      UserError: mu is not [d], sigma not [d, d], symmetric and without negative variances, or a number is not finite.
    """
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    mu, sigma = npz.read_npz(path, ("mu",), ("sigma",))
    if mu is None or sigma is None:
        return None
    mean, covariance = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    if mean.ndim != 1 or not mean.size or covariance.shape != (mean.size, mean.size):
        raise UserError(f"{path}: mu must be [d] and sigma [d, d], got {list(mean.shape)} and {list(covariance.shape)}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path}: mu or sigma holds NaN or infinity")
    largest = np.abs(covariance).max()
    if (
        np.abs(covariance - covariance.T).max() > _ROUNDING * largest
        or np.diag(covariance).min() < -_ROUNDING * largest
    ):
        raise UserError(f"{path}: sigma is no covariance: it is not symmetric, or has variances below 0")
    return Moments(2, mean, (covariance + covariance.T) / 2)  # of 2 vectors the scatter is the covariance
