"""How far apart samples lie in a feature space that costs nothing: a small network with fixed random weights.

A generator that has collapsed makes the same image of every latent. Pixels alone would see noise as spread; these
features are of edges and colours in each quarter of the image, and need no training and no download (of such networks:
Saxe et al. 2011, "On random weights and unsupervised feature learning"). Knows neither jax nor torch.
"""

import numpy as np
from numpy.typing import NDArray

_SIDE = 32  # pixels; larger images are averaged down
_WIDTHS = (16, 32)  # channels of the two convolutions, each 3 x 3 with stride 2


def features(images: np.ndarray) -> NDArray[np.float32]:
    """[n, d] of images uint8 [n, h, w, c]; points [n, 1, 1, 2] are their own."""
    n, h, w, c = images.shape
    if images.dtype != np.uint8:
        return images.reshape(n, -1).astype(np.float32)
    x = images.astype(np.float32) / 127.5 - 1
    by = max(1, min(h, w) // _SIDE)
    x = x[:, : h // by * by, : w // by * by].reshape(n, h // by, by, w // by, by, c).mean(axis=(2, 4))
    rng = np.random.default_rng(0)
    for width in _WIDTHS:
        fan_in = 9 * x.shape[-1]
        kernel = rng.standard_normal((fan_in, width), dtype=np.float32) / np.float32(fan_in**0.5)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
        x = np.maximum(windows.reshape(*windows.shape[:3], -1) @ kernel, 0)
    rows, columns = (np.array_split(np.arange(side), min(2, side)) for side in x.shape[1:3])
    return np.concatenate([x[:, r][:, :, q].mean(axis=(1, 2)) for r in rows for q in columns], axis=1)


def spread(found: NDArray[np.float32]) -> float:
    """Mean distance of each of [n, d] features to the nearest other one: 0 where there are a few images many times."""
    wide = found.astype(np.float64)
    squares = np.sum(wide * wide, axis=1)
    apart = squares[:, None] + squares[None] - 2 * wide @ wide.T
    np.fill_diagonal(apart, np.inf)
    return float(np.mean(np.sqrt(np.maximum(apart.min(axis=1), 0))))


def relative_spread(samples: np.ndarray, real: np.ndarray) -> float:
    """The spread of samples over that of as many real images: about 1 where they are as varied, 0 for one image."""
    n = min(len(samples), len(real))
    return spread(features(samples[:n])) / max(spread(features(real[:n])), 1e-12)
