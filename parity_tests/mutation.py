"""Shows that the ladder can fail: makes each mistake of `mistakes` in a throwaway copy and runs the rungs upwards.

    python -m parity_tests.mutation                       every mistake; prints the rung and the test that caught it
    python -m parity_tests.mutation --only "hinge sign"   some of them, by name
    python -m parity_tests.mutation --quick               only the test that each mistake names
    python -m parity_tests.mutation --markdown            the table of docs/mistakes.md
    python -m parity_tests.mutation --generated 300       mistakes made by a program (`generated`), and the share caught
    python -m parity_tests.mutation --generated 60 --quick    of these only those that `caught.json` has, by its tests

Exit code 1 if a mistake is not caught. A mistake is caught by a test that reaches its assertion and fails there: code
that does not import or does not run has not been caught. Of mistakes that a program made, those are caught too, and
those of `survivors` are known to change no result.

Before a file of tests is first tried, it is run on a copy without a mistake, and the lines of jax_sngan that each test
reaches are noted. What does not reach a mistake's line cannot fail by it and is not run. Of a rung's files the one with
the test that the mistake names comes first, and in it that test; a rung below the named one runs all. So the rung that
is printed is the lowest that fails. A program's mistakes are tried by the tests that reach them, the cheapest first.
"""

import argparse
import json
import queue
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from parity_tests import generated
from parity_tests.mistakes import MISTAKES, Mistake
from parity_tests.reach import (
    FIRST,
    ROOT,
    BrokenLadder,
    BrokenRun,
    Reach,
    Server,
    copy_repository,
    run_tests,
    statement,
)
from parity_tests.survivors import reason

SHOWN = 200  # characters of a failure's message
CAUGHT = ROOT / "parity_tests" / "caught.json"
BUDGET = 120.0  # seconds of a processor that the tests of one program's mistake may take, as they took when watched
# What holds the same files beside the rungs, of tests/.
BESIDE = [
    "conv", "export", "forward_mode", "gan", "inputs", "lipschitz", "operator_norm", "precision", "shared_expectations",
    "spectral_norm", "spectral_norm_anywhere", "spectral_norm_trees", "update", "watching",
]  # fmt: skip


class Result(NamedTuple):
    """What became of one mistake."""

    mistake: Mistake
    rung: int | None  # the lowest that failed; 0: a test of tests/; None: not caught
    test: str  # that failed first
    why: str  # its message, or why the mistake counts as not caught
    seconds: float

    def line(self) -> str:
        """What is printed."""
        if self.rung is None:
            return f"{self.mistake.name}: NOT CAUGHT ({self.why})"
        by = f"rung {self.rung}" if self.rung else "tests/"
        return f"{self.mistake.name}: caught by {by}: {self.test}: {self.why} ({self.seconds:.0f} s)"


def rung_of(file: str) -> int:
    """The N of test_N_….py; 0 for what is of no rung."""
    name = file.removeprefix("parity_tests/").removeprefix("test_").partition("_")[0]
    return int(name) if name.isdigit() else 0


def rungs(root: Path) -> list[str]:
    """The ladder's files, upwards."""
    return sorted((f.name for f in root.glob("parity_tests/test_[0-9]*_*.py")), key=rung_of)


def mistaken(source: str, mistake: Mistake) -> tuple[str, int]:
    """(a file's source with the mistake in it, the number of the line).

    Raises:
      ValueError: the line to replace is not there, or not once.
    """
    if "\n" in mistake.old + mistake.new or source.count(mistake.old) != 1:
        raise ValueError(f"{mistake.name}: {mistake.old!r} must be one line's and once in {mistake.file}")
    return source.replace(mistake.old, mistake.new), source[: source.index(mistake.old)].count("\n") + 1


