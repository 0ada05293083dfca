"""Features in, numbers out: every score as a function of arrays, and the networks that make the features.

A score's name says its protocol, `score_name`: metric, generated images, real set. `fcd` is the Frechet distance in
the features of `classifier`; only Inception's features may be called `fid`.
"""

from jax_sngan.metrics.coverage import classes_covered
from jax_sngan.metrics.frechet import Moments, frechet_distance, frechet_from_moments
from jax_sngan.metrics.inception_score import inception_score
from jax_sngan.metrics.intra_class import class_moments, intra_class_distances
from jax_sngan.metrics.kernel import kernel_distance
from jax_sngan.metrics.manifold import density_coverage, nearest_real, precision_recall
from jax_sngan.metrics.path_length import path_length

__all__ = [
    "Moments",
    "class_moments",
    "classes_covered",
    "density_coverage",
    "frechet_distance",
    "frechet_from_moments",
    "inception_score",
    "intra_class_distances",
    "kernel_distance",
    "nearest_real",
    "path_length",
    "precision_recall",
    "score_name",
]


def score_name(metric: str, generated: int, real: str, real_count: int | None = None) -> str:
    """The name under which a score is logged: ("fcd", 5000, "test") -> "fcd_5k_test".

    Args:
      metric: fcd, fid, ...
      generated: number of generated images.
      real: the real set, e.g. train or test.
      real_count: number of real images where a protocol fixes it: ("fid", 5000, "train", 10000) ->
        "fid_10k_5k_train", real first as the papers write it. None: all of the set.
    """
    counts = [generated] if real_count is None else [real_count, generated]
    return "_".join([metric, *(f"{n // 1000}k" if n and n % 1000 == 0 else str(n) for n in counts), real])
