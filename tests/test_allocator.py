"""Freed memory stays with the process where the C library is glibc, that of compiled programs too."""

import platform
import subprocess
import sys

import pytest

import jax_sngan as sn
from jax_sngan.training import loop

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

RETURNED = """
from pathlib import Path
import numpy as np
from jax_sngan.system.allocator import return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

keep_freed_memory(0)
before = resident()
block, behind = np.ones(8_000_000), np.ones(100_000)  # 64 MB, and what keeps them from the end of the heap
del block
kept = resident() - before
return_freed_memory()
assert kept > 60e6 and resident() - before < 10e6, (kept, resident() - before)
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


def test_freed_memory_is_given_back_on_demand() -> None:
    _run(RETURNED)


def test_training_gives_back_what_compiling_and_pictures_left(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(loop, "return_freed_memory", lambda: calls.append("returned"))
    small = {"model.generator_width": 8, "model.discriminator_width": 8, "batch_size": 4}
    sn.train("points", steps=6, log_every=1, sample_every=3, **small)
    assert len(calls) == 3  # after the first step, and after each of two grids


def test_the_work_space_of_a_program_is_too_where_batches_are_large() -> None:
    kept, left = (_run(PROGRAM.format(pixels=pixels)).split() for pixels in (2**16, 0))
    # In most calls: the heap grows anew where something small was left behind the work space.
    assert int(kept[4]) < 1000, kept
    assert int(left[0]) > 2**27 // 2**12, left


def test_small_batches_leave_jax_a_thread_of_its_own() -> None:
    own = "keep_freed_memory({})\nimport jax\nprint(jax.config.values['jax_cpu_enable_async_dispatch'])"
    assert [_run(own.format(pixels)).strip() for pixels in (2**14 - 1, 2**14)] == ["True", "False"]
