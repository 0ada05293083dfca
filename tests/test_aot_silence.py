"""Beside the compilers of the extra `aot` every other command is as silent as without them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aot import needs

from conftest import ROOT, TINY_OPTIONS
from jax_sngan.accelerators.environment import has_gpu, has_tpu

pytestmark = [
    needs("v5e:2x2"),
    needs("h100"),
    pytest.mark.skipif(has_gpu() or has_tpu(), reason="of machines without a GPU or TPU"),
]
TOLD = ("JAX_", "TPU_", "XLA_")  # variables that conftest or a caller has set: a person's shell has none


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(TOLD)}
    variables |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONWARNINGS": "error::UserWarning"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
    )


def test_training_and_sampling_print_what_they_print_without(tmp_path: Path) -> None:
    for name, *options in (
        ("train_jax.py", *TINY_OPTIONS, "--dry-run"),
        ("train_jax.py", *TINY_OPTIONS, "--steps=1", "--workdir=run"),
        ("sample.py", "run", "--num=2", "--npz=samples.npz"),
    ):
        outcome = run(tmp_path, str(ROOT / "scripts" / name), *options)
        assert outcome.returncode == 0, outcome.stderr
        # The progress bar alone is on stderr, and only while a run trains.
        told = [line for line in outcome.stderr.replace("\r", "\n").splitlines() if "it/s" not in line and "%|" not in line]
        assert not [line for line in told if line.strip()], outcome.stderr


def test_the_compilers_are_what_would_be_heard(tmp_path: Path) -> None:
    """jax without this package does tell: the test above listens to something."""
    outcome = run(tmp_path, "-c", "import jax; jax.devices()")
    assert "cuDNN" in outcome.stderr
    assert "TPU" in outcome.stderr


def test_jax_sees_the_processor_after_an_import_of_the_package(tmp_path: Path) -> None:
    outcome = run(tmp_path, "-c", "import jax; import jax_sngan; print(jax.default_backend())")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "cpu\n", "")
