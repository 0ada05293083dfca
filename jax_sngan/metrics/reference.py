"""The real images' side of every score: their features, taken once and kept, and what is derived from them."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from jax_sngan.data.datasets import Dataset
from jax_sngan.metrics import Moments, class_moments, manifold
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.system.array_cache import kept_arrays
from jax_sngan.system.errors import UserError

FORM = 2  # part of the cache's key: raise it with any change to what is kept
BATCH = 1000  # real images that are held at once, where they are streamed


class Reference:
    """Features of real images."""

    def __init__(self, name: str, features: np.ndarray, labels: np.ndarray, classes: int, protocol: int | None = None):
        """
        Args:
          name: of the real set, the last part of a score's name.
          features: [n, d].
          labels: int [n]; zeros where there are none.
          classes: how many classes the labels tell apart; 0: no labels.
          protocol: n where a protocol fixed it; None: all images of the set.
        """
        self.name, self.features, self.labels, self.classes = name, features, labels, classes
        self.protocol = protocol
        self._radii: dict[int, np.ndarray] = {}

    @cached_property
    def moments(self) -> Moments:
        """Of all of them."""
        return Moments.of(self.features)

    @cached_property
    def class_moments(self) -> list[Moments]:
        """Of each class. Raises ValueError as metrics.class_moments does."""
        return class_moments(self.features, self.labels, self.classes, "the real images")

    @cached_property
    def spacing(self) -> float:
        """Mean distance of a real image to the nearest other one."""
        return float(self.radii(1).mean())

    def radii(self, k: int) -> np.ndarray:
        """manifold.radii of the features, taken once: every seed and every evaluation of a run asks for them."""
        if k not in self._radii:
            self._radii[k] = manifold.radii(self.features, k)
        return self._radii[k]


class KnownMoments(Reference):
    """Real images of which nothing is known but the moments of their features (statistics.py)."""

    def __init__(self, name: str, moments: Moments):
        super().__init__(name, np.zeros((0, moments.mean.size)), np.zeros(0, np.int32), 0)
        self.moments = moments  # in place of the property that takes them of the features


def reference(
    data: Dataset,
    extractor: Extractor,
    name: str,
    count: int | None = None,
    *,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Reference:
    """The features of count images of a data set, from the cache or taken now and kept there.

    The cache's key is the data's checksum, count and the extractor's checksum; without the last nothing is kept.

    Args:
      data: the real images.
      extractor: makes the features.
      name: of the real set in scores' names.
      count: how many images a protocol takes, always the same ones, spread over the set; None: all.
      folder, say: of kept_arrays.
    Raises:
      UserError: the set has fewer images than the protocol takes.
    """
    if count is not None and count > len(data):
        raise UserError(f"the protocol takes {count:,} real images; {data.name} has {len(data):,}")
    rows = data.content_order()
    if count is not None:
        rows = rows[np.sort(np.random.default_rng(0).permutation(len(data))[:count])]

    def take() -> dict[str, np.ndarray]:
        parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
        return {"features": np.concatenate([extractor.extract(data.images[part])[0] for part in parts])}

    if extractor.checksum:
        key = f"{FORM} {data.checksum()} {len(rows)} {extractor.checksum}"
        features = kept_arrays("real_features", key, take, folder=folder, say=say)["features"]
    else:
        features = take()["features"]
    return Reference(name, features, data.labels[rows], len(data.classes), count)
