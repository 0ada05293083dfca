"""The table of docs/accelerators.md: presets on TPUs and GPUs, each cell a training step compiled for them.

Steps that were compiled before are read again; with --kept no other is compiled, and a cell says so. A TPU's compiler
searches little for fast tilings here (as --quick of `compile`): with the full search a large preset takes an hour.
"""

import sys
from functools import partial

from jax_sngan.accelerators.targets import target
from jax_sngan.commands import cli
from jax_sngan.config.presets import names, preset
from jax_sngan.system.files import write_json

COLUMNS = "v5e:2x2,v5e:2x2/4,v5e:4x4/16,v5e:16x16/256,h100,h100/8"


def main() -> None:
    """Prints it as Markdown."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"default: all, {', '.join(names())}")
    parser.add_argument(
        "--on", default=COLUMNS, metavar="TARGET[/N],…", help=f"N devices of a target; default {COLUMNS}"
    )
    parser.add_argument("--kept", action="store_true", help="compile nothing")
    parser.add_output("--json", "write the figures there", ".json")
    arguments = parser.parse()

    from jax_sngan.accelerators.table import cell, markdown  # jax takes a second to load

    columns = arguments.on.split(",")
    rows = arguments.presets or names()
    for name in rows:  # the last may be unknown: told before the first is compiled
        preset(name)
    for column in columns:
        target(column.partition("/")[0])
    say = partial(print, file=sys.stderr)
    cells = [[cell(preset, column, say, kept=arguments.kept) for column in columns] for preset in rows]
    if arguments.json != "-":
        print(markdown(rows, columns, cells))
    if arguments.json:
        write_json(arguments.json, {"rows": [of for row in cells for of in row]})
