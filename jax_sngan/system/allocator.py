"""The C library's memory: freed blocks are kept for the next program instead of going back to the system."""

import ctypes
import sys
from typing import Any

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
KEPT = 2**31 - 1  # bytes: the most that an int says
AT_ONCE = 2**17  # bytes of free memory at the end of a heap, from which on they go back: glibc's own at first
MANY = 2**14  # pixels in a batch, from which on a program may want more at once than an arena holds, 64 MiB


def keep_freed_memory(pixels: int = MANY) -> bool:
    """Lets glibc keep up to 2 GiB of freed memory, and serve blocks up to that size from it; False on other systems.

    XLA's CPU backend allocates a program's work space anew in every call. Returned to the system and mapped again, it
    costs 100,000 page faults, a tenth of the time, a step of the standard CNN (docs/performance.md).

    Only the heap of the main thread serves larger blocks than an arena's. So where a batch has MANY pixels (n * h * w),
    jax is told to run a CPU's programs in the thread that calls them, which then does nothing else meanwhile. It
    listens if it has not computed anything yet in this process; programs of several devices keep their own threads.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None or not all(mallopt(option, KEPT) == 1 for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)):
        return False

    if pixels >= MANY:
        import jax  # takes a second to load

        jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def return_at_once(wanted: bool) -> None:
    """Whether what is freed at the end of a heap goes back to the system at once; by keep_freed_memory it does not.

    For the time in which programs are compiled: a compiler's threads have a heap each, and free nearly all of what they
    took. The ends of those heaps would stay for good, 20 to 120 MiB for the standard CNN, since return_freed_memory
    reaches the end of the main thread's alone.
    """
    if mallopt := _glibc("mallopt"):
        mallopt(_TRIM_THRESHOLD, AT_ONCE if wanted else KEPT)


def return_freed_memory() -> None:
    """Gives the system what is free and kept: what compiling left, and work spaces that no later one took the place of.

    A work space goes to the end of the heap, and not where the last one was, if something small was put there since.
    Takes milliseconds; the next call of a program maps its work space anew. Does nothing but with glibc.
    """
    if malloc_trim := _glibc("malloc_trim"):
        malloc_trim(0)


def _glibc(name: str) -> Any:
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None  # musl has neither
