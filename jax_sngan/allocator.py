"""The C library's memory: freed blocks are kept for the next step instead of going back to the system."""

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # glibc's malloc.h: M_MMAP_THRESHOLD and so on
KEPT = 2**31 - 1  # bytes; what fits mallopt's argument


def keep_freed_memory() -> bool:
    """Lets glibc keep up to 2 GiB of freed memory, and serve blocks up to that size from it; False on other systems.

    XLA's CPU backend allocates a step's work space anew each step. Returned to the system and mapped again, it costs
    16,000 page faults a step of `fashion`: 8.4 steps a second against 10.1 with this (2 cores, docs/performance.md).
    All threads share one heap, since another thread's can't grow beyond 64 MiB and would map larger blocks anew.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    options = {_MMAP_THRESHOLD: KEPT, _TRIM_THRESHOLD: KEPT, _ARENA_MAX: 1}
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options.items())
