"""Features in, numbers out: every score as a function of arrays, and the networks that make the features.

A score's name says its protocol, `score_name`: metric, generated images, real set. `fcd` is the Frechet distance in
the features of `classifier`; only Inception's features may be called `fid`.
"""

from jax_sngan.metrics.coverage import classes_covered
from jax_sngan.metrics.frechet import Moments, frechet_distance, frechet_from_moments
from jax_sngan.metrics.inception_score import inception_score
from jax_sngan.metrics.kernel import kernel_distance
from jax_sngan.metrics.manifold import density_coverage, nearest_real, precision_recall

__all__ = [
    "Moments",
    "classes_covered",
    "density_coverage",
    "frechet_distance",
    "frechet_from_moments",
    "inception_score",
    "kernel_distance",
    "nearest_real",
    "precision_recall",
    "score_name",
]


def score_name(metric: str, generated: int, real: str) -> str:
    """The name under which a score is logged: ("fcd", 5000, "test") -> "fcd_5k_test".

    Args:
      metric: fcd, fid, ...
      generated: number of generated images.
      real: the real set, e.g. train or test.
    """
    count = f"{generated // 1000}k" if generated and generated % 1000 == 0 else str(generated)
    return f"{metric}_{count}_{real}"
