"""Two minutes of the ladder, for a machine that is here for ten.

    python -m parity_tests.short_ladder [--quick] [--first N] [--torch-device DEVICE] RESULT

RESULT is JSON, written anew after every case, so that whoever stops it early has those that were run.
"""

import argparse
import re
import subprocess
import sys
from typing import Any

from jax_sngan.system.files import write_json
from parity_kit.rows import summary
from parity_tests.report import OPTIONS, ROOT, Line, as_row, child_environment, measured, run_pytest

# From the whole to its parts: a step is what training does, and the rest says where a step would part.
CASES = [
    "test_5_update.py::test_one_step_in_float64[two D updates]",
    "test_5_update.py::test_one_step_in_float32_as_it_ships",
    "test_5_update.py::test_one_step_in_float64[resnet]",
    "test_5_update.py::test_one_step_in_float64[gradient penalty]",
    "test_5_update.py::test_one_step_computed_in_bfloat16",
    "test_5_update.py::test_one_step_in_float64[dropout, noise and augmentation]",
    "test_5_update.py::test_one_step_in_float64[a batch in parts]",
    "test_5_update.py::test_one_step_in_float64[mlp]",
    "test_5_update.py::test_one_step_in_float64[the exact operator norm, in both]",
    "test_devices.py::test_a_checkpoint_goes_from_device_to_device[two D updates]",
    "test_4_losses.py::test_loss_and_gradients",
    "test_2_layers.py::test_layer",
    "test_2_layers.py::test_batch_norm",
    "test_1_ops.py::test_power_iteration_is_torchs_spectral_norm",
    "test_1_ops.py::test_spectral_functions_are_torch_refs",
    "test_1_noise.py::test_uniforms",
    "test_3_networks.py::test_passes_agree[standard_cnn-28",
]
QUICK = ["test_5_update.py::test_one_step_in_float64[mlp]", "test_1_noise.py::test_published_numbers_of_threefry"]


def selected(names: list[str], collected: list[str]) -> list[str]:
    """The ids that begin with a name, in the names' order.

    Raises:
      ValueError: nothing begins with one of them.
    """
    found = [[test for test in collected if test.startswith(f"parity_tests/{name}")] for name in names]
    if missing := [name for name, tests in zip(names, found, strict=True) if not tests]:
        raise ValueError(f"there is no test {', '.join(missing)}")
    return [test for tests in found for test in tests]


def collect(names: list[str], device: str) -> list[str]:
    """Every id of the files that the names are in."""
    files = sorted({f"parity_tests/{name.partition('::')[0]}" for name in names})
    command = [sys.executable, "-m", "pytest", "--collect-only", *OPTIONS, f"--torch-device={device}"]
    done = subprocess.run(
        [*command, *files], cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])
    return [line for line in done.stdout.splitlines() if "::" in line]


def rung_of(test: str) -> int:
    """The rung that a test's file is of; 0 where it is of none."""
    found = re.match(r"parity_tests/test_(\d)_", test)
    return int(found[1]) if found else 0


def told(lines: list[Line], whole: bool) -> dict[str, Any]:
    """The result so far; whole: all cases have been run."""
    run = [line for line in lines if "case" in line and line["outcome"] != "skipped"]
    every = [as_row(rung_of(line["case"]), line) for line in run]
    rows = [row for row in every if measured(row)]
    planned = sum(len(line.get("collected", [])) for line in lines)
    return {
        "passed": whole and bool(every) and all(row.passed for row in rows),
        "planned": planned,
        "run": len(every),
        "summary": summary(rows),
        "cases": [row.as_json() for row in rows],
        "environment": next((line["environment"] for line in lines if "environment" in line), {}),
    }


def main() -> int:
    """The exit code: 0 where every case is within its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two cases")
    parser.add_argument("--first", type=int, metavar="N", help="the first N names of the list alone")
    parser.add_argument("--torch-device", default="auto")
    parser.add_argument("result")
    arguments = parser.parse_args()
    names = QUICK if arguments.quick else CASES[: arguments.first]
    tests = selected(names, collect(names, arguments.torch_device))
    lines: list[Line] = []

    def tell(line: Line) -> None:
        lines.append(line)
        write_json(arguments.result, told(lines, whole=False))

    options = [f"--torch-device={arguments.torch_device}"]
    found = told(run_pytest([*options, *tests], tell, [], show=True), whole=True)
    write_json(arguments.result, found)
    print(found["summary"])
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
