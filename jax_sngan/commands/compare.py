"""Trains the GAN family with the same networks, data, seeds and updates, and tells what came of it on one page.

A folder of an earlier call is gone on with: a run that it holds with the same options is not made again.
"""

import sys
from pathlib import Path

from jax_sngan.commands import cli
from jax_sngan.study import folder, plan
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import this_command


def main() -> None:
    """Prints a line a run, and where the page is."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--out", metavar="DIR", help="folder of the runs, pictures, table and page")
    parser.add_argument(
        "--quick", action="store_true", help="the ring alone, short runs, five seeds: 2 minutes on 2 cores"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="of every kind of run (default 1 to 3; --quick: 2 or 3)")
    parser.add_argument("--steps", type=int, metavar="N", help="G updates of each run (default: see --dry-run)")
    parser.add_argument(
        "--data",
        metavar="SOURCE[,SOURCE…]",
        help=f"some of {', '.join(plan.POINTS + plan.IMAGES)} (default: all; --quick: {', '.join(plan.QUICK.data)})",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs and how long they may take; train nothing"
    )
    parser.add_output("--json", "write the rows there too", ".json")
    arguments = parser.parse()
    if arguments.out is None:
        raise UserError("--out must name the folder of the results, got none")
    size = plan.resized(
        plan.QUICK if arguments.quick else plan.FULL,
        seeds=arguments.seeds,
        steps=arguments.steps,
        data=arguments.data,
    )
    out = Path(arguments.out)
    folder.check(out)

    from jax_sngan.study import run as study  # jax takes a second to load

    def say(line: str) -> None:
        print(line, file=sys.stderr if arguments.json == "-" else sys.stdout, flush=True)

    if arguments.dry_run:
        study.describe(out, size, say)
        return
    study.run(out, size, command=this_command(), json_path=arguments.json, say=say)
