"""The Frechet distance without its bias: its values at several numbers of images, extrapolated to infinitely many."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_sngan.metrics.frechet import Moments, frechet_from_moments
from jax_sngan.metrics.kernel import features_of

POINTS = 15  # counts of images, as in the paper
SMALLEST_SHARE = 0.1  # of the images, in the smallest part


class Extrapolation(NamedTuple):
    """A line in 1/n."""

    counts: NDArray[np.int64]  # [k] numbers of images
    distances: NDArray[np.float64]  # [k] Frechet distances at them
    slope: float
    limit: float  # where 1/n is 0


def frechet_extrapolation(real: Moments, fake: ArrayLike, seed: int = 0) -> Extrapolation:
    """Frechet distances of random parts of the generated images, and the line in 1/n through them.

    An estimate from n images is too high by about a constant over n, which depends on the generator: two generators
    may change places with n. The line's value at 1/n = 0 is nearly without that bias (Chong & Forsyth 2020, FID_inf;
    their parts are quasi-random, these are drawn without repeats). The bias of the real side, whose number is fixed,
    stays.

    Args:
      real: moments of the real images' features.
      fake: [n, d] features of the generated images, n at least 20.
      seed: of the parts, whose sizes are evenly spread from n / 10 to n.
    Raises:
      ValueError: a shape or range is not as above.
    """
    x = features_of(fake, "fake")
    if len(x) < 20:
        raise ValueError(f"fake must be at least 20 vectors, got {len(x)}")
    rng = np.random.default_rng(seed)
    counts = np.linspace(SMALLEST_SHARE * len(x), len(x), POINTS).round().astype(np.int64)
    parts = (x[rng.permutation(len(x))[:n]] for n in counts)
    distances = np.array([frechet_from_moments(real, Moments.of(part)) for part in parts])
    slope, limit = np.polyfit(1 / counts, distances, 1)
    return Extrapolation(counts, distances, float(slope), float(limit))
