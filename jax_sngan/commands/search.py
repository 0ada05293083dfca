"""Searches settings that give better pictures at the same cost: trials from a file, scored, in a table.

Every trial gets its share of the processor time that the base takes for its steps. A folder of an earlier call is gone
on with; the file may be given more trials meanwhile. Bind it to one core (taskset -c 1) where others compute beside it.
"""

from pathlib import Path

from jax_sngan.commands import cli
from jax_sngan.search.trials import read_plan
from jax_sngan.system.errors import UserError


def main() -> None:
    """Prints a line a trial."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("file", metavar="FILE.json", help='{"base": PRESET, "trials": [{"name", "why", "changes", …}]}')
    parser.add_argument("--out", metavar="DIR", help="folder of the runs and the table")
    parser.add_argument("--num", type=int, default=5000, metavar="N", help="generated images that a score is of")
    parser.add_argument("--real", metavar="SOURCE", help="images that scores are against (default: as `evaluate` says)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder that holds their files")
    parser.add_argument("--features", default="classifier", metavar="NAME|FILE", help="as of `evaluate`")
    parser.add_argument("--dry-run", action="store_true", help="list the trials and which are done; train nothing")
    parser.add_argument("--table", action="store_true", help="write the table of what is done; train nothing")
    arguments = parser.parse()
    if arguments.out is None:
        raise UserError("--out must name the folder of the results, got none")
    file = Path(arguments.file)
    read_plan(file)

    from jax_sngan.search.run import Search  # jax takes a second to load

    def say(line: str) -> None:
        print(line, flush=True)

    search = Search(
        file,
        Path(arguments.out),
        num=arguments.num,
        real=arguments.real,
        data_dir=arguments.data_dir,
        features=arguments.features,
        say=say,
    )
    if arguments.dry_run:
        search.describe()
        return
    if arguments.table:
        search.tabulate()
    else:
        search.run()
    say(f"table: {Path(arguments.out) / 'table.md'}")
