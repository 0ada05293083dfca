"""Shows that the ladder can fail: makes each mistake of `mistakes` in a throwaway copy and runs the rungs upwards.

    python -m parity_tests.mutation                       every mistake; prints the rung and the test that caught it
    python -m parity_tests.mutation --only "hinge sign"   some of them, by name
    python -m parity_tests.mutation --quick               only the test that each mistake names
    python -m parity_tests.mutation --markdown            the table of docs/parity.md
    python -m parity_tests.mutation --generated 20        mistakes made by a program (`generated`), and the share caught

Exit code 1 if a mistake is not caught. A mistake is caught by a test that reaches its assertion and fails there:
code that does not import or does not run has not been caught.

Before a rung is first tried, it is run on a copy without a mistake, and the lines of jax_sngan that it reaches are
noted. A rung that does not reach a mistake's line cannot fail by it and is not run again. Of a rung's files the one
with the test that the mistake names comes first, and in it that test; a rung below the named one runs all. So the rung
that is printed is the lowest that fails.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from parity_tests import generated
from parity_tests.mistakes import MISTAKES, Mistake

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("jax_sngan", "torch_ref", "parity_kit", "parity_tests", "scripts", "conftest.py", "pyproject.toml")
SHOWN = 200  # characters of a failure's message


class Result(NamedTuple):
    """What became of one mistake."""

    mistake: Mistake
    rung: int | None  # the lowest that failed; None: not caught
    test: str  # that failed first, in its file
    why: str  # its message, or why the mistake counts as not caught
    seconds: float

    def line(self) -> str:
        """What is printed."""
        if self.rung is None:
            return f"{self.mistake.name}: NOT CAUGHT ({self.why})"
        return f"{self.mistake.name}: caught by rung {self.rung}: {self.test}: {self.why} ({self.seconds:.0f} s)"


class BrokenRung(Exception):
    """The rung did not run to an assertion."""


class BrokenLadder(Exception):
    """A rung fails without a mistake."""


class Reached:
    """The lines of jax_sngan that each rung reaches; a rung is run for them when they are first asked for."""

    def __init__(self, source: Path, scratch: Path, cache: Path, highest: int):
        self.rungs = [rung for rung in rungs(source) if rung_of(rung) <= highest]  # upwards
        self._source, self._scratch, self._cache = source, scratch, cache
        self._locks = {rung: threading.Lock() for rung in self.rungs}
        self._lines: dict[str, dict[str, set[int]]] = {}  # rung -> file of jax_sngan -> its lines

    def by(self, rung: str, file: str) -> set[int]:
        """The lines of one file of jax_sngan.

        Raises:
          BrokenLadder: the rung fails without a mistake.
        """
        with self._locks[rung]:
            if rung not in self._lines:
                try:
                    self._lines[rung] = reached_lines(self._source, self._scratch / rung, self._cache, rung)
                except BrokenRung as error:
                    raise BrokenLadder(str(error)) from error
            return self._lines[rung].get(file, set())


def rung_of(file: str) -> int:
    """The N of test_N_….py."""
    return int(file.split("_")[1])


def rungs(root: Path) -> list[str]:
    """The ladder's files, upwards."""
    return sorted((f.name for f in root.glob("parity_tests/test_[0-9]*_*.py")), key=rung_of)


def copy_repository(source: Path, target: Path) -> Path:
    """What the ladder needs of a repository, in a new folder below target; the source is only read."""
    copy = target / "repository"
    copy.mkdir(parents=True)
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, copy)
    if (shared := ROOT.parent / "shared").is_dir():  # conftest.shared_dir looks beside the repository
        (target / "shared").symlink_to(shared)
    return copy


def mistaken(source: str, mistake: Mistake) -> tuple[str, int]:
    """(a file's source with the mistake in it, the number of the line).

    Raises:
      ValueError: the line to replace is not there, or not once.
    """
    if "\n" in mistake.old + mistake.new or source.count(mistake.old) != 1:
        raise ValueError(f"{mistake.name}: {mistake.old!r} must be one line's and once in {mistake.file}")
    return source.replace(mistake.old, mistake.new), source[: source.index(mistake.old)].count("\n") + 1


