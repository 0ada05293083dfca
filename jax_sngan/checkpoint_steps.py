"""Which checkpoint is used: the newest sound one, the best, or one by its number. For both wings; knows no jax."""

import sys
from pathlib import Path
from typing import Protocol

from jax_sngan import manifest
from jax_sngan.errors import UserError


class HasSteps(Protocol):
    """The checkpoints of either wing."""

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
        if not str(step).isdigit():
            raise UserError(f"step must be latest, best or a number, got {step!r}")
        check_step(checkpoints, int(step))
        return int(step)
    damaged: dict[int, str] = {}
    for s in reversed(checkpoints.steps()):
        if reason := checkpoints.problem(s):
            damaged[s] = reason
            print(f"note: checkpoint {checkpoints.folder / str(s)} is damaged and not used: {reason}", file=sys.stderr)
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


def problem_of(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint's folder, None where it is sound; for both wings.

    One without a manifest from before there were manifests is taken as it is, with a line on stderr: it has no
    provenance either, which tells it from one that lost its manifest.
    """
    if not folder.is_dir():
        return "its folder is gone"
    if not (folder / manifest.NAME).exists() and not any(folder.glob("provenance*")) and any(folder.iterdir()):
        print(f"note: {folder} was written before checkpoints had manifests: it cannot be checked", file=sys.stderr)
        return None
    return manifest.problem(folder, step)


def set_aside(folder: Path, ending: str) -> Path:
    """Renames STEP to STEP.ending, or STEP.ending-2 and so on where that is taken; returns the new path."""
    aside, n = folder.with_name(f"{folder.name}.{ending}"), 1
    while aside.exists():
        n += 1
        aside = folder.with_name(f"{folder.name}.{ending}-{n}")
    folder.rename(aside)
    return aside
