"""A pytest plugin for `mutation`: collects all tests once, then forks for each mistake, makes it and runs tests.

Python, jax, torch and 1,300 collected tests take 20 seconds of a processor; most mistakes are caught in one. So a
mistake is made in the functions that are there: each whose code is another in the changed file is given that code. What
is not a function's (a constant, a class, a default) is not made here, and answered with {"made": false}.

Reads one request a line, {"file", "wrong": its whole source, "tests", "seconds": of a processor}; answers each with
{"made", "failure" as the witness has it, "signal": that ended the child, or 0}. No JAX backend may be there before the
fork: a file whose import computes something is none for this plugin.
"""

import gc
import inspect
import json
import os
import resource
import warnings
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from parity_tests.witness import PACKAGE, Witness


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requests", metavar="FILE", required=True)
    parser.addoption("--answers", metavar="FILE", required=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Forks(config))


class Forks:
    """The process that is forked."""

    def __init__(self, config: pytest.Config):
        self.requests, self.answers = config.getoption("--requests"), config.getoption("--answers")
        self.witness = Witness(Path(os.devnull), reach=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Any:
        return (yield from self.witness.pytest_runtest_makereport(item, call))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if computes():
            raise pytest.UsageError("a file of tests computes something as it is imported: no process may fork then")
        items = {item.nodeid: item for item in session.items}
        with open(self.requests) as requests, open(self.answers, "w") as answers:
            for line in requests:
                answers.write(json.dumps(self._tried(json.loads(line), items)) + "\n")
                answers.flush()
        return True

    def _tried(self, request: dict[str, Any], items: dict[str, pytest.Item]) -> dict[str, Any]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            told = {"made": True, "failure": {"test": "", "asserted": False, "error": "the child ended"}}
            try:
                os.close(reading)
                # Of processor time, which another program's load does not shorten.
                resource.setrlimit(resource.RLIMIT_CPU, (int(request["seconds"]), int(request["seconds"]) + 5))
                told = self._run(request, items)
            finally:
                os.write(writing, json.dumps(told).encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        ended = {"made": True, "failure": None}
        return (json.loads(text) if text else ended) | {"signal": -min(os.waitstatus_to_exitcode(status), 0)}

    def _run(self, request: dict[str, Any], items: dict[str, pytest.Item]) -> dict[str, Any]:
        if not make(PACKAGE / request["file"], request["wrong"]):
            return {"made": False, "failure": None}
        tests = [items[name] for name in request["tests"]]
        for item, following in zip(tests, [*tests[1:], None], strict=True):
            runtestprotocol(item, log=False, nextitem=following)
            if self.witness.failure:
                break
        return {"made": True, "failure": self.witness.failure}


def computes() -> bool:
    """Whether this process has a JAX backend, whose threads no child would have: jax warns of a fork then."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return any("JAX" in str(warning.message) for warning in told)


def make(path: Path, wrong: str) -> bool:
    """Gives functions the code of a changed file; False where more than functions differ, or they are not there."""
    pairs = differing(*(compile(source, str(path), "exec") for source in (path.read_text(), wrong)))
    if not pairs:
        return False
    functions = [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__.co_filename == str(path)]
    for old, new, outermost in pairs:
        found = [f for f in functions if f.__code__ == old]
        if outermost and not found:
            return False
        for f in found:
            try:
                f.__code__ = new
            except ValueError:  # it closes over other names than before
                return False
    return True


def differing(right: CodeType, wrong: CodeType) -> list[tuple[CodeType, CodeType, bool]] | None:
    """(old code, new code, whether of an outermost function) of what differs; None where a module or class does."""
    inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (right, wrong)]
    plain = [_constants(code) for code in (right, wrong)]
    if (right.co_code, right.co_names, plain[0]) != (wrong.co_code, wrong.co_names, plain[1]):
        return None
    found: list[tuple[CodeType, CodeType, bool]] = []
    for old, new in zip(*inner, strict=True):
        if old == new:
            continue
        if not old.co_flags & inspect.CO_OPTIMIZED:  # the body of a class
            nested = differing(old, new)
            if nested is None:
                return None
            found += nested
        else:
            found += [(old, new, True), *_closures(old, new)]
    return found


def _constants(code: CodeType) -> list[str]:
    """Those that are no code, but for the line of a class, which its body has from Python 3.13 on."""
    line = code.co_firstlineno if "__firstlineno__" in code.co_names else None
    return [repr(c) for c in code.co_consts if not isinstance(c, CodeType) and (line is None or c != line)]


def _closures(right: CodeType, wrong: CodeType) -> list[tuple[CodeType, CodeType, bool]]:
    """Of the functions that a function makes: those that it has made already have code of their own."""
    inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (right, wrong)]
    if len(inner[0]) != len(inner[1]):
        return []
    found = []
    for old, new in zip(*inner, strict=True):
        if old != new:
            found += [(old, new, False), *_closures(old, new)]
    return found
