"""--profile-steps: a trace of some steps, and which of this project's source lines they spend their time in."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jax_sngan.accelerators.hlo import Program, parse
from jax_sngan.system.files import write_whole

_ROOT = str(Path(__file__).resolve().parent.parent) + "/"  # of the package, as a compiled program names files
COSTLIEST = 10


class Row(NamedTuple):
    """One source line's part of the steps."""

    seconds: float  # of all operations that it wrote, in all profiled steps, on all threads or streams
    share: float  # of those of all operations of the step's program
    operation: str  # the costliest kind of them: a compiled operation's name without its number
    place: str  # file:line of the package and function
    network: str  # where of models/ it is called from; "" where it is not


class Profile:
    """A trace of a range of steps by jax.profiler, in a folder."""

    def __init__(self, folder: Path, steps: range, text: Callable[[], str]):
        """text: of the compiled step."""
        self.steps, self._folder, self._text = steps, folder, text
        self._runs = False

    def before(self, step: int) -> None:
        """Begins where `step` is the first of them."""
        if step == self.steps.start and not self._runs:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._runs = True

    def after(self, steps: int) -> list[str]:
        """Ends where so many steps are done, and all are computed; what a person should know."""
        if not self._runs or steps < self.steps.stop:
            return []
        self.close()
        trace = max(self._folder.glob("plugins/profile/*/perfetto_trace.json.gz"))
        table = self._folder / "operations.md"
        text = markdown(costliest(operations(trace.parent), self._text()), len(self.steps))
        write_whole(table, lambda p: p.write_text(text, encoding="utf-8"))
        return [
            f"profile     steps {self.steps.start} to {self.steps.stop - 1}: {trace} (ui.perfetto.dev opens it)",
            f"            the {COSTLIEST} costliest source lines: {table}",
        ]

    def close(self) -> None:
        """Ends a trace that is being made."""
        if self._runs:
            jax.profiler.stop_trace()
            self._runs = False


def operations(folder: Path) -> dict[str, Counter[str]]:
    """Seconds of each compiled operation of a trace, by program and name."""
    found: dict[str, Counter[str]] = {}
    for path in folder.glob("*.trace.json.gz"):
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
        for event in events:
            told: dict[str, Any] = event.get("args", {})
            if "hlo_op" in told and "hlo_module" in told:
                found.setdefault(told["hlo_module"], Counter())[told["hlo_op"]] += event["dur"] / 1e6
    return found


def costliest(found: dict[str, Counter[str]], text: str) -> list[Row]:
    """The source lines that the operations of one compiled program come from, the costliest first; text: the program's.

    What was made by no line of this package (a copy that the compiler added) is one row.
    """
    own = found.get(re.match(r"HloModule ([\w.\-]+)", text)[1], Counter())  # type: ignore[index]
    program = parse(text)
    places = {i.name: _place(program, i) for c in program.computations.values() for i in c}
    seconds, kinds = Counter[tuple[str, str]](), dict[tuple[str, str], Counter[str]]()
    for name, spent in own.items():
        place = places.get(name, ("", ""))
        seconds[place] += spent
        kinds.setdefault(place, Counter())[re.sub(r"[.\d]+$", "", name)] += spent
    whole = seconds.total() or 1.0
    return [
        Row(spent, spent / whole, kinds[place].most_common(1)[0][0], place[0] or "of no line of the package", place[1])
        for place, spent in seconds.most_common(COSTLIEST)
    ]


def _place(program: Program, instruction: Any) -> tuple[str, str]:
    """The innermost line of the package, and the innermost of models/."""
    lines = [
        (file.removeprefix(_ROOT), line, function)
        for file, line, function in program.lines(instruction)
        if file.startswith(_ROOT)
    ]
    inner = next((f"{file}:{line} {function}" for file, line, function in lines), "")
    network = next((f"{file}:{line} {function}" for file, line, function in lines if file.startswith("models/")), "")
    return inner, "" if network == inner or network.startswith("models/network.py") else network


def markdown(rows: list[Row], steps: int) -> str:
    """A table for a person."""
    head = f"Of {steps} steps. Times are of all threads or streams together; a share is of the step's program.\n\n"
    table = "| ms a step | share | operation | line | called from |\n| ---: | ---: | --- | --- | --- |\n"
    return (
        head
        + table
        + "".join(
            f"| {1e3 * row.seconds / steps:.3f} | {row.share:.1%} | {row.operation} | {row.place} | {row.network} |\n"
            for row in rows
        )
    )
