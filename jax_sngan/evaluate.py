"""Scores of a run's checkpoint: generated images and real ones through a classifier, one number a metric."""

from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan import data as data_sets
from jax_sngan.errors import UserError
from jax_sngan.metrics import classes_covered, classifier, frechet_distance, score_name
from jax_sngan.sample import load

METRICS = ("fcd", "classes")
MINIMUM_SHARE = 0.02  # of the generated images, for a class to count as covered


def evaluate(
    workdir: str | Path,
    *,
    step: str | int = "latest",
    metrics: tuple[str, ...] = METRICS,
    num: int = 5000,
    seed: int = 0,
    real: str = "fashion_mnist",
    split: str = "test",
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Scores num images of the averaged generator.

    Args:
      metrics: fcd, the Frechet distance to the real images in the classifier's features, and classes, how many of
        the classifier's classes hold at least 2 % of the images, with the smallest share.
      seed: of the latents.
      real, split: the data set to compare with, as data.load takes them; its classifier is trained on its training
        images.
    Returns:
      {"step", "num", "classifier", "metrics": {name: value}}; names say their protocol (metrics.score_name).
    Raises:
      UserError: no such run or data, an unknown metric, or fewer than 2 images.
    """
    if unknown := [m for m in metrics if m not in METRICS]:
        raise UserError(f"unknown metric {unknown[0]!r}; there are: {', '.join(METRICS)}")
    if num < 2:
        raise UserError(f"num must be at least 2, got {num}")
    generator = load(workdir, step)
    m = generator.config.model
    if m.channels == 2:
        raise UserError(f"{workdir} makes points of the plane; evaluate.py scores images")
    size: dict[str, Any] = {"image_size": m.image_size, "channels": m.channels}
    data = data_sets.load(real, split=split, data_dir=data_dir, **size)
    net = classifier.load(real, data_dir=data_dir, **size)
    features, probabilities = net(generator.sample(num, seed=seed))
    values: dict[str, float] = {}
    if "fcd" in metrics:
        values[score_name("fcd", num, split)] = frechet_distance(net.features(data.images), features)
    if "classes" in metrics:
        covered, shares = classes_covered(probabilities, MINIMUM_SHARE)
        values[score_name("classes", num, split)] = covered
        values[score_name("smallest_share", num, split)] = float(np.min(shares))
    return {
        "step": generator.step,
        "num": num,
        "classifier": {"source": net.source, "accuracy": net.accuracy, "checksum": net.checksum},
        "metrics": values,
    }
