"""What a run tells: metrics.jsonl, TensorBoard files, and a progress bar, for both frameworks. Knows no jax."""

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from tqdm import TqdmWarning

from jax_sngan.system.errors import UserError
from jax_sngan.system.files import sync, write_whole
from jax_sngan.system.terminal import shown

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # of a notebook without ipywidgets: the bar is text there
    from tqdm.auto import tqdm

# How a score's name ends that is of batch statistics taken anew; and of those, or of the generator's own weights.
OF_STANDING = r"_standing\d+$"
OF_ANOTHER_GENERATOR = re.compile(f"_raw$|{OF_STANDING}")

Line = tuple[bytes, int, dict[str, float]]  # as it stands, its step, its values


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
    ):
        """
        Args:
          workdir: None: no files are written, and `lines` is the log.
          start: steps done already; lines of metrics.jsonl past it, of a run that was cut off, are set aside.
          logged: the last step up to it that was logged, as its checkpoint knows; 0: none.
          clock: seconds.
          shows: whether a person is told; of several processes the first does it.
        """
        self._workdir = workdir
        self.lines: list[tuple[int, dict[str, float]]] = []  # without a workdir: what metrics.jsonl would hold
        self.notes = self._open(start, logged)  # what a person should know of the log that was there
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
        self._has_boards = workdir is not None and find_spec("tensorboardX") is not None
        if workdir is not None and not self._has_boards:
            self.say("note        tensorboardX is not installed: this run writes no TensorBoard files")

    def _open(self, start: int, logged: int = 0) -> list[str]:
        self._board: Any = None
        self._opened_at = start
        self._file: TextIO | None = None
        self.lines = [line for line in self.lines if line[0] <= start]
        if self._workdir is None:
            return []
        path = self._workdir / "metrics.jsonl"
        notes = take_up(path, start, logged)
        self._file = path.open("a", encoding="utf-8")
        sync(self._workdir)
        return notes

    def sync(self) -> None:
        """Returns once every line is on the disk: a checkpoint that comes after them must not outlast them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def _close(self) -> None:
        if self._file is not None:
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
            assert self._workdir is not None  # else there are no boards
            self._board = SummaryWriter(str(self._workdir / "tensorboard"), purge_step=purge)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int) -> None:
        """So many more steps are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)

    def go_back(self, step: int) -> None:
        """The run goes on from an earlier step: what was logged after it is set aside."""
        self._close()
        notes = self._open(step)
        self._done = step
        self.forget_time()
        if self._bar is not None:
            self._bar.n = step
            self._bar.refresh()
        for note in notes:
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

    def _append(self, step: int, values: dict[str, float]) -> None:
        if self._file is None:
            self.lines.append((step, dict(values)))
        else:
            self._file.write(json_line(step, values))
            self._file.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line of numbers, to the file, TensorBoard and the progress line; the clock stands."""
        self._append(step, values)
        (seconds, steps), self._timed = self._timed, (0.0, 0)
        speed = steps / max(seconds, 1e-9)
        self._show_on_board(step, values | {"speed/steps_per_second": speed})
        shown = {k: f"{v:.3f}" for k, v in values.items() if k in ("d_loss", "g_loss")}
        shown |= self._score
        shown["img/s"] = f"{speed * self._images_a_step:.0f}"
        if self._bar is not None:
            self._bar.set_postfix(shown)
        elif self._shows:
            left = (self._steps - self._done) / max(speed, 1e-9)
            text = "  ".join(f"{k} {v}" for k, v in shown.items())
            print(f"step {step}/{self._steps}  {text}  {speed:.2f} steps/s  {duration(left)} left", flush=True)

    def write_scores(self, step: int, values: dict[str, float]) -> None:
        """One line of an evaluation's scores, to the file, TensorBoard and the progress line."""
        self._append(step, values)
        self._show_on_board(step, {f"scores/{name}": value for name, value in values.items()})
        texts = {name: f"{value:.4g}" for name, value in values.items()}
        self._score = dict(list(texts.items())[:1])
        self.say(f"step {step}/{self._steps}  " + "  ".join(f"{name} {text}" for name, text in texts.items()))

    def say(self, text: str) -> None:
        """A line for the person, beside the bar."""
        if self._bar is not None:
            self._bar.write(shown(text))
        elif self._shows:
            print(shown(text), flush=True)


