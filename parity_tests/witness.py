"""A pytest plugin for `mutation`: which lines of jax_sngan a run reached, and what failed first, as one JSON file."""

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

PACKAGE = Path.cwd() / "jax_sngan"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--witness", metavar="FILE", required=True, help="the JSON file to write")
    parser.addoption("--reach", action="store_true", help="note the lines too, which takes longer")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Witness(Path(config.getoption("--witness")), config.getoption("--reach")))


class Witness:
    """What one pytest process saw."""

    def __init__(self, file: Path, reach: bool):
        self.file, self.reach = file, reach
        self.lines: dict[str, set[int]] = {}
        self.failure: dict[str, Any] | None = None
        if reach:
            sys.settrace(self._enter)  # before the first import of jax_sngan

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(str(PACKAGE)):
            return None
        lines = self.lines.setdefault(Path(name).relative_to(PACKAGE).as_posix(), set())

        def note(frame: FrameType, event: str, arg: Any) -> Any:
            lines.add(frame.f_lineno)
            return note

        return note(frame, event, arg)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Any:
        report = yield
        if report.failed and self.failure is None and call.excinfo is not None:
            kinds = (AssertionError, pytest.fail.Exception)  # the second: what should have been raised was not
            self.failure = {
                "test": item.nodeid,
                "asserted": report.when == "call" and issubclass(call.excinfo.type, kinds),
                "error": " ".join(call.excinfo.exconly().split()),
            }
        return report

    def pytest_sessionfinish(self) -> None:
        import jax_sngan

        if Path(jax_sngan.__file__).parent != PACKAGE:
            raise pytest.UsageError(f"the tests ran against {jax_sngan.__file__}, not {PACKAGE}")
        lines = {name: sorted(lines) for name, lines in self.lines.items()}
        self.file.write_text(json.dumps({"failure": self.failure, "lines": lines}))
