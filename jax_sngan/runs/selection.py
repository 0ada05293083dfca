"""Which checkpoint is used: the newest sound one, the best, or one by its number. For both frameworks; knows no jax."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from jax_sngan.runs import manifest
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown


class HasSteps(Protocol):
    """The checkpoints of either framework."""

    folder: Path
    scores: dict[int, float]  # where checkpoints are written: scored() of those that are there

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, sound or not, ascending."""
        ...

    def problem(self, step: int) -> str | None:
        """What is wrong with a step's files; None where they are sound."""
        ...

    def set_aside(self, step: int, ending: str) -> Path:
        """Renames a checkpoint, so that its step can be written anew; returns where it is now."""
        ...

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        ...

    def wait(self) -> None:
        """Returns once the last save is kept; those that it takes the place of are gone then."""


def step_of(name: str) -> int | None:
    """The step that a name stands for, as a checkpoint's folder has it: no sign, no leading zero; None of another."""
    return int(name) if re.fullmatch(r"0|[1-9][0-9]{0,17}", name) else None


def steps_in(folder: Path) -> list[int]:
    """Steps that have an entry in a folder of checkpoints, sound or not, ascending; [] where there is no folder.

    Raises:
      UserError: it may not be read.
    """
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror or error}") from error
    return sorted(step for name in names if (step := step_of(name)) is not None)


def check_step(checkpoints: HasSteps, step: int) -> None:
    """Passes where a step has a sound checkpoint.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if step not in checkpoints.steps():
        have = ", ".join(map(str, checkpoints.steps())) or "none"
        raise UserError(f"no checkpoint of step {step} in {checkpoints.folder}; there are: {have}")
    if reason := checkpoints.problem(step):
        others = [s for s in checkpoints.steps() if s != step and checkpoints.problem(s) is None]
        left = f"sound are: {', '.join(map(str, others))}" if others else "no other is there"
        raise UserError(f"checkpoint {checkpoints.folder / str(step)} is damaged: {reason}; {left}")


def scored(checkpoints: HasSteps) -> dict[int, float]:
    """Step -> the run's evaluated metric (lower is better), of the sound checkpoints that were evaluated."""
    sound = {s: checkpoints.metrics(s) for s in checkpoints.steps() if checkpoints.problem(s) is None}
    return {s: metrics["best_metric"] for s, metrics in sound.items() if "best_metric" in metrics}


def choose_step(checkpoints: HasSteps, step: str | int) -> int:
    """latest, best or a number -> the step of a sound checkpoint; a damaged one is passed over, with a line on stderr.

    best: the lowest value of the run's evaluated metric.

    Raises:
      UserError: another word, best where nothing was evaluated, a damaged checkpoint asked for by number, or no sound
        one.
    """
    if step not in ("latest", "best"):
        if (number := step_of(str(step))) is None:
            raise UserError(f"step must be latest, best or a number, got {step!r}")
        check_step(checkpoints, number)
        return number
    damaged: dict[int, str] = {}
    for s in reversed(checkpoints.steps()):
        if reason := checkpoints.problem(s):
            damaged[s] = reason
            where = shown(checkpoints.folder / str(s))
            print(f"note: checkpoint {where} is damaged and not used: {reason}", file=sys.stderr)
        elif step == "latest":
            return s
    if len(damaged) == len(checkpoints.steps()):
        raise _none_sound(checkpoints, damaged)
    values = scored(checkpoints)
    if not values:
        raise UserError(f"no checkpoint in {checkpoints.folder} has an evaluated metric; use --step latest")
    return min(values, key=lambda s: values[s])


def choose_start(checkpoints: HasSteps, step: int | None) -> tuple[int | None, list[str]]:
    """The checkpoint that a run goes on from: the newest sound one, or step's.

    Newer ones are renamed, never deleted: STEP.damaged, or STEP.newer where an older one was asked for.

    Returns:
      The step, None where there is no checkpoint at all; and a line on each that was set aside.
    Raises:
      UserError: step's is missing or damaged, or there are checkpoints and none is sound.
    """
    if step is not None:
        check_step(checkpoints, step)
        newer = [s for s in checkpoints.steps() if s > step]
        return step, [
            f"the newer checkpoint of step {s} is kept as {checkpoints.set_aside(s, 'newer').name}" for s in newer
        ]
    damaged: dict[int, str] = {}
    for s in reversed(checkpoints.steps()):
        if (reason := checkpoints.problem(s)) is None:
            return s, [
                f"checkpoint {s} is damaged ({reason}); it is kept as {checkpoints.set_aside(s, 'damaged').name}"
                for s, reason in damaged.items()
            ]
        damaged[s] = reason
    if damaged:
        raise _none_sound(checkpoints, damaged)
    return None, []


def _none_sound(checkpoints: HasSteps, damaged: dict[int, str]) -> UserError:
    told = "; ".join(f"{s}: {reason}" for s, reason in damaged.items())
    return UserError(f"no checkpoint in {checkpoints.folder} is sound ({told}); to start anew give another --workdir")


def problem_of(folder: Path, step: int, read: Callable[[Path], object]) -> str | None:
    """What is wrong with a checkpoint's folder, None where it is sound: the one judge, of both frameworks.

    Every file must be as the manifest has it, and what stands beside the arrays (config, metrics, provenance) must be
    ours.

    Args:
      read: of a folder that its manifest vouches for; raises UserError where something is not ours.
    """
    try:
        if not folder.is_dir():
            return "it is no folder" if folder.exists() else "its folder is gone"
        if reason := manifest.problem(folder, step):
            return reason
        read(folder)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{shown(error.filename)} cannot be read: {error.strerror or error}"
    return None


def numbers(what: str, values: Any) -> dict[str, float]:
    """values, where they are numbers by name, as metrics are.

    Raises:
      UserError: they are not; what: the entry's name.
    """
    if not isinstance(values, dict) or not all(
        isinstance(n, str) and type(v) in (int, float) for n, v in values.items()
    ):
        raise UserError(f"{what} must be numbers by name")
    return values


def count(what: str, value: Any) -> int:
    """value, where it is a whole number from 0.

    Raises:
      UserError: it is not; what: the entry's name.
    """
    if type(value) is not int or value < 0:
        raise UserError(f"{what} must be a number from 0, got {value!r}")
    return value


def kept(steps: list[int], keep: int, scores: dict[int, float]) -> list[int]:
    """Of a run's checkpoints those that stay: the latest, and the one with the lowest score.

    Args:
      steps: that have a checkpoint, ascending.
      keep: how many of the latest stay, at least 1.
      scores: step -> the evaluated metric, of those that were evaluated.
    """
    best = min((s for s in steps if s in scores), key=lambda s: scores[s], default=None)
    return [s for i, s in enumerate(steps) if i >= len(steps) - keep or s == best]
