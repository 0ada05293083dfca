"""XLA's compiled programs as bytes: kept on disk, so that a second start does not compile again, and loaded anew."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import serialize_executable

from jax_sngan.system.cache_folder import cache_folder

LIMIT = 2 * 1024**3  # bytes; the programs used longest ago go first
_LINES_IN_KEY = "jax_compilation_cache_include_metadata_in_key"


def use_compilation_cache() -> None:
    """Turns the cache on, in cache_folder()/xla, unless jax was given another place (JAX_COMPILATION_CACHE_DIR)."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextmanager
def told_by_source_lines(wanted: bool) -> Iterator[None]:
    """What is compiled within is taken from the cache only if it came from the same lines of the same files.

    Else a program may name files of another place, and lines of an older version: whatever compiled it first.
    """
    before = jax.config.values[_LINES_IN_KEY]
    jax.config.update(_LINES_IN_KEY, wanted or before)
    try:
        yield
    finally:
        jax.config.update(_LINES_IN_KEY, before)


class _Taken(threading.local):
    """Programs that this thread took from the disk since it began."""

    count = 0


_taken = _Taken()


def _count(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _taken.count += 1


jax.monitoring.register_event_listener(_count)


class Program:
    """What a jitted function was compiled to, for arguments of one kind.

    Attributes:
      compiled: the program. Who keeps it elsewhere keeps the old one when it is loaded anew.
    """

    def __init__(self, jitted: Any, lowered: Any):
        """Compiles it, or takes it from the disk.

        Args:
          lowered: of `jitted`, by its `lower`.
        """
        before = _taken.count
        self.compiled, self._jitted = lowered.compile(), jitted
        self._small = _taken.count > before

    def load_anew(self) -> bool:
        """Loads it anew, which is smaller, if it was compiled and bytes can hold it; whether it did.

        It is the same machine code, so that no number changes. The jitted function no longer has the program.
        """
        if self._small or not (load := written(self.compiled)):
            return False
        self._jitted.clear_cache()
        del self.compiled
        gc.collect()  # jax's objects refer to each other
        self.compiled, self._small = load(), True
        return True


def written(program: Any) -> Callable[[], Any] | None:
    """What loads a compiled program of jax.devices()[0] anew, from bytes in memory; None where bytes cannot hold it.

    Compiling leaves what it took scattered over the memory, loading does not (docs/performance.md has what it saves).
    The old program has to be let go of before, by all who hold it: of jax's caches, that is the jitted function's
    `clear_cache`.
    """
    if "_python_cpu_callback" in (program.as_text() or ""):  # calls a function of this process
        return None
    try:
        stored, inputs, outputs = serialize_executable.serialize(program)
    except NotImplementedError:  # constants that jax gives it as arguments (jax_use_simplified_jaxpr_constants)
        return None
    load = serialize_executable.deserialize_and_load
    return lambda: load(stored, inputs, outputs, execution_devices=jax.devices()[:1])
