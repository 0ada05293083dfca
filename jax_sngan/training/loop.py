"""The training loop of both frameworks: steps, and after them logs, pictures, checkpoints. Knows neither of them."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from jax_sngan.config.arithmetic import describe_determinism, describe_precision
from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.runs import pictures
from jax_sngan.runs.log import RunLog, duration
from jax_sngan.runs.selection import HasSteps, choose_step, steps_in
from jax_sngan.runs.workdir import this_command
from jax_sngan.system.lock import Lock
from jax_sngan.system.signals import Stop, stop_signals
from jax_sngan.system.terminal import shown


class TrainingDiverged(ArithmeticError):
    """A logged number or a parameter is no longer finite; the text names the step, the quantity and what is saved."""


Make = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # latents and labels -> uint8 [n, h, w, c]


class Scores(NamedTuple):
    """What an evaluation found."""

    values: dict[str, float]  # by names that say their protocol
    chosen: float  # of the averaged generator, by the metric that chooses the best checkpoint; lower is better


class Engine(Protocol):
    """One framework's half of the loop."""

    start: int  # steps done before this process
    unlogged: list[dict[str, float]]  # each step's numbers since the last log before it
    logged: int  # the step of that log; 0: there was none
    rollbacks: int  # how often the run went back after a NaN
    sampling: str  # the command that makes images from a checkpoint; "" where there is none
    before_first: str  # a line on what the first step waits for; "" where there is nothing

    @property
    def checkpoints(self) -> HasSteps:
        """Those of the workdir."""
        ...

    def compile(self, k: int, count: int) -> None:
        """Makes ready what steps(k, count), the next call, needs, so that it takes as long as later ones."""

    def steps(self, k: int, count: int) -> None:
        """Training steps k (from 0) to k + count - 1; may return before they are computed, not before step k - 1 is."""

    def collect(self) -> list[dict[str, np.ndarray]]:
        """Each step's logs since the last call, oldest first; waits for them."""
        ...

    def images(self, num: int) -> np.ndarray:
        """Samples [num, h, w, c] by the averaged generator from the run's fixed latents; uint8, or float points."""
        ...

    def generator(self, average: bool) -> Make:
        """The generator as it is now, in evaluation mode, with averaged or its own weights."""
        ...

    def not_finite(self) -> str | None:
        """What of the state holds a NaN or an infinity, if something does."""
        ...

    def save(self, metrics: dict[str, float], unlogged: list[dict[str, float]]) -> None:
        """A checkpoint; may be written in the background."""

    def saved(self) -> list[int]:
        """Waits for the last save; the steps that have a checkpoint."""
        ...

    def restore(self, step: int) -> int:
        """Takes up a sound checkpoint: its state, its unlogged; returns how often the run had gone back by then."""
        ...


class Result(NamedTuple):
    """How a run ended."""

    step: int
    metrics: dict[str, float]  # of the last log
    picture: Path | None
    stopped: int  # the signal that stopped it early, or 0
    sampling: str  # the command that makes images; "" where there is none
    writes: bool = True  # whether this process is the one that tells of it


