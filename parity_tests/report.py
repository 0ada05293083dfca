"""Runs the ladder, one pytest process a rung, and gathers what its comparisons measured: parity_kit's report."""

import ast
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jax_sngan.system.machine import cores
from parity_kit.climb import Climb
from parity_kit.rows import Row, Tolerance

ROOT = Path(__file__).resolve().parent.parent

# What --quick leaves out: beginnings of test ids, chosen by the time they took (the ladder's slowest, each beside a
# case that exercises the same code on a smaller map or in the other type).
LEFT_OUT_OF_QUICK = [
    *(
        f"parity_tests/test_3_networks.py::test_passes_agree[{network}"
        for network in (
            "standard_cnn-32",
            "standard_cnn-48",
            "standard_cnn-64",
            "resnet-32x3",
            "resnet-48",
            "resnet-64",
            "resnet-128",
            "resnet-28",
            "resnet-32x1-classes-float32",
            "resnet-32x1-classes-float64--generator",
            "standard_cnn-128",
            "standard_cnn-28x1-classes-operator",
        )
    ),
    "parity_tests/test_4_penalties.py::test_of_a_discriminator",
    "parity_tests/test_2_layers.py::test_layer[ConvTranspose",
    "parity_tests/test_2_layers.py::test_block[GeneratorBlock",
    "parity_tests/test_5_update.py::test_the_first_step_of_a_run",
    *(
        f"parity_tests/test_5_update.py::test_one_step_in_float64[{case}"
        for case in (
            "hinge",
            "minimax",
            "non_saturating",
            "wasserstein",
            "least_squares",
            "generator first",
            "resnet]",
            "weight clipping",
            "dropout",
            "two D updates",
            "resnet, their",
            "no constraint",
            "spectral norm in both",
            "one-sided",
            "r1",
            "dragan",
            "batch norm in D",
            "a batch in parts",
            "u first",
            "the exact operator norm",
            "cosine",
            "resnet of 28",
            "parametrizations",
        )
    ),
    "parity_tests/test_5_update.py::test_one_step_in_float32[",
    "parity_tests/test_5_update.py::test_one_step_computed_in_bfloat16",
    *(
        f"parity_tests/test_6_trajectory.py::test_{case}"
        for case in (
            "two_hundred_steps_in_float64[standard_cnn",  # the growth curves show this one
            "two_hundred_steps_in_float64[resnet",
            "two_hundred_steps_in_float64[mlp-non_saturating",
            "two_hundred_steps_in_float64[mlp-least_squares",
            "two_hundred_steps_in_float64[mlp-wasserstein",
            "two_hundred_steps_in_float64[mlp-minimax",
            "two_hundred_steps_in_float64[mlp-relativistic_hinge-dragan",
            "two_hundred_steps_put_together_otherwise[mlp, points",
            "two_hundred_steps_put_together_otherwise[mlp, noise",
            "the_preset_sngan_in_float32",
            "a_learning_rate",
        )
    ),
]

Line = dict[str, Any]  # as report_plugin writes it
Plot = dict[str, Any]  # as growth.growth_curves makes it
OPTIONS = ["-q", "-p", "no:cacheprovider"]  # of pytest


def rung_files() -> dict[int, list[Path]]:
    """The ladder: rung -> its files."""
    files: dict[int, list[Path]] = {}
    for path in sorted((ROOT / "parity_tests").glob("test_[0-9]_*.py")):
        files.setdefault(int(path.name[5]), []).append(path)
    return files


def rung_titles() -> dict[int, str]:
    """What each rung is about, from the first line of its first file: "operations"."""
    titles = {}
    for rung, (path, *_) in rung_files().items():
        first = (ast.get_docstring(ast.parse(path.read_text())) or path.stem).splitlines()[0]
        found = re.match(r"Rung \d, ([^:]+):", first)
        titles[rung] = found[1] if found else path.stem
    return titles


def child_environment() -> dict[str, str]:
    """Of a process that measures: JAX's default device, full precision, and room on it for a second process."""
    return {
        **os.environ,
        # The root conftest asks for the CPU where nothing is said; empty is JAX's own choice.
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", ""),
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",  # no TF32 and no bfloat16 passes
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTEST_ADDOPTS": "",
    }


