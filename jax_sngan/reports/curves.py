"""Curves of several runs: those that differ in their seed alone are one kind, whose curves have a band."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jax_sngan.config.fields import flatten
from jax_sngan.config.schema import TrainConfig
from jax_sngan.reports.plots import Line, Plot
from jax_sngan.runs.log import OF_STANDING, values_of
from jax_sngan.runs.workdir import config_of, framework_of
from jax_sngan.system.errors import UserError


@dataclass(frozen=True)
class Curve:
    """One number over the training of n runs that differ in their seed alone.

    Attributes:
      name: the config's, with the framework where it is torch's, and the options that tell it from others so named.
      runs: their folders.
      steps: [k] where every run has a value.
      values: [n, k].
    """

    name: str
    runs: list[str]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def spread(self) -> float:
        """The standard deviation of the runs' last values; NaN of one run."""
        return float(np.std(self.values[:, -1], ddof=1)) if len(self.runs) > 1 else float("nan")

    def line(self, label: str, *, colour: int = 0, dash: int = 0, most: int | None = None) -> Line:
        """The mean over the seeds, and a band from the lowest to the highest of them.

        most: points; of more, as many in a row as are needed become one at their mean.
        """
        together = 1 if most is None else -(-len(self.steps) // most)
        starts = np.arange(0, len(self.steps), together)
        lengths = np.diff([*starts, len(self.steps)])
        x = np.add.reduceat(self.steps, starts) / lengths
        mean, low, high = (
            (np.add.reduceat(of, starts) / lengths).tolist()
            for of in (self.values.mean(axis=0), self.values.min(axis=0), self.values.max(axis=0))
        )
        return Line(label, x.tolist(), mean, (low, high) if len(self.runs) > 1 else None, colour, dash)


@dataclass(frozen=True)
class LoggedRun:
    """A run's folder as far as curves need it."""

    workdir: Path
    config: TrainConfig
    framework: str
    found: dict[str, dict[int, float]]  # by the number's name: step -> value

    @property
    def options(self) -> dict[str, object]:
        """All but the seed."""
        return {name: value for name, value in flatten(self.config).items() if name != "seed"} | {
            "framework": self.framework
        }


@dataclass(frozen=True)
class Kind:
    """Runs that differ in their seed alone."""

    name: str
    runs: list[LoggedRun]

    def curve(self, number: str) -> Curve:
        """One of their numbers.

        Raises:
          UserError: a run lacks it, or they have it at no step in common.
        """
        for run in self.runs:
            if number not in run.found:
                raise UserError(
                    f"{run.workdir} has no {number!r}; its metrics.jsonl has {', '.join(run.found) or 'nothing'}"
                )
        steps = self.steps(number)
        if not len(steps):
            raise UserError(f"{', '.join(str(run.workdir) for run in self.runs)} have {number} at no step in common")
        values = np.array([[run.found[number][step] for step in steps.tolist()] for run in self.runs], np.float64)
        return Curve(self.name, [str(run.workdir) for run in self.runs], steps, values)

    def steps(self, number: str) -> NDArray[np.int64]:
        """Where every run has a number."""
        return np.array(sorted(set.intersection(*({*run.found.get(number, ())} for run in self.runs))), np.int64)

    @cached_property
    def numbers(self) -> list[str]:
        """Names of those that every run has at some step in common, as the first run logged them."""
        return [name for name in self.runs[0].found if len(self.steps(name))]


def read_kinds(workdirs: Sequence[str | Path]) -> list[Kind]:
    """Runs of either framework by kind, in the order of their folders.

    Raises:
      UserError: a folder is no run's, or given twice.
    """
    runs = [_read(Path(workdir)) for workdir in workdirs]
    seen: set[Path] = set()
    for run in runs:
        if run.workdir.resolve() in seen:
            raise UserError(f"{run.workdir} is given twice")
        seen.add(run.workdir.resolve())
    by_options: dict[tuple[tuple[str, object], ...], list[LoggedRun]] = {}
    for run in runs:
        by_options.setdefault(tuple(run.options.items()), []).append(run)
    alike = list(by_options.values())
    return [Kind(name, runs) for name, runs in zip(_names([runs[0] for runs in alike]), alike, strict=True)]


def read_curves(workdirs: Sequence[str | Path], metrics: Sequence[str] | None = None) -> dict[str, list[Curve]]:
    """The curves of runs, by the number's name.

    Args:
      workdirs: folders of runs of either framework, each once.
      metrics: names as in metrics.jsonl; default: every score of the averaged generator that the first run has.
    Returns:
      name -> one curve a kind of run, in the order of the folders.
    Raises:
      UserError: as read_kinds and Kind.curve.
    """
    kinds = read_kinds(workdirs)
    asked = list(metrics) if metrics is not None else _scores(kinds[0].runs[0])
    return {metric: [kind.curve(metric) for kind in kinds] for metric in asked}


def plot(number: str, curves: Sequence[Curve], *, log: bool = False, most: int | None = None) -> Plot:
    """One number of several kinds of runs."""
    lines = []
    for i, curve in enumerate(curves):
        many = f" ({len(curve.runs)} seeds)" if len(curve.runs) > 1 else ""
        lines.append(curve.line(curve.name + many, colour=i, most=most))
    return Plot(number, lines, x_label="G updates", log=log)


def _read(workdir: Path) -> LoggedRun:
    if not (workdir / "config.json").is_file() or not (workdir / "metrics.jsonl").is_file():
        raise UserError(f"{workdir} is no run's folder: it must hold config.json and metrics.jsonl")
    return LoggedRun(workdir, config_of(workdir), framework_of(workdir) or "jax", values_of(workdir / "metrics.jsonl"))


def _scores(run: LoggedRun) -> list[str]:
    """What a run's evaluations measured of its averaged generator: they measure the generator's own weights with it."""
    found = [name for name in run.found if f"{re.sub(OF_STANDING, '', name)}_raw" in run.found]
    if not found:
        raise UserError(
            f"{run.workdir} has no scores; train with --evaluate-every N, or name one of its numbers: "
            f"{', '.join(run.found)}"
        )
    return found


def _names(firsts: Sequence[LoggedRun]) -> list[str]:
    """A name for each kind; those of one config name get the options in which they differ from each other."""
    names = []
    for run in firsts:
        name = run.config.name + ("" if run.framework == "jax" else f", {run.framework}")
        alike = [r.options for r in firsts if r.config.name == run.config.name and r.framework == run.framework]
        differing = [option for option, value in run.options.items() if any(of[option] != value for of in alike)]
        names.append(", ".join([name, *(f"{option} {run.options[option]}" for option in differing)]))
    return names
