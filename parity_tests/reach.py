"""Which tests can catch a mistake: copies of the repository, pytest in them, and the lines that each test reaches."""

import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from parity_tests.generated import FOLDERS

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "jax_sngan", "torch_ref", "parity_kit", "parity_tests", "tests", "scripts", "docs", "conftest.py", "pyproject.toml",
)  # fmt: skip
OPTIONS = ["-q", "-p", "no:cacheprovider"]  # of pytest
FIRST = 15  # tests that are tried before the others, in a run of their own: most mistakes end there


class BrokenRun(Exception):
    """pytest did not run to an assertion."""


class BrokenLadder(Exception):
    """A test fails without a mistake."""


def environment(copy: Path, cache: Path) -> dict[str, str]:
    """Of a pytest process in a copy; programs that a mistake does not change are compiled once for all of them."""
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    asked = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    return compiled | asked | os.environ | {"PYTHONPATH": str(copy), "PYTEST_ADDOPTS": ""}


def run_tests(copy: Path, cache: Path, tests: list[str], *, reach: bool = False) -> dict[str, Any]:
    """What the witness saw of a run in a copy: {"failure": None or {...}, "tests": {...}}; to the first failure.

    Raises:
      BrokenRun: pytest ended otherwise than with passes or a failed test, as when a file does not import.
    """
    seen = copy.parent / "witness.json"
    seen.unlink(missing_ok=True)
    options = [*OPTIONS, "-p", "parity_tests.witness", f"--witness={seen}", "--reach" if reach else "-x"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env=environment(copy, cache),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if run.returncode not in (0, 1) or not seen.is_file():
        last = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()][-1:]
        raise BrokenRun(f"pytest exited with {run.returncode}: {''.join(last)}")
    witnessed = json.loads(seen.read_text())
    if (run.returncode == 1) != (witnessed["failure"] is not None):
        raise BrokenRun(f"pytest exited with {run.returncode} and the failure was {witnessed['failure']}")
    return asserted(witnessed)


def asserted(witnessed: dict[str, Any]) -> dict[str, Any]:
    """Raises BrokenRun where a test failed before its assertion."""
    if (failure := witnessed["failure"]) and not failure["asserted"]:
        raise BrokenRun(f"{failure['test']} did not reach its assertion: {failure['error']}")
    return witnessed