class Ladder:
    """The processes of one run: one a rung, and one for the growth curves."""

    def __init__(self, *, quick: bool, tell: Callable[[int, Line], None], torch_device: str = "cpu"):
        """tell(rung, line) is called for every line that a rung's process writes, from several threads; torch_device:
        as torch_device.use takes it."""
        self.quick, self.tell, self.torch_device = quick, tell, f"--torch-device={torch_device}"
        self.processes: list[subprocess.Popen[Any]] = []
        self.lock = threading.Lock()

    def run(self, files: dict[int, list[Path]], *, growth: bool) -> tuple[dict[int, list[Line]], list[Plot], str]:
        """As many at a time as there are cores, at most two.

        Returns:
          (all lines of each rung, the growth curves, why there are none or "").
        """
        with ThreadPoolExecutor(min(2, cores())) as pool:
            plots = pool.submit(self.grow) if growth else None
            # The later rungs are the longer ones: they come first, or one of them would be left alone at the end.
            futures = {rung: pool.submit(self.run_rung, rung, files[rung]) for rung in sorted(files, reverse=True)}
            try:
                lines = {rung: futures[rung].result() for rung in sorted(files)}
                return lines, *(plots.result() if plots else ([], ""))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in self.processes:
                    process.terminate()
                raise

    def grow(self) -> tuple[list[Plot], str]:
        """What growth.py prints; (no curves, its last line) where it fails."""
        process = subprocess.Popen(
            [sys.executable, "-m", "parity_tests.growth", *(["--quick"] if self.quick else []), self.torch_device],
            cwd=ROOT,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        out, err = process.communicate()
        if process.returncode:
            return [], f"growth.py ended with {process.returncode}: {(err.strip().splitlines() or [''])[-1]}"
        return json.loads(out), ""

    def run_rung(self, rung: int, paths: list[Path]) -> list[Line]:
        """Every line of one rung's process; where it dies, a failed case that says how."""
        files = [str(path.relative_to(ROOT)) for path in paths]
        left_out = [
            f"--deselect={prefix}" for prefix in LEFT_OUT_OF_QUICK if self.quick and prefix.startswith(tuple(files))
        ]

        def tell(line: Line) -> None:
            with self.lock:
                self.tell(rung, line)

        return run_pytest([self.torch_device, *left_out, *files], tell, self.processes)


def run_pytest(
    arguments: list[str], tell: Callable[[Line], None], processes: list[subprocess.Popen[Any]], *, show: bool = False
) -> list[Line]:
    """Every line that report_plugin writes of some tests; where their process dies, failed cases that say how.

    Args:
      arguments: of pytest; the last is a test or a file.
      tell: called for every line as it comes.
      processes: has the process added.
      show: prints what pytest printed, at the end.
    """
    lines: list[Line] = []
    reading, writing = os.pipe()
    options = [*OPTIONS, "-p", "parity_tests.report_plugin", f"--report-lines=/dev/fd/{writing}"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *arguments],
            cwd=ROOT,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
        )
        processes.append(process)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            for text in pipe:
                lines.append(json.loads(text))
                tell(lines[-1])
        code = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace").strip()
    if show:
        print(text)
    printed = text.splitlines()
    return lines + ended_early(arguments[-1], lines, code, printed[-1] if printed else "")


def ended_early(file: str, lines: list[Line], code: int, printed: str) -> list[Line]:
    """Failed cases for what a process collected and never told, or for a process that told nothing."""
    told = {line["case"] for line in lines if "case" in line}
    collected = [name for line in lines for name in line.get("collected", [])]
    failed = any(line.get("outcome") == "failed" for line in lines)
    missing = [name for name in collected if name not in told]
    if not missing and code not in (0, 5) and not failed:  # 5: nothing was left to run
        missing = [file]
    message = f"the process ended with {code}: {printed}"
    return [{"case": m, "outcome": "failed", "seconds": 0, "message": message, "comparisons": []} for m in missing]


def as_row(rung: int, line: Line) -> Row:
    """A test as the report has it: of its comparisons the one with the largest share of its tolerance."""
    name = line["case"].partition("::")[2] or line["case"]
    compared = [
        Row(
            str(rung), name, math.inf if c["error"] is None else c["error"], Tolerance(c["tolerance"], c["reason"]),
            c["dtype"], c["quantity"],
        )
        for c in line["comparisons"]
    ]  # fmt: skip
    worst = max(compared, key=lambda row: row.share, default=Row(str(rung), name, math.inf, math.nan, dtype_in(name)))
    message = "" if line["outcome"] == "passed" else line["message"] or line["outcome"]
    more = {"rung": rung, "comparisons": len(compared), "seconds": line["seconds"], "test": line["case"]}
    return replace(worst, message=message, more=more)


def measured(row: Row) -> bool:
    """Whether a test has measured something, or failed; the others check what has no number."""
    return bool(row.more["comparisons"] or row.message)


def dtype_in(name: str) -> str:
    """The type that a test's name gives, if it gives one."""
    return next((dtype for dtype in ("float64", "float32") if dtype in name), "")


def gather(lines: dict[int, list[Line]], growth: list[Plot], growth_error: str, **more: Any) -> Climb:
    """The report: every test that measured an error, and every test that failed.

    Args:
      lines: by rung; these, growth and growth_error as Ladder.run returns them.
      more: further entries of its JSON, as they are.
    Returns:
      beside its rows, in `about`: checks, tests that passed without a number (what must raise, what must not move);
      left_out and skipped: ids; machine, versions.
    """
    told = [(rung, line) for rung, own in lines.items() for line in own]
    environment = next((line["environment"] for _, line in told if line.get("environment")), {})
    every = [as_row(rung, line) for rung, line in told if "case" in line and line["outcome"] != "skipped"]
    checks = [row.as_json() for row in every if not measured(row)]
    about = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        **more,
        "titles": {str(rung): title for rung, title in rung_titles().items()},
        "machine": {name: value for name, value in environment.items() if name != "versions"},
        "versions": environment.get("versions", {}),
        "checks": [{n: c[n] for n in ("rung", "case", "seconds", "test")} | {"passed": True} for c in checks],
        "left_out": [name for _, line in told for name in line.get("left_out", [])],
        "skipped": [
            {"case": line["case"], "reason": line["message"]} for _, line in told if line.get("outcome") == "skipped"
        ],
    }
    return Climb([row for row in every if measured(row)], curves=growth, error=growth_error, about=about)
