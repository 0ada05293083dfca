"""Learning curves of several runs: those that differ in their seed alone become one curve with a band."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jax_sngan.config.fields import flatten
from jax_sngan.config.schema import TrainConfig
from jax_sngan.runs.log import OF_STANDING, values_of
from jax_sngan.runs.workdir import config_of, framework_of
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_whole

_COLOURS = ("#1e8449", "#2e86c1", "#e08e0b", "#c0392b", "#7d5ba6", "#566573")


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


@dataclass(frozen=True)
class _Run:
    workdir: Path
    config: TrainConfig
    framework: str
    found: dict[str, dict[int, float]]  # by the number's name: step -> value

    @property
    def kind(self) -> dict[str, object]:
        """All but the seed."""
        return {name: value for name, value in flatten(self.config).items() if name != "seed"} | {
            "framework": self.framework
        }


def read_curves(workdirs: Sequence[str | Path], metrics: Sequence[str] | None = None) -> dict[str, list[Curve]]:
    """The curves of runs, by the number's name.

    Args:
      workdirs: folders of runs of either framework, each once.
      metrics: names as in metrics.jsonl; default: every score of the averaged generator that the first run has.
    Returns:
      name -> one curve a kind of run, in the order of the folders.
    Raises:
      UserError: a folder is no run's or given twice, a run lacks a number, or those of one kind have no step in common.
    """
    runs = [_read(Path(workdir)) for workdir in workdirs]
    seen: set[Path] = set()
    for run in runs:
        if run.workdir.resolve() in seen:
            raise UserError(f"{run.workdir} is given twice")
        seen.add(run.workdir.resolve())
    by_kind: dict[tuple[tuple[str, object], ...], list[_Run]] = {}
    for run in runs:
        by_kind.setdefault(tuple(run.kind.items()), []).append(run)
    kinds = list(by_kind.values())
    names = _names([kind[0] for kind in kinds])
    asked = list(metrics) if metrics is not None else _scores(runs[0])
    return {metric: [_curve(metric, name, kind) for name, kind in zip(names, kinds, strict=True)] for metric in asked}


def _read(workdir: Path) -> _Run:
    if not (workdir / "config.json").is_file() or not (workdir / "metrics.jsonl").is_file():
        raise UserError(f"{workdir} is no run's folder: it must hold config.json and metrics.jsonl")
    return _Run(workdir, config_of(workdir), framework_of(workdir) or "jax", values_of(workdir / "metrics.jsonl"))


def _scores(run: _Run) -> list[str]:
    """What a run's evaluations measured of its averaged generator: they measure the generator's own weights with it."""
    found = [name for name in run.found if f"{re.sub(OF_STANDING, '', name)}_raw" in run.found]
    if not found:
        raise UserError(
            f"{run.workdir} has no scores; train with --evaluate-every N, or name one of its numbers: "
            f"{', '.join(run.found)}"
        )
    return found


def _names(firsts: Sequence[_Run]) -> list[str]:
    """A name for each kind; those of one config name get the options in which they differ from each other."""
    names = []
    for run in firsts:
        name = run.config.name + ("" if run.framework == "jax" else f", {run.framework}")
        alike = [r.kind for r in firsts if r.config.name == run.config.name and r.framework == run.framework]
        differing = [option for option, value in run.kind.items() if any(kind[option] != value for kind in alike)]
        names.append(", ".join([name, *(f"{option} {run.kind[option]}" for option in differing)]))
    return names


def _curve(metric: str, name: str, kind: Sequence[_Run]) -> Curve:
    for run in kind:
        if metric not in run.found:
            raise UserError(
                f"{run.workdir} has no {metric!r}; its metrics.jsonl has {', '.join(run.found) or 'nothing'}"
            )
    common = set.intersection(*({*run.found[metric]} for run in kind))
    if not common:
        raise UserError(f"{', '.join(str(run.workdir) for run in kind)} have {metric} at no step in common")
    steps = np.array(sorted(common))
    values = np.array([[run.found[metric][step] for step in steps.tolist()] for run in kind], np.float64)
    return Curve(name, [str(run.workdir) for run in kind], steps, values)


def draw(curves: dict[str, list[Curve]], path: str | Path, *, log: bool = False) -> None:
    """One plot a number, as PNG: the mean over the seeds, and a band from the lowest to the highest of them.

    Raises:
      UserError: the file can't be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    for axes, (metric, group) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for i, curve in enumerate(group):
            colour = _COLOURS[i % len(_COLOURS)]
            many = f" ({len(curve.runs)} seeds)" if len(curve.runs) > 1 else ""
            axes.plot(curve.steps, curve.values.mean(axis=0), ".-", color=colour, label=curve.name + many)
            if len(curve.runs) > 1:
                low, high = curve.values.min(axis=0), curve.values.max(axis=0)
                axes.fill_between(curve.steps, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel="G updates", ylabel=metric, yscale="log" if log else "linear")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    write_whole(path, lambda p: figure.savefig(p, format="png", dpi=100))
