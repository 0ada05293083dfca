"""parity_kit as a test: the file of docs/porting.md as pytest runs it, right and with a mistake in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from flax import nnx

import parity_kit
from parity_kit.climb import Climb
from parity_kit.rows import Row

ROOT = Path(__file__).resolve().parent.parent


pytestmark = pytest.mark.usefixtures("as_strangers_have_it")


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_port.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_port.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_file_of_the_page(tmp_path):
    (text,) = re.findall(r"```python\n(# test_port\.py\n.*?)```", (ROOT / "docs/porting.md").read_text(), re.DOTALL)
    right = run(tmp_path, text)
    assert (right.returncode, right.stdout.splitlines()[-1].split(" in ")[0]) == (0, "2 passed"), right.stdout
    wrong = run(tmp_path, text.replace("strides=stride, padding=1", 'strides=stride, padding="SAME"'))
    assert wrong.returncode == 1
    assert wrong.stdout.splitlines()[-1].startswith("1 failed, 1 passed"), wrong.stdout
    assert "padding at stride 2: 1 on each side in torch, 0 before and 1 after in nnx" in wrong.stdout
    assert "parity_kit/report.py" not in wrong.stdout  # it ends at the line of the test


def test_the_report_is_given_where_they_agree():
    theirs, ours = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    report = parity_kit.assert_equal(theirs, ours, torch.randn(4, 3), passes=1)
    assert report.passed
    report.raise_if_different()
    with pytest.raises(AssertionError, match="eps: 1e-05 in torch, 1e-06 in nnx"):
        parity_kit.assert_equal(torch.nn.LayerNorm(3), nnx.LayerNorm(3, rngs=nnx.Rngs(0)), torch.randn(4, 3), passes=1)


def test_a_climb_that_fails():
    growth = [{"step": 1.0, "apart": 1.0, "torch": 1e-15, "losses": 0.1}]
    Climb([Row("update", "d_loss", 1e-12, 1e-9)], growth).raise_if_different()
    with pytest.raises(AssertionError, match=r"update .* d_loss .* FAIL"):
        Climb([Row("update", "d_loss", 0.1, 1e-9)], growth).raise_if_different()
