"""What a run tells while it trains: to its loggers, and to a person by a bar or by lines. Knows no jax."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import TqdmWarning

from jax_sngan.runs.log import MetricsFile, Values
from jax_sngan.runs.loggers import Logger, TensorBoard, back, close
from jax_sngan.system.terminal import shown

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # of a notebook without ipywidgets: the bar is text there
    from tqdm.auto import tqdm


class RunLog:
    """One run's log; a context, closed at its end.

    Its clock tells the speed and the time left by the steps alone: it stands until start_clock, and wherever something
    is made of them. Compiling a program takes the time of many steps and happens once.
    """

    def __init__(
        self,
        workdir: Path | None,
        start: int,
        steps: int,
        images_a_step: int,
        logged: int = 0,
        clock: Callable[[], float] = time.monotonic,
        *,
        shows: bool = True,
        loggers: Sequence[Logger] = (),
    ):
        """
        Args:
          workdir: None: no files are written, and `lines` is the log.
          start: steps done already; lines of metrics.jsonl past it, of a run that was cut off, are set aside.
          logged: the last step up to it that was logged, as its checkpoint knows; 0: none.
          clock: seconds.
          shows: whether a person is told; of several processes the first does it.
          loggers: of the user's own, beside metrics.jsonl and TensorBoard's files in a workdir.
        """
        self.lines: list[tuple[int, dict[str, float]]] = []  # without a workdir: what metrics.jsonl would hold
        self._file = None if workdir is None else MetricsFile(workdir, start, logged)
        self.notes = self._file.notes if self._file else []  # what a person should know of the log that was there
        self._loggers = list(loggers)
        has_boards = find_spec("tensorboardX") is not None
        if workdir is not None and has_boards:
            self._loggers.insert(0, TensorBoard(workdir / "tensorboard", start))
        self._images_a_step = images_a_step
        # On a terminal and in a notebook a bar that redraws; elsewhere (a file, CI) a plain line at each log.
        self._shows, redraws = shows, shows and (sys.stderr.isatty() or in_notebook())
        self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True) if redraws else None
        self._steps, self._done = steps, start
        self._clock = clock
        self._stopped: float | None = clock()  # since when it stands; None while it runs
        self._began = (0.0, start)  # when it began to run, and the steps that were done then
        self._timed = (0.0, 0)  # seconds and steps before that, since the last line
        self._score: dict[str, str] = {}  # the first of the last evaluation, as the bar shows it

        if workdir is not None and not has_boards:
            self.say("note        tensorboardX is not installed: this run writes no TensorBoard files")

    def past(self) -> list[tuple[int, dict[str, float]]]:
        """Step and numbers of each line up to now, those of earlier processes too."""
        return list(self.lines) if self._file is None else self._file.past()

    def sync(self) -> None:
        """Returns once every line is on the disk: a checkpoint that comes after them must not outlast them."""
        if self._file is not None:
            self._file.sync()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        for logger in self._loggers:
            close(logger)
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int) -> None:
        """So many more steps are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)

    def go_back(self, step: int) -> None:
        """The run goes on from an earlier step: what was logged after it is set aside."""
        self.lines = [line for line in self.lines if line[0] <= step]
        if self._file is not None:
            self._file.back(step)
        for logger in self._loggers:
            back(logger, step)
        self._done = step
        self.forget_time()
        if self._bar is not None:
            self._bar.n = step
            self._bar.refresh()
        for note in self._file.notes if self._file else ():
            self.say(note)

    def start_clock(self) -> None:
        """The steps begin, or go on."""
        now = self._clock()
        if self._bar is not None and self._stopped is not None:  # the same for the bar's own
            self._bar.start_t += now - self._stopped
            self._bar.last_print_t += now - self._stopped
        self._began, self._stopped = (now, self._done), None

    def stop_clock(self) -> None:
        """All steps so far are computed, and no other will be for a while."""
        now, (began, done), (seconds, steps) = self._clock(), self._began, self._timed
        self._timed, self._stopped = (seconds + now - began, steps + self._done - done), now

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Within the block the clock stands."""
        self.stop_clock()
        try:
            yield
        finally:
            self.start_clock()

    def forget_time(self) -> None:
        """Leaves the steps up to now out of the speed; the clock runs."""
        self._began, self._timed = (self._clock(), self._done), (0.0, 0)

    def _append(self, step: int, values: Values) -> None:
        if self._file is None:
            self.lines.append((step, {name: v for name, v in values.items() if not isinstance(v, np.ndarray)}))
        else:
            self._file.numbers(step, values)
        for logger in self._loggers:
            logger.numbers(step, values)

    def write(self, step: int, values: Values) -> dict[str, Any]:
        """One line of numbers, to every logger and the progress line; the clock stands.

        Returns:
          what the loggers are given: the values, and images_per_second.
        """
        (seconds, steps), self._timed = self._timed, (0.0, 0)
        speed = steps / max(seconds, 1e-9)
        told = {**values, "images_per_second": speed * self._images_a_step}
        self._append(step, told)
        shown = {k: f"{v:.3f}" for k, v in values.items() if k in ("d_loss", "g_loss")}
        shown |= self._score
        shown["img/s"] = f"{speed * self._images_a_step:.0f}"
        if self._bar is not None:
            self._bar.set_postfix(shown)
        elif self._shows:
            left = (self._steps - self._done) / max(speed, 1e-9)
            text = "  ".join(f"{k} {v}" for k, v in shown.items())
            print(f"step {step}/{self._steps}  {text}  {speed:.2f} steps/s  {duration(left)} left", flush=True)
        return told

    def write_scores(self, step: int, values: dict[str, float]) -> None:
        """One line of an evaluation's scores, to every logger and the progress line."""
        self._append(step, values)
        texts = {name: f"{value:.4g}" for name, value in values.items()}
        self._score = dict(list(texts.items())[:1])
        self.say(f"step {step}/{self._steps}  " + "  ".join(f"{name} {text}" for name, text in texts.items()))

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """Images uint8 [n, h, w, c], or points float [n, 1, 1, 2], to every logger."""
        for logger in self._loggers:
            logger.images(step, name, images)

    def say(self, text: str) -> None:
        """A line for the person, beside the bar."""
        if self._bar is not None:
            self._bar.write(shown(text))
        elif self._shows:
            print(shown(text), flush=True)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def duration(seconds: float) -> str:
    """3725 -> 1:02:05, 65 -> 1:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"
