"""Perceptual path length: how far features move when a latent moves by a hair."""

import numpy as np
from numpy.typing import ArrayLike

from jax_sngan.metrics.kernel import features_of

STEP = 1e-4  # share of the way between two latents, as in the paper
DISCARDED = 1.0  # percent at either end that is left out, as in the authors' program (NVlabs/stylegan, metrics)


def path_length(here: ArrayLike, there: ArrayLike, step: float = STEP) -> float:
    """Mean of |f(there) - f(here)|^2 / step^2 without the lowest and the highest percent (Karras et al. 2019, 4.1).

    The paper's f is VGG-16 with learnt weights; here it is the extractor at hand, so that the figure carries its name.

    Args:
      here, there: [n, d] features of the images of latents at t and at t + step of the way between two of them.
      step: above 0.
    Raises:
      ValueError: a shape is not as above, a feature is not finite, or step is not above 0.
    """
    a, b = features_of(here, "here"), features_of(there, "there")
    if a.shape != b.shape:
        raise ValueError(f"here and there must have one shape, got {list(a.shape)} and {list(b.shape)}")
    if not step > 0:
        raise ValueError(f"step must be above 0, got {step}")
    lengths = np.sum((b - a) ** 2, axis=1) / step**2
    low = np.percentile(lengths, DISCARDED, method="lower")
    high = np.percentile(lengths, 100 - DISCARDED, method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())
