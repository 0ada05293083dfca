"""A pytest plugin for `mutation`: the lines of jax_sngan that each test reached, and what failed first, as JSON."""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType
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
        self.lines: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))  # test -> file -> lines
        self.seconds: dict[str, float] = defaultdict(float)  # of processor time
        self.skipped: set[str] = set()
        self.failure: dict[str, Any] | None = None
        self._test = ""  # while files are imported
        self._names: dict[CodeType, str | None] = {}
        if reach:
            sys.settrace(self._enter)  # before the first import of jax_sngan

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code not in self._names:
            inside = code.co_filename.startswith(f"{PACKAGE}/")
            self._names[code] = Path(code.co_filename).relative_to(PACKAGE).as_posix() if inside else None
        name = self._names[code]
        if name is None:
            return None
        lines = self.lines[self._test][name]

        def note(frame: FrameType, event: str, arg: Any) -> Any:
            lines.add(frame.f_lineno)
            return note

        return note(frame, event, arg)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._test, start = item.nodeid, time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] += time.process_time() - start
            self._test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Any:
        report = yield
        if report.skipped:
            self.skipped.add(item.nodeid)
        if report.failed and self.failure is None and call.excinfo is not None:
            kinds = (AssertionError, pytest.fail.Exception)  # the second: what should have been raised was not
            self.failure = {
                "test": item.nodeid,
                "asserted": report.when == "call" and issubclass(call.excinfo.type, kinds),
                "error": " ".join(call.excinfo.exconly().split()),
            }
        return report

    def pytest_sessionfinish(self) -> None:
        sys.settrace(None)
        import jax_sngan

        if Path(jax_sngan.__file__).parent != PACKAGE:
            raise pytest.UsageError(f"the tests ran against {jax_sngan.__file__}, not {PACKAGE}")
        tests = {
            name: {"seconds": round(self.seconds[name], 2)}
            | {"lines": {file: sorted(lines) for file, lines in self.lines[name].items()}}
            for name in {*self.seconds, *self.lines} - self.skipped
        }
        self.file.write_text(json.dumps({"failure": self.failure, "tests": tests}))
