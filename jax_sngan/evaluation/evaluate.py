"""Scores of a run, of a folder of images or of an npz: generated images and real ones through one extractor."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.data import datasets as data_sets
from jax_sngan.data import official
from jax_sngan.data.datasets import Dataset
from jax_sngan.data.image_folder import Stream
from jax_sngan.evaluation.intervals import interval, paired_p
from jax_sngan.evaluation.sources import Subject, check_there, open_subject
from jax_sngan.metrics import Moments, classifier, scores
from jax_sngan.metrics.extractors import Extractor, of_function, open_extractor
from jax_sngan.metrics.reference import KnownMoments, Reference, reference
from jax_sngan.metrics.statistics import read_statistics
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown

PROTOCOLS = {"10k_5k": (10_000, 5_000), "50k_50k": (50_000, 50_000)}  # real images, generated images
DEFAULT_METRICS = ("frechet", "classes")  # the latter where the extractor has classes
DEFAULT_NUM = 5_000
TEST = "paired t-test over the same seeds of latents (two-sided)"

Features = str | Extractor | Callable[[np.ndarray], Any]


def evaluate(
    subject: str | Path,
    *,
    step: str | int = "latest",
    metrics: Sequence[str] | None = None,
    num: int | None = None,
    seed: int = 0,
    seeds: int = 1,
    protocol: str | None = None,
    real: str | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    features: Features = "classifier",
    raw: bool = False,
    standing: int = 0,
    gan: GAN | Callable[[TrainConfig], GAN] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores generated images against real ones.

    Args:
      subject: a run's workdir, a FOLDER of images (or an archive of one), or a FILE.npz.
      step: of a workdir: latest, best or a number.
      metrics: names of scores.py under the extractor; default: its Frechet distance, and classes covered.
      num: generated images; default: the protocol's, else 5,000 of a workdir and all of a folder or file.
      seed: of the latents, or of which images are taken where there are more than num; of the kernel distance.
      seeds: how many seeds, from `seed` on; with 2 or more a value is their mean, with its interval.
      protocol: 10k_5k (10,000 real, 5,000 generated images) or 50k_50k; default: all real images.
      real, split: the data to compare with, as load_data takes them; or FILE.npz with mu and sigma of their features,
        for Frechet distances. Default: what the run was trained on, for `fashion` the official test images where they
        are on this machine. split defaults to test where the data have official test images, enough for the protocol;
        else train.
      features: classifier (trained once on the real set's training images), inception, FILE.pth, FILE.onnx, a function
        of uint8 [n, h, w, c], or an Extractor.
      raw: the generator's own weights, not their average.
      standing: 0, or the number of latents on which the generator's batch statistics are taken anew.
      gan: as runs.run.load's: of a run whose GAN is not its config's.
      progress: show a bar.
    Returns:
      {"step", "num", "metrics": {name: value}, "intervals": {name: [low, high]}, "values": {name: [one a seed]},
      "seeds", "real", "extractor"}; names say their protocol.
    Raises:
      UserError: no such subject or data, a metric that is not known or lacks what it needs, an option out of its range.
    """
    real_count, protocol_num = _check_asked(metrics, num, seed, seeds, protocol, features)
    given = open_subject(subject, step=step, raw=raw, standing=standing, gan=gan)
    num = num or protocol_num or (DEFAULT_NUM if given.total is None else given.total)
    given.check(num, seeds)
    each = range(seed, seed + seeds)
    side = real_side(given, metrics, num, each, real, split, real_count, data_dir, features)
    asked, extractor, against = side.asked, side.extractor, side.reference
    runs = [score_one(given, against, extractor, asked, num, s, progress) for s in each]
    values = {name: [run[name] for run in runs] for name in runs[0]}
    return {
        "step": given.step,
        "num": num,
        "metrics": {name: float(np.mean(v)) if seeds > 1 else v[0] for name, v in values.items()},
        "intervals": {name: interval(v) for name, v in values.items()} if seeds > 1 else {},
        "values": values,
        "seeds": list(each),
        "real": side.facts,
        "extractor": extractor.describe(),
    }


def _check_asked(
    metrics: Sequence[str] | None, num: int | None, seed: int, seeds: int, protocol: str | None, features: Features
) -> tuple[int | None, int | None]:
    """The protocol's numbers of real and of generated images; what is wrong in evaluate's arguments is told here."""
    if seeds < 1 or not 0 <= seed < 2**32 - seeds:
        raise UserError(f"seeds must be at least 1 and seed from 0 to 2**32 - 1, got {seeds} and {seed}")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    real_count, protocol_num = PROTOCOLS[protocol] if protocol else (None, None)
    if protocol_num and num not in (None, protocol_num):
        raise UserError(f"num must be {protocol_num} under protocol {protocol}, got {num}")
    named = features if isinstance(features, str) else _named(features).name
    if metrics is not None and named in ("classifier", "inception"):
        scores.check(metrics, named, lacking={})  # a wrong name is told before anything is loaded or trained
    if num is not None and num < 2:  # 0 would mean: not given
        raise UserError(f"num must be at least 2, got {num}")
    return real_count, protocol_num


