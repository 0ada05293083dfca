"""Nothing was lost on the way: the presets compute what they computed at commit 5138015, before the core was opened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recorded_runs

ROOT = Path(__file__).resolve().parent.parent
RECORDED = recorded_runs.recorded()
# What the default was then, and points; the others, minutes in all, behind the mark.
ALWAYS = ("sngan", "points")
TOLERANCE = 1e-9  # relative; sums in another order leave 1e-12 after 50 steps of these small networks

ROUNDING = 1e-6  # above the sum of a bias that batch normalisation cancels: its gradient is rounding alone
# The running means behind such a bias hold it; with it they part where XLA fuses a step otherwise (dcgan: 2.6e-9).


def close(found: dict, expected: dict, what: str) -> None:
    """The numbers that were recorded; a step tells more of itself since."""
    assert set(found) >= set(expected), what
    assert what.startswith("logs ") or set(found) == set(expected), what
    for name, value in expected.items():
        if isinstance(value, dict):
            close(found[name], value, f"{what} {name}")
        elif name.endswith("bias") and value < ROUNDING:
            assert found[name] < ROUNDING, f"{what} {name}"
        elif what == "statistics" and name.endswith("mean"):
            np.testing.assert_allclose(found[name], value, rtol=0, atol=ROUNDING, err_msg=f"{what} {name}")
        else:
            np.testing.assert_allclose(found[name], value, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{what} {name}")


@pytest.mark.parametrize("preset", [name for name in RECORDED if name not in recorded_runs.SEARCHED])
def test_a_preset_has_the_options_that_it_had(preset: str) -> None:
    assert recorded_runs.options(preset) == RECORDED[preset]["options"]


@pytest.mark.parametrize(
    "preset", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in RECORDED]
)
def test_fifty_steps_are_what_they_were(preset: str, tmp_path: Path) -> None:
    """In a process of its own: the code generator that the tests ask XLA for has a coarser tanh, off by 1e-10."""
    out = tmp_path / "run.json"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, recorded_runs.__file__, str(out), preset]
    subprocess.run(command, env=environment | {"PYTHONPATH": str(ROOT)}, check=True)
    found, expected = json.loads(out.read_text())[preset], RECORDED[preset]
    for part in set(expected) - {"options"}:
        close(found[part], expected[part], part)
