"""Which scores there are, what each is called under an extractor, and its value for one set of generated images."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jax_sngan.config import other_names
from jax_sngan.metrics import (
    Moments,
    class_moments,
    classes_covered,
    density_coverage,
    frechet_from_moments,
    inception_score,
    intra_class_distances,
    kernel_distance,
    nearest_real,
    precision_recall,
    score_name,
)
from jax_sngan.metrics.extrapolation import frechet_extrapolation
from jax_sngan.metrics.reference import Reference
from jax_sngan.system.errors import UserError
from jax_sngan.system.nearest import nearest, suggestion

MINIMUM_SHARE = 0.02  # of the generated images, for a class to count as covered
NEIGHBOURS_PRECISION, NEIGHBOURS_DENSITY = 3, 5  # k of precision and recall, of density and coverage: the papers'
SPLITS = 10  # of the Inception Score


class Comparison:
    """One set of generated images against the real ones; what several scores share is computed once."""

    def __init__(
        self,
        real: Reference,
        features: np.ndarray,
        probabilities: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        *,
        seed: int = 0,
        path_length: Callable[[], float] | None = None,
    ):
        """
        Args:
          real: the real images' features.
          features: [n, d] of the generated ones.
          probabilities: [n, k] of classes, where the extractor has them.
          labels: int [n], the class that each image was made for, where there is one.
          seed: of the kernel distance's subsets.
          path_length: measures it; None where images come without their generator.
        """
        self.real, self.features, self.probabilities, self.labels = real, features, probabilities, labels
        self.seed, self.path_length = seed, path_length

    @cached_property
    def precision_recall(self) -> tuple[float, float]:
        """Both at once."""
        return precision_recall(
            self.real.features,
            self.features,
            NEIGHBOURS_PRECISION,
            real_radii=self.real.radii(NEIGHBOURS_PRECISION),
        )

    @cached_property
    def density_coverage(self) -> tuple[float, float]:
        """Both at once."""
        return density_coverage(
            self.real.features, self.features, NEIGHBOURS_DENSITY, real_radii=self.real.radii(NEIGHBOURS_DENSITY)
        )


class Score(NamedTuple):
    """How one score is computed."""

    values: Callable[[Comparison], dict[str, float]]  # what comes after its name, "" for itself -> value
    higher_is_better: bool | None = False  # None: neither, so it cannot choose the best checkpoint
    needs: str = ""  # probabilities, labels or generator
    generated: int = 2  # how many images there must be at least
    real: int = 2  # likewise; 0: it asks nothing of them
    moments: bool = False  # of the real images' features it takes no more than their moments


def _frechet(c: Comparison) -> dict[str, float]:
    return {"": frechet_from_moments(c.real.moments, Moments.of(c.features))}


def _frechet_inf(c: Comparison) -> dict[str, float]:
    return {"": frechet_extrapolation(c.real.moments, c.features, c.seed).limit}


def _kernel(c: Comparison) -> dict[str, float]:
    return {"": kernel_distance(c.real.features, c.features, c.seed)[0]}


def _score(c: Comparison) -> dict[str, float]:
    assert c.probabilities is not None
    return {"": inception_score(c.probabilities, min(SPLITS, len(c.probabilities)), c.seed)[0]}


def _classes(c: Comparison) -> dict[str, float]:
    assert c.probabilities is not None
    covered, shares = classes_covered(c.probabilities, MINIMUM_SHARE)
    return {"": covered, "smallest_share": float(np.min(shares))}


def _intra(c: Comparison) -> dict[str, float]:
    assert c.labels is not None
    made = class_moments(c.features, c.labels, c.real.classes, "the generated images")
    return {"": float(intra_class_distances(c.real.class_moments, made).mean())}


def _nearest(c: Comparison) -> dict[str, float]:
    """Mean distance to the nearest real image, in units of that between real images: near 0 for copies."""
    return {"": float(nearest_real(c.real.features, c.features)[1].mean() / c.real.spacing)}


def _path_length(c: Comparison) -> dict[str, float]:
    assert c.path_length is not None
    return {"": c.path_length()}


_BALL = NEIGHBOURS_PRECISION + 1  # images that a ball around one of them needs
SCORES = {
    "frechet": Score(_frechet, moments=True),
    "frechet_inf": Score(_frechet_inf, generated=20, moments=True),
    "kernel": Score(_kernel),
    "score": Score(_score, higher_is_better=True, needs="probabilities", real=0),
    "precision": Score(lambda c: {"": c.precision_recall[0]}, True, generated=_BALL, real=_BALL),
    "recall": Score(lambda c: {"": c.precision_recall[1]}, True, generated=_BALL, real=_BALL),
    "density": Score(lambda c: {"": c.density_coverage[0]}, higher_is_better=True, real=NEIGHBOURS_DENSITY + 1),
    "coverage": Score(lambda c: {"": c.density_coverage[1]}, higher_is_better=True, real=NEIGHBOURS_DENSITY + 1),
    "classes": Score(_classes, higher_is_better=True, needs="probabilities", real=0),
    "intra": Score(_intra, needs="labels"),
    "nearest": Score(_nearest, higher_is_better=None),
    "path_length": Score(_path_length, needs="generator", real=0),
}
# What the first scores are called. Only Inception's features make a FID; another extractor's are fd, kd and score.
_NAMES = {
    "classifier": {"frechet": "fcd", "frechet_inf": "fcd_inf", "kernel": "kcd", "score": "cs", "intra": "intra_fcd"},
    "inception": {"frechet": "fid", "frechet_inf": "fid_inf", "kernel": "kid", "score": "is", "intra": "intra_fid"},
}
_OTHER_NAMES = {"frechet": "fd", "frechet_inf": "fd_inf", "kernel": "kd", "score": "score", "intra": "intra_fd"}


def names(extractor: str) -> dict[str, str]:
    """What a user asks an extractor's scores by: their name -> the key in SCORES."""
    own = _NAMES.get(extractor, _OTHER_NAMES)
    return {own.get(key, key): key for key in SCORES}