def json_line(step: int, values: dict[str, float]) -> str:
    """A line of metrics.jsonl."""
    return json.dumps({"step": step} | values) + "\n"


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def last_logged(step: int, unlogged: Collection[Any], metrics: dict[str, float]) -> int:
    """The step of the last line of the log up to a checkpoint of a step, by what stands in it; 0: it knows of none.

    Args:
      unlogged: each step's numbers since that line.
      metrics: the last logged; with best_metric, where it was evaluated.
    """
    return step - len(unlogged) if metrics.keys() - {"best_metric"} else 0


def take_up(path: Path, step: int, logged: int) -> list[str]:
    """Leaves in a metrics.jsonl, which need not be there, its lines up to a step; the file as it was is kept beside it.

    Args:
      logged: the last step up to `step` that was logged, or 0.
    Returns:
      a line on what was set aside, on lines that are none of a log (a power cut may leave such), and on a gap.
    Raises:
      UserError: the file can't be read or written.
    """
    notes: list[str] = []
    good: list[Line] = []
    if path.exists():
        before = _read(path)
        good, bad = _parted(before)
        good = [(line, of, values) for line, of, values in good if of <= step]
        lines = b"".join(line for line, _, _ in good)
        if bad:
            notes.append(f"{path} has {len(bad)} lines that are none of a log, as a power cut may leave them: left out")
        if lines != before:
            notes.append(f"{path} had lines past step {step} or broken ones; as it was it is {_kept_aside(path, step)}")
            write_whole(path, lambda p: p.write_bytes(lines))
    last = max((of for _, of, _ in good), default=0)
    if last < logged:
        notes.append(f"{path} has a gap: its lines after step {last} up to step {logged} are gone")
    return notes


def _kept_aside(path: Path, step: int) -> str:
    """Copies a log to NAME.past-STEP, -2 and so on; not where that holds these lines already. Returns the name."""
    contents, n = path.read_bytes(), 1
    while True:
        aside = path.with_name(f"{path.name}.past-{step}" + (f"-{n}" if n > 1 else ""))
        there = aside.read_bytes() if aside.is_file() else b"" if not os.path.lexists(aside) else None
        # A run that is cut off at one place again and again logs the same lines again: the longest has them all.
        if there is not None and there.startswith(contents):
            return aside.name
        if there is not None and contents.startswith(there):
            write_whole(aside, lambda p: p.write_bytes(contents))
            return aside.name
        n += 1


def lines_up_to(path: Path, step: int) -> str:
    """The whole lines of a metrics.jsonl up to a step.

    Raises:
      UserError: the file can't be read, or a line of it is none of ours.
    """
    return b"".join(line for line, of, _ in _whole_lines(path) if of <= step).decode()


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


def _whole_lines(path: Path) -> list[Line]:
    """Each line of a metrics.jsonl; without a last one that was cut off."""
    contents = _read(path)
    lines, bad = _parted(contents[: contents.rfind(b"\n") + 1])
    if bad:
        raise UserError(f"cannot read {path}, a run's metrics.jsonl: it has a line {shown(bad[0][:60])}")
    return lines


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}, a run's metrics.jsonl: {error.strerror or error}") from error


def _parted(contents: bytes) -> tuple[list[Line], list[bytes]]:
    """A log's lines, and what is none of a log, a last line without its end with it."""
    lines: list[Line] = []
    bad: list[bytes] = []
    for line in contents.splitlines(keepends=True):
        try:
            values = json.loads(line.decode())
            step = values.pop("step")
            whole = line.endswith(b"\n") and type(step) is int and all(type(v) in (int, float) for v in values.values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if whole:
            lines.append((line, step, values))
        else:
            bad.append(line)
    return lines, bad


def duration(seconds: float) -> str:
    """3725 -> 1:02:05, 65 -> 1:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"