class Trial:
    """What trying mistakes needs: a state of the tree, what its tests reach, and what has been found."""

    def __init__(self, scratch: Path, keep: Path, highest: int, *, quick: bool, jobs: int = 1):
        self.source = copy_repository(ROOT, scratch / "source")  # one state of the tree, whatever is edited meanwhile
        self.quick, self.scratch, self.cache = quick, scratch, keep / "compiled"
        self.reach = Reach(self.source, keep / "reach", self.cache)
        self.rungs = [f"parity_tests/{file}" for file in rungs(self.source) if rung_of(file) <= highest]
        self.beside = [f"tests/test_{name}.py" for name in BESIDE]
        self.kills: dict[str, Counter[str]] = defaultdict(Counter)  # file of jax_sngan -> tests that caught something
        self.servers: queue.Queue[Server] = queue.Queue()
        for _ in range(jobs):
            self.servers.put(Server(self.source, self.cache, self.files()))

    def files(self) -> list[str]:
        """What may be asked; of --quick no more than has caught something."""
        if not self.quick:
            return [*self.rungs, *self.beside]
        return sorted({test.partition("::")[0] for test in stored().values()})

    def close(self) -> None:
        """Ends the servers."""
        while not self.servers.empty():
            self.servers.get().close()

    def runs(self, mistake: Mistake, lines: set[int]) -> Iterator[list[str]]:
        """The tests to run, run by run."""
        if mistake.test:
            own = f"parity_tests/{mistake.test}"
            file = own.partition("::")[0]
            if self.quick:
                yield [own]
                return
            for rung in sorted(self.rungs, key=lambda r: (rung_of(r), r != file)):
                if lines & self.reach.lines(rung, mistake.file):
                    yield from ([own], [rung]) if rung == file else ([rung],)
            return
        if self.quick:
            yield [stored()[key(mistake)]]
            return
        tests = self.reach.order([*self.rungs, *self.beside], mistake.file, lines, self.kills[mistake.file])
        yield tests[:FIRST]
        rest, spent = [], 0.0
        for test in tests[FIRST:]:
            spent += self.reach.of(test.partition("::")[0])[test].seconds
            if spent <= BUDGET:
                rest.append(test)
        yield rest

    def run(self, mistake: Mistake, wrong: str, tests: list[str]) -> dict[str, Any] | None:
        """The failure of the first test that fails with a mistake made; None where all pass.

        Raises:
          BrokenRun: something stopped the tests otherwise.
        """
        if not mistake.test:
            server = self.servers.get()
            try:
                limit = BUDGET if self.quick else 2 * BUDGET
                seen = server.run(mistake.file, wrong, tests, limit) if server.has(tests) else None
            finally:
                self.servers.put(server)
            if seen is not None:
                return seen["failure"]
        copy = copy_repository(self.source, Path(tempfile.mkdtemp(dir=self.scratch)))
        try:
            (copy / "jax_sngan" / mistake.file).write_text(wrong)
            return run_tests(copy, self.cache, tests)["failure"]
        finally:
            shutil.rmtree(copy.parent)

    def judge(self, mistake: Mistake) -> Result:
        """Makes the mistake and runs what reaches it until something fails."""
        start = time.monotonic()

        def result(rung: int | None, test: str, why: str) -> Result:
            return Result(mistake, rung, test.removeprefix("parity_tests/"), why[:SHOWN], time.monotonic() - start)

        right = (self.source / "jax_sngan" / mistake.file).read_text()
        wrong, line = mistaken(right, mistake)
        ran: list[str] = []
        try:
            for tests in self.runs(mistake, set(statement(right, line))):
                if not tests:
                    continue
                ran += tests
                if failure := self.run(mistake, wrong, tests):
                    self.kills[mistake.file][failure["test"]] += 1
                    return result(rung_of(failure["test"]), failure["test"], failure["error"])
        except BrokenRun as error:
            made = not mistake.test  # by a program: what stops the tests has been caught too
            test = re.match(r"(\S+::.*?) did not reach", str(error))
            by = test[1] if test else ran[-1]
            return result(rung_of(by) if made else None, by if made else "", str(error))
        told = ", ".join(t.removeprefix("parity_tests/") for t in ran) if len(ran) < 4 else f"{len(ran)} tests"
        return result(None, "", f"ran {told}" if ran else "no test reaches the line")


def key(mistake: Mistake) -> str:
    """By which a program's mistake is known wherever its line stands."""
    return f"{mistake.file}: {mistake.old.strip()} -> {mistake.new.strip()}"


def full_name(test: str) -> str:
    """A result's test as pytest has it."""
    return test if test.startswith("tests/") else f"parity_tests/{test}"


@cache
def stored() -> dict[str, str]:
    """By its key, the test that caught a program's mistake last time."""
    found: dict[str, str] = json.loads(CAUGHT.read_text())
    return found


