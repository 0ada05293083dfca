"""Inception Score: how sure a classifier is of each image, and how evenly its classes are used."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike


def inception_score(probabilities: ArrayLike, splits: int = 10, seed: int | None = 0) -> tuple[float, float]:
    """Mean and standard deviation over splits of exp(mean KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4).

    The rows are dealt out by chance, whatever their order: images that come class by class would have splits of one
    class each, and a score near 1. Split i holds rows from i n / splits on; its p(y) is its own mean.

    Args:
      probabilities: [n, k], each row a distribution over k classes, to 1e-4.
      splits: 1 to n.
      seed: of the splits; None: rows in their order, as in the authors' program.
    Returns:
      (mean, standard deviation), each split's score from 1 to k.
    Raises:
      ValueError: a shape, range or sum is not as above.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not p.size:
        raise ValueError(f"probabilities must be [n, k] and not empty, got shape {p.shape}")
    if not (np.isfinite(p).all() and p.min() >= 0 and np.abs(p.sum(1) - 1).max() <= 1e-4):
        raise ValueError("each row of probabilities must be at least 0 everywhere and sum to 1")
    if not 1 <= splits <= len(p):
        raise ValueError(f"splits must be from 1 to {len(p)}, got {splits}")
    if seed is not None and splits > 1:
        digests = np.array([hashlib.sha256(row.tobytes()).digest() for row in p])
        p = p[np.argsort(digests, kind="stable")][np.random.default_rng(seed).permutation(len(p))]
    scores = []
    for i in range(splits):
        part = p[i * len(p) // splits : (i + 1) * len(p) // splits]
        marginal = part.mean(0)
        # 0 log 0 is 0; where a row is above 0 its mean is too.
        ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)
        scores.append(np.exp(np.sum(part * np.log(ratio), axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
