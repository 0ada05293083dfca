"""A pytest plugin that tells each test's comparisons, one JSON object a line, while the ladder runs.

    python -m pytest -p parity_tests.report_plugin --report-lines FILE parity_tests/test_1_ops.py

The lines, in this order:
  {"collected": [id, …], "left_out": [id, …]}             once; left out are those that pytest's options deselect
  {"case": id, "outcome", "seconds", "message",           outcome: passed, failed or skipped; a file that cannot be
   "comparisons": [{"quantity", "dtype", "error", "tolerance", "reason"}, …]}          imported is told as a failed test
  {"environment": {"machine", "backend", "versions", …}}  once, at the end
Without --report-lines it does nothing.
"""

import json
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any, TextIO

import pytest

from jax_sngan.system.machine import cores, processor
from parity_tests import compare

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--report-lines."""
    parser.addoption("--report-lines", metavar="FILE", help="write each test's comparisons there, a JSON object a line")


def pytest_configure(config: pytest.Config) -> None:
    """Starts to listen where the option asks for it."""
    path = config.getoption("--report-lines")
    if path:
        config.pluginmanager.register(Listener(open(path, "w", buffering=1)))  # noqa: SIM115  # for the whole session


class Listener:
    """Keeps a test's comparisons while it runs and writes them when it has ended."""

    def __init__(self, lines: TextIO):
        self.lines = lines
        self.left_out: list[str] = []
        self.outcome, self.seconds, self.message = "passed", 0.0, ""

    def tell(self, **line: Any) -> None:
        """One line. JSON has no infinity: what is not finite has been made null."""
        self.lines.write(json.dumps(line, allow_nan=False) + "\n")

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """What -k, -m or --deselect take out."""
        self.left_out += [item.nodeid for item in items]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tells what is going to be run."""
        self.tell(collected=[item.nodeid for item in session.items], left_out=self.left_out)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported has failed, with all that it holds."""
        if report.failed:
            message = last_line(str(report.longrepr))
            self.tell(case=report.nodeid, outcome="failed", seconds=0, message=message, comparisons=[])

    def pytest_runtest_logstart(self) -> None:
        """Starts anew."""
        self.outcome, self.seconds, self.message = "passed", 0.0, ""
        compare.comparisons = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, the test itself, and its end."""
        self.seconds += report.duration
        if not report.passed:
            self.outcome = "failed" if report.failed else self.outcome if self.outcome == "failed" else "skipped"
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash else report.longrepr
            # A skip tells (file, line, reason).
            self.message = self.message or last_line(str(text[2] if isinstance(text, tuple) else text))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tells the test."""
        found = [
            {"quantity": row.what} | {n: row.as_json()[n] for n in ("dtype", "error", "tolerance", "reason")}
            for row in compare.comparisons or []
        ]
        compare.comparisons = None
        seconds = round(self.seconds, 3)
        self.tell(case=nodeid, outcome=self.outcome, seconds=seconds, message=self.message, comparisons=found)

    def pytest_sessionfinish(self) -> None:
        """Tells what it ran on."""
        self.tell(environment=environment())
        self.lines.close()


def last_line(text: str) -> str:
    """What a report says at its end or, where pytest repeats an assertion below its message, at its beginning."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    return (lines[0] if lines[-1].startswith("assert ") else lines[-1]).removeprefix("E   ").strip()


def environment() -> dict[str, Any]:
    """Where this process computes: processor, the device that JAX takes by default, versions."""
    import jax  # not before the root conftest has set its environment
    import torch

    return {
        "machine": processor(),
        "cores": cores(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "torch_device": str(torch.get_default_device()),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        yield name, metadata.version(name)
