"""The training loop of both frameworks: steps, and after them logs, pictures, scores, checkpoints. Knows neither."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.metrics.spread import relative_spread
from jax_sngan.runs.run_log import RunLog
from jax_sngan.runs.selection import HasSteps, choose_step
from jax_sngan.system.allocator import return_freed_memory
from jax_sngan.system.signals import Stop
from jax_sngan.training.alarms import Alarms

Make = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # latents and labels -> uint8 [n, h, w, c]
Numbers = dict[str, np.ndarray]  # a step's, as the framework gives them: [n_dis] or []


ALARM = 1000  # larger than any signal: in what processes agree on


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


class Profile(Protocol):
    """What traces some of the steps."""

    steps: range

    def before(self, step: int) -> None:
        """Told before step `step`, counted from 0."""

    def after(self, steps: int) -> list[str]:
        """Told when so many steps are done, and computed; returns what a person should know."""
        ...


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

    def started(self) -> None:
        """Told when the first step is done: what only the start needed may go."""

    def collect(self) -> list[Numbers]:
        """Each step's numbers since the last call, oldest first; waits for them."""
        ...

    def generator(self, average: bool) -> Make:
        """The generator as it is now, in evaluation mode, with averaged or its own weights."""
        ...

    def not_finite(self) -> str | None:
        """What of the state holds a NaN or an infinity, if something does."""
        ...

    def observe(self, *, singular_values: bool) -> dict[str, float | np.ndarray]:
        """The numbers of the state after the last step (observer.observe), arrays where a histogram is made of them."""
        ...

    def used(self) -> dict[str, float]:
        """memory_mb, the most so far; data_wait_s, that steps waited for images since the last call."""
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
    real: Callable[[], np.ndarray] | None = None  # as many images as a grid has, of the data
    callbacks: Sequence[Callable[[int, dict[str, Any]], None]] = ()  # given the step and values of each log line
    agree: Callable[[int], int] = int  # the signal that this process was sent, or 0 -> the one that all processes heed
    # Given the steps done and the numbers of each of the last call, finite or not; a run that is watched is not ended
    # by a NaN.
    watch: Callable[[int, list[Numbers]], None] | None = None
    profile: Profile | None = None
    past: Callable[[], list[tuple[int, dict[str, float]]]] = list  # the lines of the log up to now
    # What the loop finds out.
    alarms: Alarms = field(default_factory=Alarms)
    stopped_by: str = ""  # the alarm that ends the run
    picture: Path | None = None  # the last
    best: float | None = None  # the lowest Scores.chosen of the checkpoints
    scored: tuple[int, float] | None = None  # the last evaluation's step and Scores.chosen


class Result(NamedTuple):
    """How a run ended."""

    step: int
    metrics: dict[str, float]  # of the last log
    picture: Path | None = None
    stopped: int = 0  # the signal that stopped it early, ALARM, or 0
    sampling: str = ""  # the command that makes images; "" where there is none
    alarm: str = ""  # the alarm that stopped it early, where one did
    writes: bool = True  # whether this process is the one that tells of it


def training_loop(job: Training, stop: Stop) -> int:
    """Trains to the config's last step, or until a signal asks to stop; ends with a checkpoint either way.

    Returns:
      The signal that stopped it; ALARM where one of run.stop_on did (job.stopped_by); or 0.
    Raises:
      TrainingDiverged: a number is no longer finite, and the run may not go back, or not again.
      UserError: the run's folder can't be written to, or is gone.
    """
    config, run, backend, log = job.config, job.run, job.backend, job.log
    job.best = min(backend.checkpoints.scores.values(), default=None)
    job.alarms = Alarms.after(job.past())
    first = True
    while True:
        try:
            # All steps are done, or somebody wants to stop, or an alarm does.
            now = job.progress
            stopped = job.agree(ALARM if job.stopped_by else stop.signal)
            if stopped or now.step == config.steps:
                _save(job)
                backend.checkpoints.wait()
                return stopped or job.agree(stop.signal)

            # Steps, up to the next thing to do between two of them.
            count = _steps_together(run, now.step, config.steps)
            if job.profile:
                job.profile.before(now.step)
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
            traced = bool(job.profile) and now.step == run.profiled.stop
            if first or log_due or picture_due or scores_due or checkpoint_due or job.watch or traced:
                _collect(job)
            if traced:
                _tell_of_profile(job)
            if first:
                with log.clock_stopped():
                    backend.started()
                    return_freed_memory()
                first = stop.idle = False  # before the first line: who reads it may stop the run and find it saved
                if not log_due:
                    log.forget_time()  # a program's first call takes longer; its time tells, where there is no other
            if not (log_due or picture_due or scores_due or checkpoint_due):
                continue

            with log.clock_stopped():
                # A picture, always from the same latents.
                if log_due:
                    _check(job)  # no line, and no picture before it, of a state that is not finite
                if picture_due:
                    _draw(job)

                # A line of the log: means over the steps since the last one, and what is seen of the state.
                if log_due:
                    _write_line(job)

                # Scores, and a checkpoint where they are the best so far.
                if scores_due and job.evaluate:
                    _evaluate(job, job.evaluate)

                # A checkpoint; the last one comes at the end.
                if checkpoint_due and not last:
                    _save(job)

                # The programs of pictures and scores have work spaces of their own.
                if picture_due or scores_due:
                    return_freed_memory()
        except TrainingDiverged as error:
            _go_back(job, error)


