"""Gaussians in the plane whose modes are known, to see which of them a generator finds: a grid of 25, a ring of 8.

In the units of the literature the grid has spacing 2 and standard deviation 0.05 (Srivastava et al. 2017, VEEGAN; Lin
et al. 2018, PacGAN) and the ring radius 2 and 0.02 (Metz et al. 2017; PacGAN's radius 1 and 0.01, twice as large).
Points come divided by the standard deviation of a coordinate of the centres, sqrt(8) and sqrt(2), as in the program
of Gulrajani et al. 2017, so that networks see coordinates of variance 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians of equal share and equal, round covariance std^2 I."""

    name: str
    centres: NDArray[np.float64]  # [k, 2], as the networks see them
    std: float  # of each coordinate, likewise
    unit: float  # a point times it is in the units of the literature

    def sample(self, n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Independent points [n, 2] and the number of the Gaussian of each [n].

        Raises:
          ValueError: n is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        rng = np.random.default_rng(seed)
        modes = rng.integers(len(self.centres), size=n)
        points = self.centres[modes] + self.std * rng.normal(size=(n, 2))
        return points.astype(np.float32), modes.astype(np.int32)


def grid() -> Mixture:
    """25 Gaussians on a square grid, 5 by 5; mode 5 i + j lies in column i and row j from the lower left."""
    steps = 2.0 * np.arange(-2, 3)
    centres = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return Mixture("grid", centres / np.sqrt(8), 0.05 / np.sqrt(8), float(np.sqrt(8)))


def ring() -> Mixture:
    """8 Gaussians on a circle; mode i lies at the angle 45 i degrees."""
    angles = 2 * np.pi * np.arange(8) / 8
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return Mixture("ring", centres / np.sqrt(2), 0.02 / np.sqrt(2), float(np.sqrt(2)))


MIXTURES = {"grid": grid, "ring": ring}
