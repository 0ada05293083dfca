"""Scores of a generator while it trains: what the evaluations of one run share, and each of them."""

from collections.abc import Callable

import numpy as np

from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.data.datasets import Dataset
from jax_sngan.evaluation.evaluate import real_side, score_one
from jax_sngan.evaluation.sources import Subject
from jax_sngan.metrics import scores
from jax_sngan.runs.sample import check_standing
from jax_sngan.training.loop import Make, Scores


class TrainingEvaluation:
    """What the evaluations of one run share: the real images' features, taken once, and the extractor.

    Each scores the averaged generator and its own weights on the latents of seed 0, as `evaluate` does of a checkpoint.
    """

    def __init__(self, config: TrainConfig, run: RunConfig, gan: GAN | None = None, data: Dataset | None = None):
        """
        Args:
          gan: None: the config's.
          data: what the run trains on, where it was given as arrays; unless run.evaluate_real names others, the
            scores are against these.
        Raises:
          UserError: a metric is not known, lacks what it needs or (the first) cannot choose the best checkpoint; the
            real images or the extractor can't be had.
        """
        self.gan, self.source, self.run = gan or as_gan(config), config.data, run
        self.asked = [name.strip() for name in run.evaluate_metrics.split(",")]
        if run.evaluate_features in ("classifier", "inception"):
            scores.check(self.asked, run.evaluate_features, lacking={})
        subject = self._subject(lambda *_: np.zeros(0), "")
        if run.standing_statistics:
            check_standing(self.gan, run.standing_statistics)
        own = run.evaluate_real is None or run.evaluate_real == config.data
        side = real_side(
            subject,
            self.asked,
            run.evaluate_num,
            [0],
            run.evaluate_real,
            None,
            None,
            run.data_dir if own else None,
            run.evaluate_features,
            stream=run.stream if own else "auto",
            data=data if run.evaluate_real is None else None,
        )
        self.extractor, self.real = side.extractor, side.reference
        self.sign = scores.lower_is_better(self.asked[0], self.extractor.name)

    def __call__(self, generator: Callable[[bool], Make]) -> Scores:
        """generator: of loop.Backend."""
        standing = self.run.standing_statistics
        values: dict[str, float] = {}
        for average, suffix in ((True, f"_standing{standing}" if standing else ""), (False, "_raw")):
            subject = self._subject(generator(average), suffix)
            values |= score_one(subject, self.real, self.extractor, self.asked, self.run.evaluate_num, 0, True)
        return Scores(values, self.sign * next(iter(values.values())))

    def _subject(self, make: Make, suffix: str) -> Subject:
        return Subject(self.gan, self.source, None, make, name="a run in training", suffix=suffix)
