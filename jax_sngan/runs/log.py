"""metrics.jsonl, a run's log: written a line at a time, taken up again where a run goes on, read. Knows no jax."""

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.system.errors import UserError
from jax_sngan.system.files import sync, write_whole
from jax_sngan.system.terminal import shown

# How a score's name ends that is of batch statistics taken anew; and of those, or of the generator's own weights.
OF_STANDING = r"_standing\d+$"
OF_ANOTHER_GENERATOR = re.compile(f"_raw$|{OF_STANDING}")

# Of the machine that trains, and of the hour: a run that is repeated has other ones.
OF_THE_MACHINE = ("images_per_second", "memory_mb", "data_wait_s")

Values = Mapping[str, float | np.ndarray]  # numbers, and [n] of which a histogram is made
Line = tuple[bytes, int, dict[str, Any]]  # as it stands, its step, its values: numbers, and lists of numbers


def repeatable(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line's values that the same run has on another machine and at another hour too."""
    return {name: value for name, value in line.items() if name not in OF_THE_MACHINE}


def repeatable_lines(path: Path) -> list[dict[str, Any]]:
    """Those of each line of a metrics.jsonl, with its step."""
    return [repeatable(json.loads(line)) for line in path.read_text().splitlines()]


class MetricsFile:
    """metrics.jsonl as a logger (runs/loggers.py); it has no images."""

    def __init__(self, workdir: Path, start: int, logged: int = 0):
        """Goes on after a step; start, logged: as RunLog's."""
        self._path = workdir / "metrics.jsonl"
        self.notes: list[str] = []
        self._begin(start, logged)

    def _begin(self, step: int, logged: int = 0) -> None:
        self.notes = take_up(self._path, step, logged)
        self._file = self._path.open("a", encoding="utf-8")
        sync(self._path.parent)

    def numbers(self, step: int, values: Values) -> None:
        """A line."""
        self._file.write(json_line(step, values))
        self._file.flush()

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """Nothing: those are in samples/."""

    def back(self, step: int) -> None:
        """Sets lines after a step aside; notes tells of it."""
        self.close()
        self._begin(step)

    def sync(self) -> None:
        """Returns once every line is on the disk."""
        os.fsync(self._file.fileno())

    def past(self) -> list[tuple[int, dict[str, float]]]:
        """Step and numbers of each line."""
        return [(step, _scalars(values)) for _, step, values in _whole_lines(self._path)]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def json_line(step: int, values: Values) -> str:
    """A line of metrics.jsonl."""
    plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}
    return json.dumps({"step": step} | plain) + "\n"


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
            found |= _scalars(values)
    known = {*known, *OF_THE_MACHINE}
    return {name: v for name, v in found.items() if name not in known and not OF_ANOTHER_GENERATOR.search(name)}


def values_of(path: Path) -> dict[str, dict[int, float]]:
    """Every number of a metrics.jsonl, by its name and step.

    Raises:
      UserError: the file can't be read, or a line of it is none of ours.
    """
    found: dict[str, dict[int, float]] = {}
    for _, step, values in _whole_lines(path):
        for name, value in _scalars(values).items():
            found.setdefault(name, {})[step] = value
    return found


def _scalars(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not isinstance(value, list)}


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


def _is_value(value: Any) -> bool:
    return type(value) in (int, float) or (type(value) is list and all(type(v) in (int, float) for v in value))


def _parted(contents: bytes) -> tuple[list[Line], list[bytes]]:
    """A log's lines, and what is none of a log, a last line without its end with it."""
    lines: list[Line] = []
    bad: list[bytes] = []
    for line in contents.splitlines(keepends=True):
        try:
            values = json.loads(line.decode())
            step = values.pop("step")
            whole = line.endswith(b"\n") and type(step) is int and all(map(_is_value, values.values()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if whole:
            lines.append((line, step, values))
        else:
            bad.append(line)
    return lines, bad
