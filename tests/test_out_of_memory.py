"""Memory that runs out, on a device or on the host, is one line and exit code 1, and checkpoints stay."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_sngan.commands import process
from jax_sngan.config.schema import RunConfig
from jax_sngan.runs import manifest
from jax_sngan.system.errors import UserError
from jax_sngan.system.out_of_memory import memory_line, out_of_memory
from jax_sngan.training.backend import JaxBackend
from jax_sngan.training.trainer import train
from tests.conftest import ROOT, TINY, TINY_OPTIONS

NAMED = ("--batch-size", "--accumulate N", "--model.compute-dtype bfloat16")
# What users of GPUs and TPUs were told, first lines: jax-ml/jax issues 13428 and 22755, google-deepmind/jax_privacy 10,
# LargeWorldModel/LWM 60, sokrypton/ColabFold 62, huggingface/diffusers 856.
OF_XLA = [
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 6291456 bytes.\nBufferAssignment OOM Debugging.",
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3743729664 bytes.",
    "RESOURCE_EXHAUSTED: Failed to allocate request for 176.00MiB (184549376B) on device ordinal 0",
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 21.95G of 15.48G "
    "hbm.\n Exceeded hbm capacity by 6.47G.",
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 9.08G of 7.48G hbm. Exceeded hbm capacity by "
    "1.60G.",
    "INTERNAL: Failed to allocate 1048576 bytes for new constant",
]
OF_TORCH = [
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "1600000000 bytes. Error code 12 (Cannot allocate memory)",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
]


def impossible() -> jax.Array:
    """More than any machine's address space has."""
    return jnp.ones((2**46,), jnp.float32)


def caught(act: object) -> BaseException:
    with pytest.raises(Exception) as info:  # noqa: PT011  # whatever it is
        act()  # type: ignore[operator]
    return info.value


@pytest.mark.parametrize("text", OF_XLA)
def test_what_gpus_and_tpus_say(text: str) -> None:
    error = jax.errors.JaxRuntimeError(text)
    assert out_of_memory(error)
    line = memory_line(error)
    assert line.startswith(f"out of memory: {text.splitlines()[0].rstrip('.')}; ")
    assert all(option in line for option in NAMED)
    assert "\n" not in line


@pytest.mark.parametrize("text", OF_TORCH)
def test_what_torch_says(text: str) -> None:
    assert out_of_memory(RuntimeError(text))
    assert "\n" not in memory_line(RuntimeError(text))


def test_what_is_something_else() -> None:
    for error in (
        jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Executable expected parameter 0 of size 4"),
        RuntimeError("out of memory is a word"),
        ValueError("RESOURCE_EXHAUSTED"),
        UserError("batch_size must be at least 1"),
        None,
    ):
        assert not out_of_memory(error)


def test_what_this_machine_says() -> None:
    for act in (impossible, lambda: np.ones(2**46), lambda: bytearray(2**47)):
        error = caught(act)
        assert out_of_memory(error), repr(error)
        around = RuntimeError("a step failed")
        around.__cause__ = error
        assert out_of_memory(around)
        assert memory_line(around) == memory_line(error)


def test_a_step_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 5 cannot be computed: one line, code 1; the checkpoint of step 3 is whole, and the run goes on from it."""
    run = RunConfig(workdir=str(tmp_path / "run"), log_every=2, sample_every=0, checkpoint_every=3)
    steps = JaxBackend.train
    with monkeypatch.context() as patch:
        patch.setattr(JaxBackend, "train", lambda self, k, *of: impossible() if k == 4 else steps(self, k, *of))
        with pytest.raises(SystemExit) as ended:
            process.run(lambda: train(TINY, run) and 0)
    assert ended.value.code == 1
    line = capsys.readouterr().err.strip()
    assert "RESOURCE_EXHAUSTED" in line
    assert "\n" not in line
    assert all(option in line for option in NAMED)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]
    assert manifest.problem(tmp_path / "run" / "checkpoints" / "3", 3) is None
    assert train(TINY, run).step == 6


LIMITED = """
import resource, runpy, sys
import jax, jax.numpy as jnp
jnp.ones(1).block_until_ready()  # the backend's threads are there
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * 2**30,) * 2)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_batch_that_does_not_fit(tmp_path: Path, programs: dict[str, str]) -> None:
    """A process that may have 2 GiB more, and a training step that needs 4: XLA's own allocation fails."""
    options = [o for o in TINY_OPTIONS if not o.startswith("--batch-size")]
    script = [
        str(ROOT / "scripts" / "train_jax.py"),
        "fashion",
        *options,
        "--batch-size=20000",
        f"--workdir={tmp_path / 'run'}",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *script],
        env=programs,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("out of memory: ") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert all(option in ended.stderr for option in NAMED)
    assert os.listdir(tmp_path / "run" / "checkpoints") == []
