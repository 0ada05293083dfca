"""Frechet distance within each class: a generator that mixes its classes up scores well without it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jax_sngan.metrics.frechet import Moments, frechet_from_moments
from jax_sngan.metrics.kernel import features_of


def class_moments(features: ArrayLike, labels: ArrayLike, classes: int, name: str = "features") -> list[Moments]:
    """The moments of each class's features.

    Args:
      features: [n, d].
      labels: integers [n] in [0, classes).
      classes: how many there are; each must hold at least 2 vectors.
      name: of the set, for errors.
    Raises:
      ValueError: a shape, type or range is not as above.
    """
    x, y = features_of(features, name), np.asarray(labels)
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
        raise ValueError(f"{name}: labels must be {len(x)} integers from 0 to {classes - 1}")
    counts = np.bincount(y, minlength=classes)
    if counts.min() < 2:
        raise ValueError(f"{name}: class {counts.argmin()} holds {counts.min()} vectors; each must hold at least 2")
    return [Moments.of(x[y == c]) for c in range(classes)]


def intra_class_distances(real: list[Moments], fake: list[Moments]) -> NDArray[np.float64]:
    """[classes] Frechet distances, real against generated of the same class; their mean is Miyato & Koyama's intra FID.

    Raises:
      ValueError: the two have different numbers of classes or of dimensions.
    """
    if len(real) != len(fake):
        raise ValueError(f"real has {len(real)} classes and fake {len(fake)}; they must be equal")
    return np.array([frechet_from_moments(r, f) for r, f in zip(real, fake, strict=True)])