def quick_part(mistakes: list[Mistake]) -> list[Mistake]:
    """Those whose test is stored. What an edit has made new is no failure: the next --store tries it.

    Raises:
      ValueError: there is none.
    """
    found = [m for m in mistakes if key(m) in stored()]
    same = sum(reason(key(m)) is not None for m in mistakes)
    if not found:
        raise ValueError("--quick: caught.json has none of these; --store them first, without --quick")
    print(f"{len(found)} of {len(mistakes)} by the test that caught each; {same} change no result, the others are new")
    return found


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
    """The results as a table of docs/mistakes.md."""
    rows = ["| mistake | where | what it does | rung | caught by |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        caught = f"{r.rung} | `{r.test.partition('::')[2]}`" if r.rung else "**none** | "
        rows.append(f"| {r.mistake.name} | `{r.mistake.file}` | {r.mistake.effect} | {caught} |")
    return "\n".join(rows)


def kept_results(file: Path, mistakes: Iterable[Mistake]) -> dict[str, Result]:
    """Mistakes that an earlier run found caught, or that have been found to change no result since."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    found = {row["key"]: row for row in rows if row["rung"] is not None or reason(row["key"]) is not None}
    return {
        key(m): Result(m, *(found[key(m)][name] for name in Result._fields[1:])) for m in mistakes if key(m) in found
    }


def summary(results: list[Result], *, quick: bool = False) -> str:
    """The last line: how many were caught, and of a sample the interval; quick: those were all caught before."""
    caught = sum(r.rung is not None for r in results)
    if quick or not results or results[0].mistake.test:
        return f"{caught} of {len(results)} mistakes caught"
    same = sum(r.rung is None and reason(key(r.mistake)) is not None for r in results)
    low, high = generated.interval(caught, len(results) - same)
    return (
        f"{len(results)} mistakes, {same} of which change no result; {caught} of {len(results) - same} caught, "
        f"{caught / max(len(results) - same, 1):.1%}: between {low:.1%} and {high:.1%} of all like them"
    )


def parsed(arguments: list[str] | None) -> tuple[argparse.Namespace, list[Mistake]]:
    """(the options, the mistakes to try)."""
    parser = argparse.ArgumentParser(
        prog="python -m parity_tests.mutation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mistakes")
    parser.add_argument("--quick", action="store_true", help="run only the test that each mistake names")
    parser.add_argument("--generated", type=int, metavar="N", help="a sample of mistakes made by a program")
    parser.add_argument("--seed", type=int, default=0, help="of that sample")
    parser.add_argument("--up-to", type=int, metavar="RUNG", help="the highest rung to run (7; with --generated 5)")
    parser.add_argument("--jobs", type=int, default=1, help="mistakes tried at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument("--store", action="store_true", help="note what caught each for --quick, in caught.json")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="goes on from what an earlier run left here")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/mistakes.md at the end")
    options = parser.parse_args(arguments)
    try:
        mistakes = chosen(options.only)
        if options.store and (options.generated is None or options.quick):
            parser.error("--store needs --generated, and no --quick")
        if options.generated is not None:
            if options.only or options.markdown or options.generated < 1:
                parser.error("--generated must be at least 1, and without --only and --markdown")
            mistakes = generated.mistakes(ROOT, options.generated, options.seed)
            mistakes = quick_part(mistakes) if options.quick else mistakes
    except ValueError as error:
        parser.error(str(error))
    if options.up_to is None:
        options.up_to = 7 if options.generated is None else 5
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    return options, mistakes


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    options, mistakes = parsed(arguments)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        keep: Path = options.keep or Path(folder) / "keep"
        keep.mkdir(parents=True, exist_ok=True)
        trial = Trial(Path(folder), keep, options.up_to, quick=options.quick, jobs=options.jobs)
        before = kept_results(keep / "results.jsonl", mistakes)
        tried = pool.map(lambda m: before.get(key(m)) or trial.judge(m), mistakes)
        try:
            for result in tried:
                results.append(result)
                print(result.line(), flush=True)
                if key(result.mistake) not in before:
                    with (keep / "results.jsonl").open("a") as kept:
                        kept.write(json.dumps(as_row(result)) + "\n")
        except BrokenLadder as error:
            print(f"the ladder fails as it is: {error}", file=sys.stderr)
            pool.shutdown(cancel_futures=True)
            return 1
        finally:
            trial.close()

    print(summary(results, quick=options.quick))
    if options.markdown:
        print(table(results))
    if options.store:
        caught = {key(r.mistake): full_name(r.test) for r in results if r.rung is not None and "::" in r.test}
        CAUGHT.write_text(json.dumps(caught, indent=0, sort_keys=True) + "\n")
    if options.json:
        options.json.write_text(json.dumps({"mistakes": [as_row(r) for r in results]}, indent=1) + "\n")
    return 1 if any(r.rung is None and reason(key(r.mistake)) is None for r in results) else 0


def as_row(result: Result) -> dict[str, Any]:
    """A result as JSON."""
    found = {"rung": result.rung, "test": result.test, "why": result.why, "seconds": round(result.seconds, 1)}
    return result.mistake._asdict() | found | {"key": key(result.mistake)}


if __name__ == "__main__":
    sys.exit(main())
