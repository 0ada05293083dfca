"""What a run tells: metrics.jsonl, TensorBoard files, and a progress bar. Knows no jax: both wings write through it."""

import json
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jax_sngan.errors import UserError
from jax_sngan.files import write_whole

# How a score's name ends that is of batch statistics taken anew; and of those, or of the generator's own weights.
OF_STANDING = r"_standing\d+$"
OF_ANOTHER_GENERATOR = re.compile(f"_raw$|{OF_STANDING}")


class RunLog:
    """One run's log; a context, closed at its end.

    Its clock tells the speed and the time left by the steps alone: it stands until start_clock, and wherever something
    is made of them. Compiling a program takes the time of many steps and happens once.
    """

    def __init__(
        self,
        workdir: Path,
        start: int,
        steps: int,
        images_a_step: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
          start: steps done already; lines of metrics.jsonl past it, of a run that was cut off, are dropped.
          clock: seconds.
        """
        self._path, self._tensorboard = workdir / "metrics.jsonl", workdir / "tensorboard"
        self._open(start)
        self._images_a_step = images_a_step
        # On a terminal a bar that redraws; elsewhere (a file, CI) a plain line at each log.
        self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True) if sys.stderr.isatty() else None
        self._steps, self._done = steps, start
        self._clock = clock
        self._stopped: float | None = clock()  # since when it stands; None while it runs
        self._began = (0.0, start)  # when it began to run, and the steps that were done then
        self._timed = (0.0, 0)  # seconds and steps before that, since the last line
        self._score: dict[str, str] = {}  # the first of the last evaluation, as the bar shows it
        self._has_boards = find_spec("tensorboardX") is not None
        if not self._has_boards:
            self.say("note        tensorboardX is not installed: this run writes no TensorBoard files")

    def _open(self, start: int) -> None:
        self._keep_lines_up_to(start)
        self._file = self._path.open("a")
        self._board: Any = None
        self._opened_at = start

    def _close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _show_on_board(self, step: int, values: dict[str, float]) -> None:
        if not self._has_boards:
            return
        if self._board is None:
            # With the first numbers, since it loads torch where there is one: seconds before a run's first step.
            from tensorboardX import SummaryWriter

            purge = self._opened_at + 1 if self._opened_at else None
            self._board = SummaryWriter(str(self._tensorboard), purge_step=purge)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._bar is not None:
            self._bar.close()

    def _keep_lines_up_to(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = lines_up_to(self._path, step)
        if kept != self._path.read_text():
            write_whole(self._path, lambda p: p.write_text(kept))

    def advance(self, count: int) -> None:
        """So many more steps are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)

    def go_back(self, step: int) -> None:
        """The run goes on from an earlier step: what was logged after it is dropped."""
        self._close()
        self._open(step)
        self._done = step
        self.forget_time()
        if self._bar is not None:
            self._bar.n = step
            self._bar.refresh()

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

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line of numbers, to the file, TensorBoard and the progress line; the clock stands."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        (seconds, steps), self._timed = self._timed, (0.0, 0)
        speed = steps / max(seconds, 1e-9)
        self._show_on_board(step, values | {"speed/steps_per_second": speed})
        shown = {k: f"{v:.3f}" for k, v in values.items() if k in ("d_loss", "g_loss")}
        shown |= self._score
        shown["img/s"] = f"{speed * self._images_a_step:.0f}"
        if self._bar is not None:
            self._bar.set_postfix(shown)
        else:
            left = (self._steps - self._done) / max(speed, 1e-9)
            text = "  ".join(f"{k} {v}" for k, v in shown.items())
            print(f"step {step}/{self._steps}  {text}  {speed:.2f} steps/s  {duration(left)} left", flush=True)

    def write_scores(self, step: int, values: dict[str, float]) -> None:
        """One line of an evaluation's scores, to the file, TensorBoard and the progress line."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        self._show_on_board(step, {f"scores/{name}": value for name, value in values.items()})
        texts = {name: f"{value:.4g}" for name, value in values.items()}
        self._score = dict(list(texts.items())[:1])
        self.say(f"step {step}/{self._steps}  " + "  ".join(f"{name} {text}" for name, text in texts.items()))

    def say(self, text: str) -> None:
        """A line for the person, beside the bar."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)


class NoLog(RunLog):
    """The log of a process that does not write: of several, only the first does."""

    def __init__(self) -> None:
        """Opens nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def advance(self, count: int) -> None:
        """See RunLog; nothing is shown."""

    def go_back(self, step: int) -> None:
        """See RunLog; nothing was written."""

    def start_clock(self) -> None:
        """See RunLog; nothing is timed."""

    def stop_clock(self) -> None:
        """See RunLog; nothing is timed."""

    def forget_time(self) -> None:
        """See RunLog; nothing is timed."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """See RunLog; nothing is written."""

    def write_scores(self, step: int, values: dict[str, float]) -> None:
        """See RunLog; nothing is written."""

    def say(self, text: str) -> None:
        """See RunLog; the first process says it."""


def lines_up_to(path: Path, step: int) -> str:
    """The whole lines of a metrics.jsonl up to a step.

    Raises:
      UserError: the file can't be read, or a line of it is none of ours.
    """
    return "".join(line for line, of, _ in _whole_lines(path) if of <= step)


def scores_at(path: Path, step: int, known: Collection[str]) -> dict[str, float]:
    """What a run's own evaluation measured of its averaged generator at a step, by name; empty where there was none.

    Args:
      path: its metrics.jsonl, which need not be there.
      known: names of the numbers of training; all others on the lines of that step are scores.
    Raises:
      UserError: the file can't be read, or a line of it is none of ours.
    """
    found: dict[str, float] = {}
    for _, of, values in _whole_lines(path) if path.exists() else ():
        if of == step:
            found |= values
    return {name: v for name, v in found.items() if name not in known and not OF_ANOTHER_GENERATOR.search(name)}


def values_of(path: Path) -> dict[str, dict[int, float]]:
    """Every number of a metrics.jsonl, by its name and step.

    Raises:
      UserError: the file can't be read, or a line of it is none of ours.
    """
    found: dict[str, dict[int, float]] = {}
    for _, step, values in _whole_lines(path):
        for name, value in values.items():
            found.setdefault(name, {})[step] = value
    return found


def _whole_lines(path: Path) -> list[tuple[str, int, dict[str, float]]]:
    """Each line of a metrics.jsonl: as it stands, its step, and its values; without a last one that was cut off."""
    found = []
    try:
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                values = json.loads(line)
                found.append((line, values.pop("step") + 0, values))  # + 0: a step that is no number is refused here
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {path}, a run's metrics.jsonl: {error}") from error
    return found


def duration(seconds: float) -> str:
    """3725 -> 1:02:05, 65 -> 1:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"