class RealSide(NamedTuple):
    """The real images, and all that is known before the first generated one is made."""

    asked: list[str]  # metrics
    extractor: Extractor
    reference: Reference
    facts: dict[str, Any]  # for who reads the scores: name, split, count and checksum


def real_side(
    given: Subject,
    metrics: Sequence[str] | None,
    num: int,
    seeds: Sequence[int],
    real: str | None,
    split: str | None,
    real_count: int | None,
    data_dir: str | None,
    features: Features,
    *,
    stream: Stream = "auto",
    data: Dataset | None = None,
) -> RealSide:
    """The real images' side of evaluate's arguments; what cannot be scored is told before any feature is taken.

    Args:
      num, seeds: of the generated images.
      real: images, or FILE.npz with mu and sigma as FID programs keep them.
      stream: of load_data. data: the real images, where they are there already.
    Raises:
      UserError: as evaluate.
    """
    if real is not None and (moments := read_statistics(Path(real))) is not None:
        return _statistics_side(given, metrics, num, real, moments, features, split, real_count, data_dir)
    source, split = choose_real(real, given.source, split, real_count or 0)
    if data is None:
        if real is None and given.total is None and given.step is not None:
            tell_of_path(source, given.name)
        data = load_real(source, split, given, data_dir, stream)
    extractor = open_features(features, source, given, data_dir)
    asked = default_metrics(extractor) if metrics is None else list(metrics)
    scores.check(asked, extractor.name, lacking=lacking(given, extractor, data))
    count = real_count or len(data)
    real_classes = np.bincount(data.labels, minlength=len(data.classes)) if data.classes else None
    for seed in seeds:
        made = given.class_counts(num, seed)
        scores.check_counts(asked, extractor.name, scores.Counts(num, count, data.name, made, real_classes))
    against = reference(data, extractor, real_name(source, split), real_count)
    facts = {"name": data.name, "split": split, "count": len(against.features), "checksum": data.checksum()}
    return RealSide(asked, extractor, against, facts)


def _statistics_side(
    given: Subject,
    metrics: Sequence[str] | None,
    num: int,
    real: str,
    moments: Moments,
    features: Features,
    split: str | None,
    real_count: int | None,
    data_dir: str | None,
) -> RealSide:
    """real_side of a file of statistics."""
    size = moments.mean.size
    for option, value in (("split", split), ("protocol", real_count), ("data_dir", data_dir)):
        if value is not None:
            raise UserError(f"{option} is of real images, and {real} holds mu and sigma of their features; got {value}")
    if features == "classifier":
        raise UserError(
            f"{real} holds mu and sigma of {size} features, and no images to train a classifier on: --features must be "
            "the network that made them, inception, FILE.pth or FILE.onnx"
        )
    extractor = open_features(features, real, given, None)
    asked = default_metrics(extractor) if metrics is None else list(metrics)
    lacks = {"labels": f"{real} holds only mu and sigma"} | _lacks_generator(given, extractor)
    scores.check(asked, extractor.name, lacking=lacks)
    scores.check_counts(asked, extractor.name, scores.Counts(num, None, real))
    name, probe = Path(real).stem, next(given.batches(2, 0))[0]
    if (own := extractor.extract(probe)[0].shape[1]) != size:
        raise UserError(f"{real} holds the mu and sigma of {size} features; {extractor.name} has {own}")
    digest = hashlib.sha256(moments.mean.tobytes() + moments.scatter.tobytes()).hexdigest()
    facts = {"name": f"statistics:{name}", "split": None, "count": None, "checksum": digest}
    return RealSide(asked, extractor, KnownMoments(name, moments), facts)


def compare(a: str | Path, b: str | Path, *, seeds: int = 5, **options: Any) -> dict[str, Any]:
    """Scores two subjects on the same seeds, and tests whether they differ.

    Seed by seed the two get the same latents (or, of folders, draws of one seed), the same real images and the same
    subsets; the test is of the differences b - a.

    Args:
      a, b, seeds, options: as in evaluate; seeds at least 2. A score that is not better lower or higher is tested too.
    Returns:
      {"a": evaluate's, "b": evaluate's, "test", "differences": {name: {"mean", "interval", "p"}}}.
    Raises:
      UserError: as evaluate, or fewer than 2 seeds.
    """
    if seeds < 2:
        raise UserError(f"a comparison needs at least 2 seeds, got {seeds}")
    for subject in (a, b):  # a second one that is missing is told before the first is scored
        check_there(subject)
    results = [evaluate(s, seeds=seeds, **options) for s in (a, b)]
    if results[0]["extractor"]["checksum"] != results[1]["extractor"]["checksum"]:
        raise UserError(
            f"{a} and {b} have images of different sizes, and so different extractors; name one with --real"
        )
    differences = {}
    for name, first in results[0]["values"].items():
        gaps = np.subtract(results[1]["values"][name], first)
        equal = bool(np.ptp(gaps) == 0)  # a constant difference has no spread to test it by
        p = (1.0 if gaps[0] == 0 else 0.0) if equal else paired_p(gaps)
        differences[name] = {"mean": float(gaps.mean()), "interval": interval(gaps.tolist()), "p": p}
    return {"a": results[0], "b": results[1], "test": f"{TEST}, {seeds} seeds", "differences": differences}


