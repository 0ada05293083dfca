"""Which classes a set of generated images covers."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def classes_covered(
    scores: ArrayLike, minimum_share: float = 0.02, classes: int | None = None
) -> tuple[int, NDArray[np.float64]]:
    """How many classes hold at least a share of the images.

    Args:
      scores: [n, k] probabilities (the largest decides), or [n] integer predictions.
      minimum_share: share of the n images, in [0, 1], that a class must reach to count.
      classes: k, needed with predictions.
    Returns:
      The number of classes at minimum_share or more, and the share of each class [k], which sum to 1.
    Raises:
      ValueError: a shape, type or range is not as above.
    """
    scores = np.asarray(scores)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise ValueError(f"expected probabilities [n, k] or predictions [n], got shape {scores.shape}")
    if not 0.0 <= minimum_share <= 1.0:
        raise ValueError(f"minimum_share must be in [0, 1], got {minimum_share}")
    if scores.ndim == 2:
        if classes not in (None, scores.shape[1]):
            raise ValueError(f"probabilities of {scores.shape[1]} classes, but classes is {classes}")
        if not np.isfinite(scores).all():
            raise ValueError("probabilities hold NaN or infinity")
        classes, predictions = scores.shape[1], scores.argmax(axis=1)
    else:
        if classes is None:
            raise ValueError("predictions [n] need the number of classes")
        predictions = scores
        if not np.issubdtype(predictions.dtype, np.integer):
            raise ValueError(f"predictions must be integers, got {predictions.dtype}")
        if predictions.min() < 0 or predictions.max() >= classes:
            raise ValueError(f"predictions must be in [0, {classes}), got {predictions.min()} to {predictions.max()}")
    shares = np.bincount(predictions, minlength=classes) / len(predictions)  # [k]
    return int((shares >= minimum_share).sum()), shares
