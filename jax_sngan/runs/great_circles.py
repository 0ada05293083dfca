"""The way between two latents on which their norm stays typical of N(0, 1)."""

import numpy as np

_PARALLEL = 1e-6  # sine of the angle between two latents below which there is no plane through them


def great_circle(a: np.ndarray, b: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Points [n, d] a share of the way from a to b at constant angular speed (Shoemake 1985); share: one, or [n, 1].

    Between latents of nearly one direction the way is straight. Between opposite ones any great circle is as short:
    it is the one by the axis from which a is furthest.
    """
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    units = [np.divide(x, n, out=np.zeros_like(x), where=n > 0) for x, n in zip((a, b), lengths, strict=True)]
    cosine = np.sum(units[0] * units[1], axis=1, keepdims=True)
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    near, opposite = (sine < _PARALLEL) & (cosine > 0), (sine < _PARALLEL) & (cosine < 0)
    safe = np.where(sine < _PARALLEL, 1, sine)
    curved = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / safe
    axis = np.eye(a.shape[1], dtype=a.dtype)[np.abs(a).argmin(axis=1)]
    beside = axis - np.sum(axis * units[0], axis=1, keepdims=True) * units[0]
    beside /= np.linalg.norm(beside, axis=1, keepdims=True).clip(np.finfo(a.dtype).tiny)
    length = (1 - share) * lengths[0] + share * lengths[1]
    around = (np.cos(share * np.pi) * units[0] + np.sin(share * np.pi) * beside) * length
    straight = (1 - share) * a + share * b
    unit = (lengths[0] == 0) | (lengths[1] == 0)
    return np.where(near | unit, straight, np.where(opposite, around, curved)).astype(np.result_type(a, b, curved))
