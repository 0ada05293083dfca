"""Scripts as processes of their own, and the logs that they write."""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from jax_sngan.runs.log import repeatable_lines

ROOT = Path(__file__).resolve().parent.parent


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A script as a process of its own; compiled programs are shared between those of one folder."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(workdir: Path) -> list[dict[str, float]]:
    """Those of a run's log, without what is of the machine and the hour."""
    return repeatable_lines(workdir / "metrics.jsonl")


OF_THE_STATE = re.compile(r"step|g_average_distance|._learning_rate|._(sigma|singular_value)/.*")


def joined(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """The line that two steps' lines come to: means, and of the state what it is at the second."""
    return {
        name: second[name]
        if OF_THE_STATE.fullmatch(name)
        else statistics.fmean([line[name] for line in (first, second) if name in line])
        for name in {**first, **second}
    }


def assert_same_logs(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for a, b in zip(found, expected, strict=True):
        assert set(a) == set(b)
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=1e-8, abs=1e-10), name
