"""One side of the benchmark as a process: it prepares a workload, then answers each line on its input with one of JSON.

The lines: `go N`, N steps one after another, answered by the seconds of one; `memory`, answered by the MiB at the peak
of those so far, on the device where that has a memory of its own. Each side runs apart, so that memory is its own and
no side's threads wait beside another's.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jax_sngan.system.allocator import return_freed_memory

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux alone


def answer(told: dict[str, Any]) -> None:
    """One line to the process that asked."""
    print(json.dumps(told), flush=True)


class Prepared(NamedTuple):
    """One side, ready to be measured."""

    told: dict[str, Any]  # what to tell
    repeat: Callable[[int], None]  # so many steps one after another; ends when their results are there
    peak: Callable[[], float | None] | None = None  # MiB of the device's own memory at the peak; None: the process's


def serve(prepare: Callable[[], Prepared]) -> None:
    """Prepares, tells, and answers until the input ends.

    Args:
      prepare: () -> the side, which has done a step already.
    """
    before = _status("VmRSS")
    try:
        told, repeat, device_peak = prepare()
    except Exception as error:  # told to the one who asked, who decides whether it may fail
        answer({"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"})
        return
    answer(told)
    _forget_peak()
    for line in sys.stdin:
        asked, *numbers = line.split()
        if asked == "go":
            count = int(numbers[0])
            started = time.perf_counter()
            try:
                repeat(count)
            except Exception as error:  # as above: memory may run out here alone
                answer({"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"})
                return
            answer({"seconds": (time.perf_counter() - started) / count})
        elif asked == "memory":
            peak = _status("VmHWM")
            of_process = None if before is None or peak is None else (peak - before) / 1024
            answer({"mb": device_peak() if device_peak else of_process})


def _forget_peak() -> None:
    """What compiling and warming up held does not count."""
    if _CLEAR.exists():
        return_freed_memory()
        _CLEAR.write_text("5")  # proc(5): resets the peak


def _status(name: str) -> int | None:
    """KiB."""
    if not _STATUS.exists():
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
