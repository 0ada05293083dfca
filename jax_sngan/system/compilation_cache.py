"""XLA's compiled programs kept on disk, so that a second start does not compile again."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

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
