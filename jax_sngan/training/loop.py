"""The training loop of both frameworks: steps, and after them logs, pictures, scores, checkpoints. Knows neither."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.runs.log import RunLog
from jax_sngan.runs.selection import HasSteps, choose_step
from jax_sngan.system.signals import Stop

Make = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # latents and labels -> uint8 [n, h, w, c]
Numbers = dict[str, np.ndarray]  # a step's, as the framework gives them: [n_dis] or []


class TrainingDiverged(ArithmeticError):
    """A logged number or a parameter is no longer finite; the text names the step, the quantity and what is saved."""


class Scores(NamedTuple):
    """What an evaluation found."""

    values: dict[str, float]  # by names that say their protocol
    chosen: float  # of the averaged generator, by the metric that chooses the best checkpoint; lower is better


@dataclass
class Progress:
    """How far a run is: what a checkpoint keeps beside the state."""

    step: int = 0  # training steps done
    rollbacks: int = 0  # how often the run went back after a NaN; each step's inputs depend on it
    metrics: dict[str, float] = field(default_factory=dict)  # the last line of the log
    unlogged: list[dict[str, float]] = field(default_factory=list)  # each step's numbers since that line


class Backend(Protocol):
    """One framework's half of a run: the state, and what is done with it."""

    @property
    def checkpoints(self) -> HasSteps:
        """Where states are saved."""
        ...

    def compile(self, step: int, count: int, rollbacks: int) -> None:
        """Makes ready what the same call of `train`, the next one, needs, so that it takes as long as later ones."""

    def train(self, step: int, count: int, rollbacks: int) -> None:
        """Training steps step (from 0) to step + count - 1; may return before they are computed."""

    def collect(self) -> list[Numbers]:
        """Each step's numbers since the last call, oldest first; waits for them."""
        ...

    def generator(self, average: bool) -> Make:
        """The generator as it is now, in evaluation mode, with averaged or its own weights."""
        ...

    def not_finite(self) -> str | None:
        """What of the state holds a NaN or an infinity, if something does."""
        ...

    def save(self, progress: Progress, metrics: dict[str, float]) -> None:
        """A checkpoint; may be written in the background."""

    def restore(self, step: int) -> Progress:
        """Takes up the state of a sound checkpoint; returns what was saved with it."""
        ...


@dataclass
class Training:
    """One run, or one process's part of it: all that the loop works with."""

    config: TrainConfig
    run: RunConfig
    backend: Backend
    progress: Progress
    log: RunLog
    latents: np.ndarray  # [n, latent_size] of the sample grids
    keep_picture: Callable[[int, np.ndarray], Path | None]  # given the step and its images -> the file, if it is one
    check_folder: Callable[[], None]  # raises where the run can write no more
    where: str  # checkpoints are kept, for a person
    evaluate: Callable[[Callable[..., Make]], Scores] | None = None  # given backend.generator
    callbacks: Sequence[Callable[[int, dict[str, float]], None]] = ()  # given the step and numbers of each log line
    agree: Callable[[int], int] = int  # the signal that this process was sent, or 0 -> the one that all processes heed
    # Given the steps done and the numbers of each of the last call, finite or not; a run that is watched is not ended
    # by a NaN.
    watch: Callable[[int, list[Numbers]], None] | None = None
    # What the loop finds out.
    picture: Path | None = None  # the last
    best: float | None = None  # the lowest Scores.chosen of the checkpoints
    scored: tuple[int, float] | None = None  # the last evaluation's step and Scores.chosen


class Result(NamedTuple):
    """How a run ended."""

    step: int
    metrics: dict[str, float]  # of the last log
    picture: Path | None = None
    stopped: int = 0  # the signal that stopped it early, or 0
    sampling: str = ""  # the command that makes images; "" where there is none
    writes: bool = True  # whether this process is the one that tells of it


