"""Mode collapse: how many of a known distribution's modes a generator makes, how well, and in which proportion."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from jax_sngan.data.stacked import stacked_mode
from jax_sngan.metrics.divergences import kl_divergence


class ModeScores(NamedTuple):
    """What a set of samples covers."""

    covered: int  # modes that hold enough good samples
    modes: int  # modes that there are
    high_quality: float  # share of good samples, 0 to 1
    kl: float  # KL(true | generated) in nats: infinite where a mode is missed altogether
    reverse_kl: float  # KL(generated | true), as VEEGAN and PacGAN report it: at most log(modes) if all are equal
    shares: NDArray[np.float64]  # [modes] of all samples, good or not

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; an infinite kl as None."""
        kl = self.kl if np.isfinite(self.kl) else None
        return {**self._asdict(), "kl": kl, "shares": self.shares.tolist()}


def mode_scores(
    modes: ArrayLike, good: ArrayLike, count: int, *, minimum: int = 1, true_shares: ArrayLike | None = None
) -> ModeScores:
    """Scores of samples whose modes are known.

    Args:
      modes: integers [n] in [0, count), the mode of each sample.
      good: booleans [n], whether a sample is of high quality; only those cover a mode (VEEGAN, section 4.1).
      count: modes that there are.
      minimum: good samples that cover a mode.
      true_shares: [count] of the true distribution; default: all equal.
    Raises:
      ValueError: a shape, type or range is not as above, or true_shares is no distribution.
    """
    modes, good = np.asarray(modes), np.asarray(good)
    if modes.ndim != 1 or modes.size == 0 or modes.dtype.kind not in "iu":
        raise ValueError(f"modes must be integers [n], n at least 1, got {modes.dtype} {list(modes.shape)}")
    if modes.min() < 0 or modes.max() >= count:
        raise ValueError(f"modes must be in [0, {count}), got {modes.min()} to {modes.max()}")
    if good.dtype != np.bool_ or good.shape != modes.shape:
        raise ValueError(f"good must be {len(modes)} booleans, got {good.dtype} {list(good.shape)}")
    if minimum < 1:
        raise ValueError(f"minimum must be at least 1, got {minimum}")
    shares = np.bincount(modes, minlength=count) / len(modes)
    true = np.full(count, 1 / count) if true_shares is None else np.asarray(true_shares, np.float64)
    covered = int((np.bincount(modes[good], minlength=count) >= minimum).sum())
    return ModeScores(
        covered, count, float(good.mean()), kl_divergence(true, shares), kl_divergence(shares, true), shares
    )


def point_modes(
    points: ArrayLike,
    centres: ArrayLike,
    std: float,
    *,
    radius: float = 3.0,
    minimum: int = 1,
    true_shares: ArrayLike | None = None,
) -> ModeScores:
    """Scores of points: each belongs to the nearest centre, and is good within `radius` std of it (VEEGAN).

    Args:
      points: [n, d]. A point that is not finite is bad and of the first mode: a generator that diverged is scored too.
      centres: [k, d].
      std: of one coordinate of a mode, in the unit of the points. Of true points in the plane 98.9 % are good.
      radius: in units of std.
      minimum, true_shares: as in `mode_scores`.
    Raises:
      ValueError: a shape or range is not as above.
    """
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    if points.ndim != 2 or centres.ndim != 2 or points.shape[1] != centres.shape[1] or not points.size:
        raise ValueError(f"points [n, d] and centres [k, d] needed, got {list(points.shape)} and {list(centres.shape)}")
    if not np.isfinite(centres).all():
        raise ValueError("centres hold NaN or infinity")
    for name, value in (("std", std), ("radius", radius)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
    distances = np.nan_to_num(cdist(points, centres), nan=np.inf)
    nearest = distances.argmin(axis=1)
    good = distances[np.arange(len(points)), nearest] <= radius * std
    return mode_scores(nearest, good, len(centres), minimum=minimum, true_shares=true_shares)


def image_modes(
    probabilities: ArrayLike,
    *,
    confidence: float = 0.0,
    minimum: int = 1,
    true_shares: ArrayLike | None = None,
) -> ModeScores:
    """Scores of images by a classifier: each is of its likeliest class, and good if that is likely enough.

    Args:
      probabilities: [n, k], rows of sum 1.
      confidence: least probability of the likeliest class, in [0, 1]. At 0 every image is good, as Metz et al. 2017
        and later papers count modes.
      minimum, true_shares: as in `mode_scores`.
    Raises:
      ValueError: a shape or range is not as above.
    """
    p = _probabilities(probabilities)
    return mode_scores(
        p.argmax(axis=1), _confident(p.max(axis=1), confidence), p.shape[1], minimum=minimum, true_shares=true_shares
    )


def stacked_modes(
    probabilities: Sequence[ArrayLike],
    *,
    confidence: float = 0.0,
    minimum: int = 1,
    true_shares: ArrayLike | None = None,
) -> ModeScores:
    """Scores of stacked images (data/stacked.py) from what a classifier of single images says of each colour.

    Args:
      probabilities: three arrays [n, k], of red, green and blue.
      confidence: least product of the three likeliest classes' probabilities, which is that of the likeliest mode.
      minimum, true_shares: as in `mode_scores`, of k^3 modes.
    Raises:
      ValueError: a shape or range is not as above.
    """
    if len(probabilities) != 3:
        raise ValueError(f"three colours needed, got {len(probabilities)}")
    colours = [_probabilities(p) for p in probabilities]
    if len({p.shape for p in colours}) != 1:
        raise ValueError(f"the three must have one shape, got {[list(p.shape) for p in colours]}")
    classes = colours[0].shape[1]
    modes = stacked_mode(np.stack([p.argmax(axis=1) for p in colours], axis=1), classes)
    likely = np.prod([p.max(axis=1) for p in colours], axis=0)
    return mode_scores(modes, _confident(likely, confidence), classes**3, minimum=minimum, true_shares=true_shares)


def _probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or p.size == 0:
        raise ValueError(f"probabilities must be [n, k], not empty, got shape {p.shape}")
    if not (np.isfinite(p).all() and p.min() >= 0 and np.allclose(p.sum(axis=1), 1, rtol=0, atol=1e-4)):
        raise ValueError("probabilities must be at least 0 and each row sum to 1")
    return p


def _confident(likely: NDArray[np.float64], confidence: float) -> NDArray[np.bool_]:
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be in [0, 1], got {confidence}")
    return likely >= confidence