def _steps_together(run: RunConfig, step: int, steps: int) -> int:
    """How many steps are done in one call: at most run.dispatch, and none past the next that something follows."""
    every = [run.log_every, run.sample_every, run.checkpoint_every, run.evaluate_every]
    bounds = [bound - step for bound in (run.profiled.start, run.profiled.stop) if bound > step]
    return min(run.dispatch, steps - step, *(n - step % n for n in every if n), *bounds)


def _tell_of_profile(job: Training) -> None:
    for line in job.profile.after(job.progress.step) if job.profile else ():
        job.log.say(line)


def _collect(job: Training) -> None:
    now, logs = job.progress, job.backend.collect()
    if job.watch and logs:
        job.watch(now.step, logs)
    for i, numbers in enumerate(logs):
        for name, value in numbers.items():
            if not job.watch and not name.endswith("_norm") and not np.all(np.isfinite(value)):
                raise _diverged(job, now.step - len(logs) + 1 + i, name)
        # A norm overflows long before the numbers that it is of: those tell whether the run may go on.
        means = {name: float(np.mean(value, dtype=np.float64)) for name, value in numbers.items()}
        now.unlogged.append({name: min(mean, sys.float_info.max) for name, mean in means.items()})


def _draw(job: Training) -> None:
    """The averaged generator's images, those of its own weights beside them, and once the data's; and their spread."""
    now, log = job.progress, job.log
    images = job.backend.generator(True)(job.latents, None)
    job.picture = job.keep_picture(now.step, images)
    log.images(now.step, "samples", images)
    if job.real is None:
        return
    real, raw = job.real(), job.backend.generator(False)(job.latents, None)
    log.images(now.step, "samples_raw", raw)
    if now.step <= job.run.sample_every:
        log.images(0, "real", real)
    now.unlogged[-1]["g_spread"] = relative_spread(raw, real)


def _write_line(job: Training) -> None:
    now, every = job.progress, job.run.singular_values_every
    # Each name's mean over the steps that have it: a step with samples has their spread.
    by_name: dict[str, list[float]] = {}
    for numbers in now.unlogged:
        for name, value in numbers.items():
            by_name.setdefault(name, []).append(value)
    means = {name: math.fsum(values) / len(values) for name, values in sorted(by_name.items())}
    # At the first log at or after each multiple of `every`.
    due = every > 0 and now.step // every > (now.step - len(now.unlogged)) // every
    seen = job.backend.observe(singular_values=due)
    now.metrics = means | {name: value for name, value in sorted(seen.items()) if isinstance(value, float)}
    now.unlogged = []
    told = job.log.write(now.step, {**means, **seen, **job.backend.used()})
    for alarm in () if job.watch else job.alarms.look(now.step, now.metrics):
        job.log.say(alarm.text)
        if alarm.name in job.run.alarms:
            job.stopped_by = job.stopped_by or alarm.name
    for callback in job.callbacks:
        callback(now.step, dict(told))


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
    job.alarms, job.stopped_by = Alarms.after(job.past()), ""
    job.log.say(f"{error}; back to step {step}, on with other inputs (rollback {rollbacks + 1})")
