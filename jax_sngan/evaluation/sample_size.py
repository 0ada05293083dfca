"""How a Frechet distance depends on the number of images, and what it would be of infinitely many."""

from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.evaluation import evaluate
from jax_sngan.evaluation.sources import open_subject
from jax_sngan.metrics import extrapolation, scores
from jax_sngan.metrics.reference import reference


def measure(
    subject: str | Path,
    *,
    step: str | int = "latest",
    num: int,
    repeats: int,
    real: str | None = None,
    data_dir: str | None = None,
    features: str = "classifier",
) -> dict[str, Any]:
    """Curves of the subject and, where the real set is a test split, of the training images against it.

    Args:
      subject, step, real, data_dir, features: as of evaluate.evaluate.
      num: the most images.
      repeats: random parts of each size, over which a distance is averaged.
    Returns:
      metric, real (what it is against), extractor, and curves: each a name, counts [k], distances [k], and the line
      distance = limit + slope / count.
    Raises:
      UserError: the subject, the real images or the network can't be had, or there are too few images.
    """
    given = open_subject(subject, step=step, raw=False, standing=0)
    given.check(num, 1)
    source, split = evaluate.choose_real(real, given.source, None, 0)
    data = evaluate.load_real(source, split, given, data_dir)
    extractor = evaluate.open_features(features, source, given, data_dir)
    target = reference(data, extractor, evaluate.real_name(source, split))
    found_features = [extractor.extract(images)[0] for images, _ in given.batches(num, 0)]
    sets = {Path(given.name).name: np.concatenate(found_features)}
    if split == "test":
        training = evaluate.load_real(source, "train", given, data_dir)
        rows = np.random.default_rng(0).permutation(len(training))[:num]
        sets["real training images"] = extractor.extract(training.images[rows])[0]
    curves = []
    for name, made in sets.items():
        found = [extrapolation.frechet_extrapolation(target.moments, made, s) for s in range(repeats)]
        distances = np.mean([f.distances for f in found], axis=0)
        slope, limit = np.polyfit(1 / found[0].counts, distances, 1)
        counts = found[0].counts.tolist()
        curves.append({"name": name, "counts": counts, "distances": distances.tolist(), "slope": slope, "limit": limit})
    metric = next(name for name, key in scores.names(extractor.name).items() if key == "frechet")
    against = f"{len(data):,} images of {data.name}, {split}"
    return {"metric": metric, "real": against, "extractor": extractor.describe(), "curves": curves}