class Server:
    """A process that has collected the tests of some files, and forks for each mistake (`forks`)."""

    def __init__(self, copy: Path, cache: Path, files: list[str]):
        self._copy, self._cache, self._files, self._lock = copy, cache, files, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Any = None
        self._answers: Any = None

    def _start(self) -> None:
        pipes = os.pipe(), os.pipe()
        (theirs_in, ours_out), (ours_in, theirs_out) = pipes
        options = [f"--requests=/dev/fd/{theirs_in}", f"--answers=/dev/fd/{theirs_out}"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *OPTIONS, "-p", "parity_tests.forks", *options, *self._files],
            cwd=self._copy,
            env=environment(self._copy, self._cache),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs_in, theirs_out],
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._requests, self._answers = os.fdopen(ours_out, "w"), os.fdopen(ours_in)

    def close(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._requests.close()
            self._answers.close()
            self._process.wait()
            self._log.close()

    def has(self, tests: list[str]) -> bool:
        """Whether all of these were collected."""
        return all(test.partition("::")[0] in self._files for test in tests)

    def run(self, file: str, wrong: str, tests: list[str], seconds: float) -> dict[str, Any] | None:
        """What the witness saw of some tests with a file's source changed; None where it can't be made in functions.

        Args:
          seconds: of processor time, after which the run is ended.
        Raises:
          BrokenRun: a test failed before its assertion, or the run was ended.
        """
        with self._lock:
            if self._process is None:
                self._start()
            request = {"file": file, "wrong": wrong, "tests": tests, "seconds": seconds}
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            text = self._answers.readline()
        if not text:
            self._log.seek(0)
            raise BrokenLadder(f"the process that forks ended: {self._log.read().decode(errors='replace')[-500:]}")
        answer = json.loads(text)
        if answer["signal"]:
            raise BrokenRun(f"ended by {signal.Signals(answer['signal']).name}")
        return asserted(answer) if answer["made"] else None


class Seen(NamedTuple):
    """What one test did without a mistake."""

    seconds: float  # of processor time, while it was watched
    lines: dict[str, set[int]]  # file of jax_sngan -> its lines


class Reach:
    """What each test reaches. A file of tests is run for it when it is first asked for; what was found is kept."""

    def __init__(self, source: Path, keep: Path, cache: Path):
        self._source, self._keep, self._cache = source, keep, cache
        self._found: dict[str, dict[str, Seen]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        for path in sorted(p for name in FOLDERS for p in (source / "jax_sngan" / name).glob("*.py")):
            self._digest.update(path.read_bytes())  # their lines are what is kept

    def of(self, file: str) -> dict[str, Seen]:
        """The tests of a file, as "parity_tests/test_4_losses.py"; under "" what it reaches as it is imported.

        Raises:
          BrokenLadder: one fails without a mistake.
        """
        with self._lock:
            lock = self._locks.setdefault(file, threading.Lock())
        with lock:
            if file not in self._found:
                self._found[file] = {
                    name: Seen(test["seconds"], {path: set(lines) for path, lines in test["lines"].items()})
                    for name, test in self._tests(file).items()
                }
            return self._found[file]

    def _tests(self, file: str) -> dict[str, Any]:
        digest = self._digest.copy()
        digest.update((self._source / file).read_bytes())
        kept = self._keep / f"{file.replace('/', '.')}.{digest.hexdigest()[:16]}.json"
        if not kept.is_file():
            try:
                witnessed = run_tests(self._source, self._cache, [file], reach=True)
            except BrokenRun as error:
                raise BrokenLadder(f"{file}: {error}") from error
            if failure := witnessed["failure"]:
                raise BrokenLadder(f"{failure['test']} fails without a mistake: {failure['error']}")
            self._keep.mkdir(parents=True, exist_ok=True)
            kept.with_suffix(".part").write_text(json.dumps(witnessed["tests"]))
            kept.with_suffix(".part").rename(kept)
        return json.loads(kept.read_text())

    def lines(self, test_file: str, file: str) -> set[int]:
        """The lines of one file of jax_sngan that any test of a file reaches."""
        return set().union(*(seen.lines.get(file, set()) for seen in self.of(test_file).values()))

    def order(self, files: list[str], file: str, lines: set[int], kills: Counter[str]) -> list[str]:
        """The tests that reach some lines of a file of jax_sngan.

        First those that have caught something in it, then the cheapest case of each function, then the others.
        """
        tests = {name: seen for f in files for name, seen in self.of(f).items() if name}
        found = {name: seen for name, seen in tests.items() if lines & seen.lines.get(file, set())}
        if not found:  # they run as the file is imported
            found = {name: seen for name, seen in tests.items() if file in seen.lines}
        cases: Counter[str] = Counter()
        rank = {}
        for name in sorted(found, key=lambda n: (found[n].seconds, n)):
            function = name.partition("[")[0]
            rank[name] = (-kills[name], cases[function] > 0, found[name].seconds)
            cases[function] += 1
        return sorted(rank, key=rank.__getitem__)


def copy_repository(source: Path, target: Path) -> Path:
    """What the tests need of a repository, in a new folder below target; the source is only read."""
    copy = target / "repository"
    copy.mkdir(parents=True)
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("datasets", "__pycache__"))
        else:
            shutil.copy(source / name, copy)
    (copy / "jax_sngan" / "datasets").symlink_to((source / "jax_sngan" / "datasets").resolve())
    if (shared := ROOT.parent / "shared").is_dir():  # conftest.shared_dir looks beside the repository
        (target / "shared").symlink_to(shared)
    return copy


def statement(source: str, line: int) -> range:
    """The lines of the smallest statement around a line; of one with a body, those before its body; of a function's own
    line, the function."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):  # from the outside inwards
        if isinstance(node, ast.stmt) and node.end_lineno is not None and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body and not isinstance(node, ast.FunctionDef) else node.end_lineno
            if isinstance(node, ast.FunctionDef) and body and line >= body[0].lineno:
                continue
            found = range(node.lineno, max(end, node.lineno) + 1)
    return found if line in found else range(line, line + 1)
