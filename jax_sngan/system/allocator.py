"""The C library's memory: freed blocks are kept for the next step instead of going back to the system."""

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
KEPT = 2**30  # bytes


def keep_freed_memory() -> bool:
    """Lets glibc keep up to 1 GiB of freed memory, and serve blocks up to that size from it; False on other systems.

    XLA's CPU backend allocates a step's work space anew each step. Returned to the system and mapped again, it costs
    16,000 page faults a step of `fashion`: 8.4 steps a second against 10.1 with this (2 cores, docs/performance.md).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(option, KEPT) == 1 for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
