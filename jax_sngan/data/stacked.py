"""Three grey images as the colours of one: 1,000 modes from ten digits (Metz et al. 2017, stacked MNIST)."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096  # rows whose pictures are drawn together


def stacked_images(
    images: NDArray[np.uint8], labels: NDArray[np.integer], classes: int, seed: int, *, start: int = 0, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Rows start to start + count of the endless stream of stacks that a seed gives.

    Each channel of each row is an image drawn at random, on its own, with replacement. A row depends on the seed and
    its number alone, so a stream may be read in parts of any size, and again.

    Args:
      images: [n, h, w] or [n, h, w, 1], grey.
      labels: [n] in [0, classes).
      classes: k; there are k^3 modes.
      seed: of the stream.
      start: the first row.
      count: rows.
    Returns:
      Images [count, h, w, 3], and the mode of each [count]: k^2 a + k b + c for red a, green b and blue c, so that
      with ten digits the number is read as the colours' digits.
    Raises:
      ValueError: a shape, type or range is not as above.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    grey = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    if images.dtype != np.uint8 or grey.ndim != 3 or not len(grey):
        raise ValueError(f"images must be uint8 [n, h, w] or [n, h, w, 1], got {images.dtype} {list(images.shape)}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(grey),):
        raise ValueError(f"labels must be {len(grey)} integers, got {labels.dtype} {list(labels.shape)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be in [0, {classes}), got {labels.min()} to {labels.max()}")
    if start < 0 or count < 1:
        raise ValueError(f"start must be at least 0 and count at least 1, got {start} and {count}")
    blocks = range(start // _BLOCK, (start + count - 1) // _BLOCK + 1)
    drawn = np.concatenate([_rows_of_block(seed, block, len(grey)) for block in blocks])
    rows = drawn[start - blocks[0] * _BLOCK :][:count]  # [count, 3]
    digits = labels[rows].astype(np.int32)
    return np.stack([grey[r] for r in rows.T], axis=-1), stacked_mode(digits, classes)


def stacked_mode(digits: NDArray[np.integer], classes: int) -> NDArray[np.int32]:
    """The mode of classes [n, 3] of red, green and blue: int32 [n] in [0, classes^3)."""
    return (digits @ np.array([classes**2, classes, 1])).astype(np.int32)


def _rows_of_block(seed: int, block: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, block]).integers(n, size=(_BLOCK, 3))
