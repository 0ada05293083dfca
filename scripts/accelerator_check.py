"""On a machine with a GPU or TPU: the short ladder, the benchmark, a mesh of one, a resume; one page, in 10 minutes.

Each part is a process with a time limit, and what it found is kept if a later one fails. DIR gets
accelerator_check.html and .json. Exit code 0: all was done and is as it should be; 1: something is not, was not done or
did not fit (the page says which); 2: a wrong option, or a package is missing.
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # of a copy that nobody installed

from jax_sngan.accelerators import carried
from jax_sngan.errors import UserError


def main() -> int:
    """The exit code."""
    from jax_sngan import command_line
    from jax_sngan.accelerators import check, check_page, check_plan

    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results; made where it is not there")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="X", help="for all of it (default 10)")
    parser.add_argument("--wheels", metavar="DIR", help="wheels of what this machine lacks; unpacked, not installed")
    parser.add_argument("--quick", action="store_true", help="tiny networks, a few cases: to see that it works")
    arguments = parser.parse()
    if not arguments.minutes > 0:
        raise UserError(f"--minutes must be above 0, got {arguments.minutes}")
    out = Path(arguments.out).resolve()
    if out.exists() and not out.is_dir():
        raise UserError(f"--out must be a folder, {out} is a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make {out}: {error.strerror}") from error

    def tell(outcome: check.Outcome) -> None:
        why = f": {outcome['why']}" if outcome["why"] else ""
        print(f"{outcome['stage']:32} {outcome['status']}, {outcome['seconds']:.0f} s{why}", flush=True)
        save()

    def save() -> dict[str, Any]:
        told = check.summary(running.outcomes, running.seconds())
        check.write(out, told, check_page.page)
        return told

    running = check.Check(out, 60 * arguments.minutes, environment(out), tell)
    first = running.run_one(check_plan.first(arguments.quick))
    if first["told"] is not None:
        running.run(check_plan.stages(out, first["told"], quick=arguments.quick))
    print(f"report      {out / 'accelerator_check.html'}")
    return 0 if save()["passed"] else 1


def environment(out: Path) -> dict[str, str]:
    """Of every stage: the packages that came along, and programs compiled once for all of them."""
    root = str(Path(__file__).resolve().parent.parent)
    own = {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")]), str(out / "packages")]),
        "XDG_CACHE_HOME": str(out / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(out / "cache" / "jax"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # two processes share the device
    }
    return dict(os.environ) | own


def start() -> None:
    """Unpacks what came along before anything needs it."""
    try:
        wheels, out = carried.given("--wheels", sys.argv), carried.given("--out", sys.argv)
        if wheels and out:
            carried.unpack(wheels, Path(out).resolve() / "packages")
        if not {"-h", "--help"} & set(sys.argv):
            carried.missing()
    except UserError as error:
        print(f"accelerator_check.py: {error}", file=sys.stderr)
        sys.exit(2)
    from jax_sngan import command_line

    command_line.run(main)


if __name__ == "__main__":
    start()