def statement(source: str, line: int) -> range:
    """The lines of the smallest statement around a line; of one with a body, those before its body."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):  # from the outside inwards
        if isinstance(node, ast.stmt) and node.end_lineno is not None and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno
            found = range(node.lineno, max(end, node.lineno) + 1)
    return found if line in found else range(line, line + 1)


def run_tests(copy: Path, cache: Path, tests: list[str], *, reach: bool = False) -> dict[str, Any]:
    """What the witness saw of a pytest run in a copy: {"failure": None or {...}, "lines": {file: [...]}}.

    Raises:
      BrokenRung: pytest ended otherwise than with passes or a failed test, as when a file does not import.
    """
    seen = copy.parent / "witness.json"
    seen.unlink(missing_ok=True)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "parity_tests.witness", f"--witness={seen}"]
    # Programs that a mistake does not change are compiled once for all copies.
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    environment = compiled | os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(["--reach"] if reach else []), *tests],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if run.returncode not in (0, 1) or not seen.is_file():
        last = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()][-1:]
        raise BrokenRung(f"pytest exited with {run.returncode}: {''.join(last)}")
    witnessed = json.loads(seen.read_text())
    if (run.returncode == 1) != (witnessed["failure"] is not None):
        raise BrokenRung(f"pytest exited with {run.returncode} and the failure was {witnessed['failure']}")
    if witnessed["failure"] and not witnessed["failure"]["asserted"]:
        raise BrokenRung(f"{witnessed['failure']['test']} did not reach its assertion: {witnessed['failure']['error']}")
    return witnessed


def reached_lines(source: Path, target: Path, cache: Path, rung: str) -> dict[str, set[int]]:
    """The lines of jax_sngan that a rung runs, file by file, in a copy without a mistake.

    Raises:
      BrokenRung: the rung fails without one.
    """
    witnessed = run_tests(copy_repository(source, target), cache, [f"parity_tests/{rung}"], reach=True)
    if witnessed["failure"]:
        raise BrokenRung(f"{witnessed['failure']['test']} fails without a mistake: {witnessed['failure']['error']}")
    return {file: set(lines) for file, lines in witnessed["lines"].items()}


def judge(mistake: Mistake, source: Path, target: Path, cache: Path, reached: Reached | None) -> Result:
    """Makes the mistake in a copy and runs the rungs that reach it, upwards; only the named test if reached is None."""
    start = time.monotonic()

    def result(rung: int | None, test: str, why: str) -> Result:
        return Result(mistake, rung, test, why[:SHOWN], time.monotonic() - start)

    copy = copy_repository(source, target)
    file = copy / "jax_sngan" / mistake.file
    right = file.read_text()
    wrong, line = mistaken(right, mistake)
    file.write_text(wrong)
    made = not mistake.test  # by a program: what stops the ladder has been caught too
    own, lines = mistake.test.split("::")[0], set(statement(right, line))
    climbed = []
    try:
        for rung in [own] if reached is None else sorted(reached.rungs, key=lambda r: (rung_of(r), r != own)):
            if reached is not None and not lines & reached.by(rung, mistake.file):
                continue
            climbed.append(rung)
            named = [[f"parity_tests/{mistake.test}"]] if rung == own else []
            for tests in [*named, *([[f"parity_tests/{rung}"]] if reached is not None else [])]:
                if failure := run_tests(copy, cache, tests)["failure"]:
                    return result(rung_of(rung), failure["test"].removeprefix("parity_tests/"), failure["error"])
    except BrokenRung as error:
        return result(rung_of(climbed[-1]) if made else None, "", str(error))
    finally:
        shutil.rmtree(target)
    return result(None, "", f"ran {', '.join(climbed)}" if climbed else "no rung reaches the line")


def chosen(names: list[str] | None) -> list[Mistake]:
    """The mistakes of these names, or all.

    Raises:
      ValueError: there is none of a name.
    """
    known = {m.name: m for m in MISTAKES}
    if unknown := sorted(set(names or ()) - set(known)):
        raise ValueError(f"--only: no mistake {unknown[0]!r}; there are: {', '.join(known)}")
    return [known[name] for name in names or known]


def table(results: list[Result]) -> str:
    """The results as a table of docs/parity.md."""
    rows = ["| mistake | where | what it does | rung | caught by |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        caught = f"{r.rung} | `{r.test.partition('::')[2]}`" if r.rung else "**none** | "
        rows.append(f"| {r.mistake.name} | `{r.mistake.file}` | {r.mistake.effect} | {caught} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m parity_tests.mutation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mistakes")
    parser.add_argument("--quick", action="store_true", help="run only the test that each mistake names")
    parser.add_argument("--generated", type=int, metavar="N", help="a sample of mistakes made by a program")
    parser.add_argument("--seed", type=int, default=0, help="of that sample")
    parser.add_argument("--up-to", type=int, default=7, metavar="RUNG", help="the highest rung to run")
    parser.add_argument("--jobs", type=int, default=1, help="mistakes tried at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/parity.md at the end")
    options = parser.parse_args(arguments)
    try:
        mistakes = chosen(options.only)
        if options.generated is not None:
            if options.only or options.quick or options.markdown or options.generated < 1:
                parser.error("--generated must be at least 1, and without --only, --quick and --markdown")
            mistakes = generated.mistakes(ROOT, options.generated, options.seed)
    except ValueError as error:
        parser.error(str(error))
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")

    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        scratch, cache = Path(folder), Path(folder) / "compiled"
        source = copy_repository(ROOT, scratch / "source")  # one state of the tree, whatever is edited meanwhile
        reached = None if options.quick else Reached(source, scratch, cache, options.up_to)
        tried = pool.map(lambda im: judge(im[1], source, scratch / str(im[0]), cache, reached), enumerate(mistakes))
        try:
            for result in tried:
                results.append(result)
                print(result.line(), flush=True)
        except BrokenLadder as error:
            print(f"the ladder fails as it is: {error}", file=sys.stderr)
            pool.shutdown(cancel_futures=True)
            return 1

    missed = [r for r in results if r.rung is None]
    low, high = generated.interval(len(results) - len(missed), len(results))
    told = f": between {low:.1%} and {high:.1%} of all like them" if options.generated else ""
    print(f"{len(results) - len(missed)} of {len(results)} mistakes caught{told}")
    if options.markdown:
        print(table(results))
    if options.json:
        rows: list[dict[str, Any]] = [
            r.mistake._asdict() | {"rung": r.rung, "caught_by": r.test, "why": r.why, "seconds": round(r.seconds, 1)}
            for r in results
        ]
        options.json.write_text(json.dumps({"mistakes": rows}, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
