"""One side of the benchmark as a process: it prepares a work, then answers each line on its input with one of JSON.

The lines: `go`, a repetition, answered by its seconds; `memory`, answered by the MiB at the peak of those so far.
Each side runs apart, so that memory is its own and no side's threads wait beside another's.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux alone


def answer(told: dict[str, Any]) -> None:
    """One line to the process that asked."""
    print(json.dumps(told), flush=True)


def serve(prepare: Callable[[], tuple[dict[str, Any], Callable[[], None]]]) -> None:
    """Prepares, tells, and answers until the input ends.

    Args:
      prepare: () -> (what to tell, one repetition that ends when its result is there); it has run one already.
    """
    before = _status("VmRSS")
    try:
        told, repeat = prepare()
    except Exception as error:  # told to the one who asked, who decides whether it may fail
        answer({"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"})
        return
    answer(told)
    _forget_peak()
    for line in sys.stdin:
        if line.strip() == "go":
            started = time.perf_counter()
            repeat()
            answer({"seconds": time.perf_counter() - started})
        elif line.strip() == "memory":
            peak = _status("VmHWM")
            answer({"mb": None if before is None or peak is None else (peak - before) / 1024})


def _forget_peak() -> None:
    """What compiling and warming up held does not count."""
    if _CLEAR.exists():
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # proc(5): resets the peak


def _status(name: str) -> int | None:
    """KiB."""
    if not _STATUS.exists():
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
