"""accelerator_check.py as a person calls it, with tiny networks on a CPU: every kind of stage, beside torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests import short_ladder
from parity_tests.report import Line
from parity_tests.test_report import ROOT


def test_a_quick_check_passes_and_keeps_all(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/accelerator_check.py"), "--out=check", "--quick", "--minutes=40"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTEST_ADDOPTS": ""}
    environment.pop("XLA_FLAGS", None)  # of a test: a person's shell has none
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "check/accelerator_check.json").read_text())
    assert told["passed"]
    names = ["probe", "ladder", "mesh", "resume", "benchmark_fashion_float32", "compiled"]
    assert [stage["stage"] for stage in told["stages"]] == names
    of = {stage["stage"]: stage["told"] for stage in told["stages"]}
    assert of["ladder"]["run"] == of["ladder"]["planned"] == len(short_ladder.QUICK)
    assert set(of["benchmark_fashion_float32"]["row"]["seconds"]) == {"jax", "eager"}
    assert of["resume"]["to_the_bit"]  # a CPU's
    assert of["compiled"]["workloads"]["fashion"]["kernels"] > 100
    page = (tmp_path / "check/accelerator_check.html").read_text()
    assert "Accelerator check: passed" in page


def test_the_short_ladder_is_of_tests_that_there_are() -> None:
    names = [*short_ladder.CASES, *short_ladder.QUICK]
    tests = short_ladder.selected(names, short_ladder.collect(names, "cpu"))
    assert len(tests) >= len(names)
    with pytest.raises(ValueError, match=r"there is no test test_1_noise\.py::test_x"):
        short_ladder.selected(["test_1_noise.py::test_x"], tests)


def test_what_was_run_before_it_was_stopped_is_told() -> None:
    tests = ["parity_tests/test_1_ops.py::test_a", "parity_tests/test_devices.py::test_b"]
    comparison = {"quantity": "x", "dtype": "float64", "error": 1e-12, "tolerance": 1e-10, "reason": "room"}
    lines: list[Line] = [
        {"collected": tests, "left_out": []},
        {"case": tests[0], "outcome": "passed", "seconds": 1, "message": "", "comparisons": [comparison]},
    ]
    found = short_ladder.told(lines, whole=False)
    assert (found["passed"], found["planned"], found["run"]) == (False, 2, 1)
    assert found["cases"][0]["rung"] == 1
    lines.append({"case": tests[1], "outcome": "passed", "seconds": 1, "message": "", "comparisons": []})
    assert short_ladder.told(lines, whole=True)["passed"]
    lines[-1]["outcome"] = "failed"
    assert not short_ladder.told(lines, whole=True)["passed"]