def training_loop(job: Training, stop: Stop) -> int:
    """Trains to the config's last step, or until a signal asks to stop; ends with a checkpoint either way.

    Returns:
      The signal that stopped it, or 0.
    Raises:
      TrainingDiverged: a number is no longer finite, and the run may not go back, or not again.
      UserError: the run's folder can't be written to, or is gone.
    """
    config, run, backend, log = job.config, job.run, job.backend, job.log
    job.best = min(backend.checkpoints.scores.values(), default=None)
    first = True
    while True:
        try:
            # All steps are done, or somebody wants to stop.
            now = job.progress
            stopped = job.agree(stop.signal)
            if stopped or now.step == config.steps:
                _save(job)
                backend.checkpoints.wait()
                return stopped or job.agree(stop.signal)

            # Steps, up to the next thing to do between two of them.
            count = _steps_together(run, now.step, config.steps)
            if first:
                backend.compile(now.step, count, now.rollbacks)
                log.start_clock()
            backend.train(now.step, count, now.rollbacks)
            now.step += count
            log.advance(count)
            last = now.step == config.steps
            log_due, picture_due, scores_due, checkpoint_due = (
                every > 0 and (last or now.step % every == 0)
                for every in (run.log_every, run.sample_every, run.evaluate_every, run.checkpoint_every)
            )

            # Their numbers.
            if first or log_due or picture_due or scores_due or checkpoint_due or job.watch:
                _collect(job)
            if first:
                first = stop.idle = False  # before the first line: who reads it may stop the run and find it saved
                if not log_due:
                    log.forget_time()  # a program's first call takes longer; its time tells, where there is no other
            if not (log_due or picture_due or scores_due or checkpoint_due):
                continue

            with log.clock_stopped():
                # A line of the log: means over the steps since the last one; not of a state that is not finite.
                if log_due:
                    _check(job)
                    _write_line(job)

                # A picture, always from the same latents.
                if picture_due:
                    job.picture = job.keep_picture(now.step, backend.generator(True)(job.latents, None))

                # Scores, and a checkpoint where they are the best so far.
                if scores_due and job.evaluate:
                    _evaluate(job, job.evaluate)

                # A checkpoint; the last one comes at the end.
                if checkpoint_due and not last:
                    _save(job)
        except TrainingDiverged as error:
            _go_back(job, error)


def _steps_together(run: RunConfig, step: int, steps: int) -> int:
    """How many steps are done in one call: at most run.dispatch, and none past the next that something follows."""
    every = [run.log_every, run.sample_every, run.checkpoint_every, run.evaluate_every]
    return min(run.dispatch, steps - step, *(n - step % n for n in every if n))


def _collect(job: Training) -> None:
    now, logs = job.progress, job.backend.collect()
    if job.watch and logs:
        job.watch(now.step, logs)
    for i, numbers in enumerate(logs):
        for name, value in numbers.items():
            if not job.watch and not np.all(np.isfinite(value)):
                raise _diverged(job, now.step - len(logs) + 1 + i, name)
        now.unlogged.append({name: float(np.mean(value, dtype=np.float64)) for name, value in numbers.items()})


def _write_line(job: Training) -> None:
    now = job.progress
    names, count = sorted(now.unlogged[0]), len(now.unlogged)
    now.metrics = {name: math.fsum(numbers[name] for numbers in now.unlogged) / count for name in names}
    now.unlogged = []
    job.log.write(now.step, now.metrics)
    for callback in job.callbacks:
        callback(now.step, dict(now.metrics))


def _evaluate(job: Training, evaluate: Callable[[Callable[..., Make]], Scores]) -> None:
    now, scores = job.progress, evaluate(job.backend.generator)
    job.log.write_scores(now.step, scores.values)
    for callback in job.callbacks:
        callback(now.step, dict(scores.values))
    job.scored = (now.step, scores.chosen)
    if job.best is None or scores.chosen < job.best:
        job.best = scores.chosen
        _save(job)


def _save(job: Training) -> None:
    """A checkpoint, after the lines of the log up to it; never of a state that is not finite."""
    _check(job)
    now = job.progress
    chosen = job.scored[1] if job.scored and job.scored[0] == now.step else None
    job.log.sync()
    job.backend.save(now, now.metrics if chosen is None else now.metrics | {"best_metric": chosen})


def _check(job: Training) -> None:
    """The numbers and the state are finite, and the folder is there."""
    _collect(job)
    if not job.watch and (name := job.backend.not_finite()):
        raise _diverged(job, job.progress.step, name)
    job.check_folder()


def _diverged(job: Training, step: int, name: str) -> TrainingDiverged:
    job.backend.checkpoints.wait()
    kept = job.backend.checkpoints.steps()
    saved = f"the checkpoint of step {kept[-1]} is kept in {job.where}" if kept else "no checkpoint was made yet"
    return TrainingDiverged(f"{name} is not finite at step {step}; {saved}")


def _go_back(job: Training, error: TrainingDiverged) -> None:
    """Goes back to the newest checkpoint, with other inputs from there, if the run may; else raises error."""
    checkpoints, rollbacks = job.backend.checkpoints, job.progress.rollbacks
    if job.run.on_nan == "stop" or not checkpoints.steps():
        raise error
    if rollbacks >= job.run.max_rollbacks:
        raise TrainingDiverged(f"{error}; the run went back {rollbacks} times (--max-rollbacks)")
    job.progress = job.backend.restore(choose_step(checkpoints, "latest"))
    job.progress.rollbacks = rollbacks + 1
    step = job.progress.step
    job.log.go_back(step)
    job.log.say(f"{error}; back to step {step}, on with other inputs (rollback {rollbacks + 1})")
