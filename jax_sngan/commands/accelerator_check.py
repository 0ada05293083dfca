"""On a machine with a GPU or TPU: the short ladder, the benchmark, a mesh of one, a resume; one page, in 10 minutes.

Each part is a process with a time limit, and what it found is kept if a later one fails. DIR gets
accelerator_check.html and .json. Exit code 0: all was done and is as it should be; 1: something is not, was not done or
did not fit (the page says which); 2: a wrong option, or a package is missing.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from jax_sngan.accelerator_check import carried  # and nothing that needs a package which may still lie in a wheel
from jax_sngan.system.errors import UserError

ROOT = Path(__file__).resolve().parents[2]  # where the packages are that the stages run


def main() -> int:
    """The exit code; what came along is unpacked before anything needs it."""
    scratch = Path(tempfile.mkdtemp(prefix="accelerator_check_"))  # for what nobody wants to keep
    sys.path.append(str(ROOT))  # parity_tests lies there, where it is a checkout
    try:
        if wheels := carried.given("--wheels", sys.argv):
            carried.unpack(wheels, scratch / "packages")
        carried.missing()
        return check(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check(scratch: Path) -> int:
    """Reads the line, runs the stages and writes the report; the exit code."""
    from jax_sngan.accelerator_check import check, page, plan
    from jax_sngan.commands import cli

    parser = cli.Parser(description=__doc__)
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
        check.write(out, told, page.page)
        return told

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # not without the stage that runs
    running = check.Check(out, 60 * arguments.minutes, environment(scratch), tell)
    running.run([[plan.first(arguments.quick)]])
    if (probed := running.outcomes[0]["told"]) is not None:
        running.run(plan.stages(scratch, probed, quick=arguments.quick))
    print(f"report      {out / 'accelerator_check.html'}")
    return 0 if save()["passed"] else 1


def environment(scratch: Path) -> dict[str, str]:
    """Of every stage: the packages that came along, and programs compiled once for all of them."""
    packages = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), str(scratch / "packages")]
    own = {
        "PYTHONPATH": os.pathsep.join(packages),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "cache" / "jax"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # two processes share the device
    }
    return dict(os.environ) | own
