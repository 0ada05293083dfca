"""Settings that every test runs under, made before jax or torch is imported, and what both suites share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

from jax_sngan.system.jax_internals import flags

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Several devices on every machine, for the tests of sharding. Single-device work does not slow down: compile and
# step times of a small network were the same with 1 and with 8.
# Programs are made without optimisation, by XLA's older code generator and in one piece: tests compile hundreds of
# tiny ones once each. Without optimisation it takes 4.2 s of CPU for a training step instead of 10.8, and that falls by
# a factor of 1.5 to 4 with the rest. What is computed is the same.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        flags(
            {
                "xla_force_host_platform_device_count": 8,
                # Virtual devices wait for each other; on two busy cores longer than the 40 s after which XLA aborts.
                "xla_cpu_collective_call_terminate_timeout_seconds": 300,
                "xla_backend_optimization_level": 0,
                "xla_cpu_use_fusion_emitters": False,
                "xla_cpu_parallel_codegen_split_count": 1,
            }
        ),
    ]
).strip()
# torch reads it at import; said here so that a test does not depend on what a shell happened to set.
os.environ["OMP_NUM_THREADS"] = str(max(1, CORES // WORKERS))

# Tracing makes millions of objects that live on, and Python's collector looks through all of them again and again: at
# these thresholds rung 5's pairs take a tenth less (279 s, 251), and the process a fortieth more memory.
gc.set_threshold(100_000, 50, 1000)

import jax
import numpy as np
import pytest

from jax_sngan.metrics.extractors import Extractor

jax.config.update("jax_enable_x64", True)  # the ladder compares in float64; float32 is asked for by name
jax.config.update("jax_numpy_dtype_promotion", "strict")  # float32 meeting float64 is a mistake, not a promotion
jax.config.update("jax_numpy_rank_promotion", "raise")  # [n] against [n, 1] is one too
jax.config.update("jax_default_matmul_precision", "highest")  # of what is tested alone; a run's config says its own

ROOT = Path(__file__).resolve().parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one worker a core that this process may use; more than eight would wait for the longest file."""
    return min(CORES, 8)


@pytest.fixture(scope="module", autouse=True)
def _few_memory_maps() -> Iterator[None]:
    """Lets a file's compiled programs go after its last test.

    Each holds several memory maps on CPU, and Linux allows a process 65,530 of them: a thousand tests on, the next
    compilation ended the process with a segmentation fault.
    """
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder beside the repository that holds recorded trajectories and real colour images; not part of it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs {path}, which is not part of the repository")
    return path


@pytest.fixture(scope="session")
def squares() -> Extractor:
    """Features of 28 x 28 grey images without a network, in the classifier's place: means over squares of 7 pixels."""

    def features(images: np.ndarray) -> tuple[np.ndarray, None]:
        return images.reshape(len(images), 4, 7, 4, 7).mean(axis=(2, 4)).reshape(len(images), 16), None

    return Extractor("classifier", "0", features)