class Loop:
    """The steps of one process."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunConfig,
        workdir: Path,
        log: RunLog,
        engine: Engine,
        lock: Lock,
        evaluate: Callable[[Callable[[bool], Make]], Scores] | None = None,
        *,
        writes: bool = True,
        agree: Callable[[int], int] = int,
    ):
        """
        Args:
          evaluate: given engine.generator, its scores; called every run.evaluate_every steps and after the last.
          writes: whether pictures are written here; of several processes one does.
          agree: called before each step with the signal that asked to stop, or 0; the one that all processes heed.
        """
        self.config, self.run, self.workdir, self.log, self.engine = config, run, workdir, log, engine
        self.lock, self.writes, self._agree = lock, writes, agree
        self.done = engine.start
        self.metrics: dict[str, float] = {}
        self.picture: Path | None = None
        self._unlogged = engine.unlogged
        self._evaluate, self._best = evaluate, min(engine.checkpoints.scores.values(), default=None)
        self._scored: dict[int, float] = {}  # the last evaluation's step: its Scores.chosen

    def run_all(self) -> Result:
        """Trains to the config's last step, or until a signal asks to stop; ends with a checkpoint either way.

        Raises:
          TrainingDiverged: a number is no longer finite, and the run may not go back, or not again.
          UserError: the workdir can't be written to, or is gone.
        """
        stopped = 0
        with stop_signals(self.log.say, self._kept) as stop:
            if self.engine.before_first:
                self.log.say(self.engine.before_first)  # not before signals are listened to
            while True:
                try:
                    while self.done < self.config.steps and not (stopped := self._agree(stop.signal)):
                        self._steps(stop)
                    self._save()
                    self.engine.saved()
                    break
                except TrainingDiverged as error:
                    self._roll_back(error)
            stopped = stopped or self._agree(stop.signal)
        return Result(self.done, self.metrics, self.picture, stopped, self.engine.sampling, self.writes)

    def _together(self) -> int:
        """Steps until the next thing to do between two of them, at most run.dispatch."""
        run = self.run
        every = [run.log_every, run.sample_every, run.checkpoint_every, run.evaluate_every]
        return min(run.dispatch, self.config.steps - self.done, *(n - self.done % n for n in every if n))

    def _steps(self, stop: Stop) -> None:
        count, first = self._together(), self.done == self.engine.start
        if first:
            self.engine.compile(self.done, count)
            self.log.start_clock()
        self.engine.steps(self.done, count)
        self.done += count
        self.log.advance(count)
        run, last = self.run, self.done == self.config.steps
        log_due = last or self.done % run.log_every == 0
        if first:
            self._collect()
            stop.idle = False  # before it is logged: who reads its line may already stop the run and find it saved
            if not log_due:
                self.log.forget_time()  # a program's first call takes longer; its time tells, where there is no other
        every = (run.sample_every, run.evaluate_every, run.checkpoint_every)
        if log_due or any(n and self.done % n == 0 for n in every):
            self._collect()
            with self.log.clock_stopped():
                self._between_steps(log_due, last)

    def _between_steps(self, log_due: bool, last: bool) -> None:
        """What is made of the steps that are done: a line, a picture, scores, a checkpoint."""
        run = self.run
        if log_due:
            self._write_log()
        if run.sample_every and (self.done % run.sample_every == 0 or last):
            self.picture = self.workdir / "samples" / f"{self.done:06d}.png"
            images = self.engine.images(pictures.count(self.config.model.channels))
            if self.writes:
                pictures.save_grid(self.picture, images)
        if self._evaluate and run.evaluate_every and (self.done % run.evaluate_every == 0 or last):
            self._write_scores(self._evaluate)
        if run.checkpoint_every and self.done % run.checkpoint_every == 0 and not last:
            self._save()

    def _collect(self) -> None:
        logs = self.engine.collect()
        for i, entry in enumerate(logs):
            for name, value in entry.items():
                if not np.all(np.isfinite(value)):
                    raise self._diverged(self.done - len(logs) + 1 + i, name)
            self._unlogged.append({name: float(np.mean(value, dtype=np.float64)) for name, value in entry.items()})

    def _write_log(self) -> None:
        """Means over the steps since the last log, written and shown; not of a state that is not finite."""
        self._check()
        names = sorted(self._unlogged[0])
        self.metrics = {n: math.fsum(entry[n] for entry in self._unlogged) / len(self._unlogged) for n in names}
        self._unlogged = []
        self.log.write(self.done, self.metrics)

    def _write_scores(self, evaluate: Callable[[Callable[[bool], Make]], Scores]) -> None:
        """An evaluation, written and shown; a checkpoint where it is the best so far."""
        self._collect()
        scores = evaluate(self.engine.generator)
        self.log.write_scores(self.done, scores.values)
        self._scored = {self.done: scores.chosen}
        if self._best is None or scores.chosen < self._best:
            self._best = scores.chosen
            self._save()

    def _save(self) -> None:
        """A checkpoint, after the lines of the log up to it; never of a state that is not finite."""
        self._check()
        chosen = self._scored.get(self.done)
        metrics = self.metrics if chosen is None else self.metrics | {"best_metric": chosen}
        self.log.sync()
        self.engine.save(metrics, self._unlogged)

    def _check(self) -> None:
        """The numbers and the state are finite, and the workdir is there."""
        self._collect()
        if name := self.engine.not_finite():
            raise self._diverged(self.done, name)
        self.lock.check()

    def _diverged(self, step: int, name: str) -> TrainingDiverged:
        kept = self.engine.saved()
        saved = f"the checkpoint of step {kept[-1]} is kept in {self.workdir}" if kept else "no checkpoint was made yet"
        return TrainingDiverged(f"{name} is not finite at step {step}; {saved}")

    def _roll_back(self, error: TrainingDiverged) -> None:
        """Goes back to the newest checkpoint, with other inputs from there, if the run may; else raises error."""
        if self.run.on_nan == "stop" or not self.engine.saved():
            raise error
        if self.engine.rollbacks >= self.run.max_rollbacks:
            raise TrainingDiverged(f"{error}; the run went back {self.engine.rollbacks} times (--max-rollbacks)")
        self.done = choose_step(self.engine.checkpoints, "latest")
        self.engine.restore(self.done)
        self.engine.rollbacks += 1  # and from here other inputs
        self._unlogged = self.engine.unlogged
        self.log.go_back(self.done)
        self.log.say(f"{error}; back to step {self.done}, on with other inputs (rollback {self.engine.rollbacks})")

    def _kept(self) -> str:
        """What there is on disk and how to go on."""
        steps = steps_in(self.workdir / "checkpoints")
        newest = f"the newest checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"
        return f"{newest}; to go on: {this_command()}"


def describe_start(
    config: TrainConfig,
    workdir: Path,
    data: str,
    parameters: tuple[int, int],
    device: str,
    start: int,
    *,
    platform: str,
    deterministic: bool,
) -> None:
    """Prints what is about to happen.

    Args:
      data: a line on the images.
      parameters: of G and of D.
      device: a line on what computes; platform: its kind (config/arithmetic.py).
      deterministic: whether the run asks for it.
    """
    m = config.model
    print(f"data        {shown(data)}")
    print(f"networks    {m.architecture}: generator {parameters[0]:,} parameters, discriminator {parameters[1]:,}")
    print(f"device      {device}")
    print(f"precision   {describe_precision(config, platform)}")
    if deterministic:
        print(f"determinism {describe_determinism(platform)}")
    updates = f"{config.n_dis} D updates and one G update each, batch {config.batch_size}"
    print(f"steps       {start} -> {config.steps}: {updates}")
    print(f"results in  {shown(workdir)}", flush=True)


def describe_resume(workdir: Path, start: int | None, notes: list[str], begun: bool) -> None:
    """Prints where the run goes on, or that it starts anew after an earlier log.

    Args:
      notes: what to know of it.
      begun: whether an earlier run had begun to log.
    """
    for note in notes:
        print(f"note        {shown(note)}", flush=True)
    if start is not None:
        print(f"resumes from the checkpoint of step {start}", flush=True)
    elif begun:
        print(f"starts from step 0: an earlier run in {shown(workdir)} ended before its first checkpoint", flush=True)


def describe_end(result: Result, config: TrainConfig, workdir: Path, started: float) -> None:
    """Prints what there is now and what to do with it; started: time.monotonic() of the start."""
    if result.stopped:
        print(f"stopped at step {result.step} of {config.steps} and saved; to go on: {this_command()}")
        return
    if not result.metrics:
        print(f"{shown(workdir)} has all its {config.steps} steps; for more give --steps, for another run --workdir")
        return
    print(f"{result.step} steps in {duration(time.monotonic() - started)}")
    if result.picture:
        print(f"picture     {shown(result.picture)}")
    if result.sampling:
        print(f"more images {result.sampling}")
