"""Runs the ladder of parity_tests/ and writes each case's measured error beside its tolerance and the reason for it.

JAX computes on its default device, torch where --torch-device says, both in full precision. Exit code 0: every case is
within its tolerance; 1: one is not, or could not be run (the report is written all the same); 2: a wrong option.
"""

import importlib.util
import sys
import time
from pathlib import Path

from tqdm import tqdm

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.invocation import install_command, this_command
from parity_kit.climb import Climb
from parity_kit.rows import summary
from parity_tests import report, report_page


def main() -> int:
    """The exit code."""
    files = report.rung_files()
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the slowest cases; 3 minutes on two cores")
    parser.add_argument("--rungs", metavar="N[,N…]", help="these rungs alone, without the growth curves (default: all)")
    parser.add_argument("--torch-device", default="cpu", metavar="DEVICE", help="cpu (default), cuda, cuda:N or auto")
    parser.add_output("--json", "write the report there as JSON", ".json")
    parser.add_output("--html", "write it there as one self-contained page", ".html", ".htm")
    arguments = parser.parse()
    if not (arguments.json or arguments.html):
        raise UserError("give --json FILE, --html FILE or both")
    chosen = files if arguments.rungs is None else {rung: files[rung] for rung in rungs(arguments.rungs, files)}
    for package in ("torch", "pytest"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the comparison needs {package}, which is not installed: {install_command('dev')}")
    if arguments.torch_device != "cpu":  # torch takes seconds to load
        from torch_ref.system import machine

        machine.device(arguments.torch_device)

    started = time.monotonic()
    titles = report.rung_titles()
    bar = tqdm(total=0, unit="case", disable=None, leave=False, smoothing=0)

    def tell(rung: int, line: report.Line) -> None:
        if "collected" in line:
            bar.total = (bar.total or 0) + len(line["collected"])
            bar.refresh()
        elif "case" in line:
            bar.update()
        done[rung].append(line)
        if "environment" in line:
            rows = [report.as_row(rung, told) for told in done[rung] if told.get("comparisons")]
            with bar.external_write_mode(file=sys.stderr):
                print(f"rung {rung}, {titles[rung]}: {summary(rows)}", file=sys.stderr)

    done: dict[int, list[report.Line]] = {rung: [] for rung in chosen}
    ladder = report.Ladder(quick=arguments.quick, tell=tell, torch_device=arguments.torch_device)
    lines, growth, growth_error = ladder.run(chosen, growth=arguments.rungs is None)
    bar.close()

    found = report.gather(
        lines,
        growth,
        growth_error,
        quick=arguments.quick,
        rungs=sorted(chosen),
        command=this_command(),
        seconds=round(time.monotonic() - started, 1),
    )
    if arguments.html:
        write_whole(arguments.html, lambda path: path.write_text(report_page.page(found), encoding="utf-8"))
    if arguments.json:
        write_json(arguments.json, found.as_json())
    print(verdict(found), file=sys.stderr if arguments.json == "-" else sys.stdout)
    return 0 if found.passed else 1


def rungs(text: str, files: dict[int, list[Path]]) -> list[int]:
    """The rungs that an option names.

    Raises:
      UserError: one of them is none.
    """
    known = {str(rung): rung for rung in files}
    wrong = [part for part in text.split(",") if part not in known]
    if wrong:
        raise UserError(f"--rungs: there is no rung {wrong[0]!r}; there are {', '.join(known)}")
    return sorted({known[part] for part in text.split(",")})


def verdict(found: Climb) -> str:
    """One line."""
    return f"{'PASS' if found.passed else 'FAIL'}: {'; '.join(filter(None, [summary(found.rows), found.error]))}"
