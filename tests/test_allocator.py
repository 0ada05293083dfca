"""Freed memory stays with the process where the C library is glibc, that of compiled programs too."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

FAULTS = """
import resource
from jax_sngan.system.allocator import keep_freed_memory

def faults(once, times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        once()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

"""

BLOCKS = """
import numpy as np

once = lambda: np.ones(8_000_000)  # 64 MB, freed at once
first = faults(once, 20)
assert keep_freed_memory()
faults(once, 20)
assert faults(once, 20) < first / 10, (faults(once, 20), first)
"""

# The program's work space is more than an arena of another thread than the main one holds.
PROGRAM = """
import jax, jax.numpy as jnp

if {pixels}:
    assert keep_freed_memory({pixels})
x = jnp.ones(6000)
outer = lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y.at[i].add(1), jnp.outer(x, x)).sum()
program = jax.jit(outer).lower(x).compile()
assert program.memory_analysis().temp_size_in_bytes > 2**27
once = lambda: program(x).block_until_ready()
print(*sorted(faults(once, 1) for _ in range(9)))
"""


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", FAULTS + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_blocks_are_reused_without_page_faults() -> None:
    _run(BLOCKS)


def test_the_work_space_of_a_program_is_too_where_batches_are_large() -> None:
    kept, left = (_run(PROGRAM.format(pixels=pixels)).split() for pixels in (2**16, 0))
    # In most calls: the heap grows anew where something small was left behind the work space.
    assert int(kept[4]) < 1000, kept
    assert int(left[0]) > 2**27 // 2**12, left


def test_small_batches_leave_jax_a_thread_of_its_own() -> None:
    own = "keep_freed_memory({})\nimport jax\nprint(jax.config.values['jax_cpu_enable_async_dispatch'])"
    assert [_run(own.format(pixels)).strip() for pixels in (2**14 - 1, 2**14)] == ["True", "False"]