def choose_real(asked: str | None, trained_on: str | None, split: str | None, real_count: int) -> tuple[str, str]:
    """(source, split) of the real images: what is asked for, else as evaluate says.

    Raises:
      UserError: there is no source.
    """
    source = asked or trained_on
    if source is None:
        raise UserError(
            "--real must name the real images of what is no run, or is a converted network, which does not say what it "
            "was trained on: a data set, FILE.npz or FOLDER"
        )
    if asked is None and source == "fashion" and split != "train" and classifier.fashion_mnist_here():
        source = "fashion_mnist"
    if split is None:
        held_out = source in official.NAMES and real_count <= official.OFFICIAL_SIZES["test"][source]
        split = "test" if held_out else "train"
    return source, split


def tell_of_path(source: str, run: str) -> None:
    """Says on stderr which file or folder is opened since a checkpoint's config names it: nobody typed it here."""
    if data_sets.is_path(source):
        print(f"note: opens {shown(source)}, the real images that the config of {shown(run)} names", file=sys.stderr)


def real_name(source: str, split: str) -> str:
    """The real set's part of a score's name: fashion for the images that ship with the package, else the split."""
    return source if source == "fashion" else split


def load_real(source: str, split: str, given: Subject, data_dir: str | None, stream: Stream = "auto") -> Dataset:
    """The real images, brought to the size of the generated ones; stream: of load_data.

    Raises:
      UserError: they can't be had.
    """
    size: dict[str, Any] = {"image_size": given.image_size, "channels": given.channels}
    if data_dir is None and source == "fashion_mnist":
        here = classifier.fashion_mnist_here()
        data_dir = str(here) if here else None
    return data_sets.load_data(source, split=split, data_dir=data_dir, stream=stream, **size)


def open_features(features: Features, source: str, given: Subject, data_dir: str | None) -> Extractor:
    """The extractor that evaluate's `features` names.

    Raises:
      UserError: it can't be had.
    """
    if not isinstance(features, str):
        return _named(features)
    size: dict[str, Any] = {"image_size": given.image_size, "channels": given.channels}
    return open_extractor(features, lambda: classifier.load_classifier(source, data_dir=data_dir, **size))


def _named(features: Extractor | Callable[[np.ndarray], Any]) -> Extractor:
    if isinstance(features, Extractor):
        return features
    return of_function(features, getattr(features, "__name__", "function"))


def default_metrics(extractor: Extractor) -> list[str]:
    """The Frechet distance under its name and, by the classifier, the classes covered."""
    wanted = DEFAULT_METRICS if extractor.name == "classifier" else DEFAULT_METRICS[:1]
    return [name for name, key in scores.names(extractor.name).items() if key in wanted]


def lacking(given: Subject, extractor: Extractor, data: Dataset) -> dict[str, str]:
    """What a score may need and is not there -> why."""
    found = {}
    if not given.classes:
        found["labels"] = given.unlabelled or f"{given.name} has no classes"
    elif data.unlabelled:
        found["labels"] = data.unlabelled
    elif len(data.classes) != given.classes:
        found["labels"] = f"{given.name} has {given.classes} classes and {data.name} {len(data.classes)}"
    return found | _lacks_generator(given, extractor)


def _lacks_generator(given: Subject, extractor: Extractor) -> dict[str, str]:
    if given.generator is None:
        return {"generator": f"{given.name} holds images; only a run can be walked through"}
    if extractor.unrounded is None:
        return {"generator": f"{extractor.name} takes whole grey levels, which hide a step of 1/10,000 of the way"}
    return {}


def score_one(
    given: Subject, real: Reference, extractor: Extractor, asked: Sequence[str], num: int, seed: int, progress: bool
) -> dict[str, float]:
    """The scores of one seed; images are made and scored batch by batch and not kept."""
    made: list[Any] = []
    labels: list[np.ndarray] = []
    with tqdm(total=num, unit="image", desc=f"seed {seed}", disable=None if progress else True, leave=False) as bar:
        for images, classes in given.batches(num, seed):
            made.append(extractor.extract(images))
            labels += [] if classes is None else [classes]
            bar.update(len(images))
    features = np.concatenate([f for f, _ in made])
    has = made[0][1] is not None
    if not has and (
        bad := [a for a in asked if scores.SCORES[scores.names(extractor.name)[a]].needs == "probabilities"]
    ):
        raise UserError(f"metric {bad[0]} needs probabilities: {extractor.name} gives features alone")
    probabilities = np.concatenate([p for _, p in made]) if has else None
    comparison = scores.Comparison(
        real,
        features,
        probabilities,
        np.concatenate(labels) if labels else None,
        seed=seed,
        path_length=lambda: given.path_length(extractor, num, seed),
    )
    return scores.compute(asked, extractor.name, comparison, given.suffix)