def check(asked: Sequence[str], extractor: str, *, lacking: dict[str, str]) -> None:
    """Passes where each name is one of the extractor's scores and nothing that it needs is lacking.

    Args:
      lacking: what a score may need (Score.needs) and is not there -> why, for the person.
    Raises:
      UserError: names the first that does not pass.
    """
    known = names(extractor)
    if not asked:
        raise UserError(f"no metric was given; there are: {', '.join(known)}")
    for name in asked:
        if name not in known:
            where = [e for e in _NAMES if name in names(e)]
            hint = f" ({name} is of --features {where[0]})" if where else ""
            near = suggestion(nearest(name, known, other_names.METRICS))
            told = f"{near + ' ' if near else ''}there are: {', '.join(known)}"
            raise UserError(f"unknown metric {name!r} with features {extractor}{hint}; {told}")
        if needed := SCORES[known[name]].needs:
            if needed in lacking:
                raise UserError(f"metric {name} needs {needed}: {lacking[needed]}")


class Counts(NamedTuple):
    """How many images there are to score."""

    generated: int
    real: int | None  # None: only their statistics are known
    real_name: str
    generated_classes: np.ndarray | None = None  # int [classes]; None where there are none
    real_classes: np.ndarray | None = None  # likewise


def check_counts(asked: Sequence[str], extractor: str, counts: Counts) -> None:
    """Passes where there are images enough for each score; asked before any feature is taken.

    Raises:
      UserError: there are not; it names the first score.
    """
    for name in asked:
        score = SCORES[names(extractor)[name]]
        if counts.generated < score.generated:
            raise UserError(f"metric {name} needs at least {score.generated} generated images, got {counts.generated}")
        if counts.real is None and score.real and not score.moments:
            raise UserError(f"metric {name} needs the real images: {counts.real_name} holds only their mu and sigma")
        if counts.real is not None and counts.real < score.real:
            raise UserError(
                f"metric {name} needs at least {score.real} real images; {counts.real_name} has {counts.real}"
            )
        if score.needs == "labels":
            for whose, classes in (("generated", counts.generated_classes), ("real", counts.real_classes)):
                if classes is not None and classes.min() < 2:
                    raise UserError(
                        f"metric {name} needs at least 2 {whose} images of each class; class {classes.argmin()} has "
                        f"{classes.min()}"
                    )


def compute(asked: Sequence[str], extractor: str, comparison: Comparison, suffix: str = "") -> dict[str, float]:
    """The scores by their full names, which say the protocol: fcd_5k_test, precision_inception_10k_5k_train.

    Args:
      asked: names that `check` let pass.
      extractor: its name; part of every score's name, unless it is the classifier or the name says it.
      suffix: what else the names must say, as _raw.
    """
    known, values = names(extractor), {}
    spoken = _NAMES.get(extractor, {})
    for name in asked:
        key = known[name]
        for part, value in SCORES[key].values(comparison).items():
            whole = part or name
            if extractor != "classifier" and key not in spoken:
                whole = f"{whole}_{extractor}"
            real = comparison.real
            values[score_name(whole, len(comparison.features), real.name, real.protocol) + suffix] = value
    return values


def lower_is_better(name: str, extractor: str) -> float:
    """The sign that makes lower values of a score the better ones.

    Raises:
      UserError: neither direction of it is better.
    """
    higher = SCORES[names(extractor)[name]].higher_is_better
    if higher is None:
        raise UserError(
            f"metric {name} cannot choose the best checkpoint: neither direction is better; put another first"
        )
    return -1.0 if higher else 1.0
