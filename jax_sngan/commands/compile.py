"""Compiles a preset's training step with the compiler of a TPU or GPU that is not here: does it fit, what does it cost.

Needs the extra `aot` (Linux on x86-64). What a figure rests on stands beside it. A compiled step is kept: the same
question is answered at once.
"""

import sys
from functools import partial

from jax_sngan.accelerators.targets import target
from jax_sngan.commands import cli
from jax_sngan.config.presets import names, preset
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.system.files import write_json


def main() -> None:
    """The figures."""
    parser = cli.Parser(description=__doc__, presets=True)
    parser.add_argument("preset", metavar="PRESET", help=f"one of {', '.join(names())}")
    parser.add_argument(
        "--target",
        required=True,
        metavar="TARGET",
        help="a TPU with its slice, v5e:2x2, or a GPU, h100 (docs/accelerators.md)",
    )
    parser.add_argument("--quick", action="store_true", help="a TPU's compiler searches little for fast tilings")
    parser.add_output("--json", "write the figures there", ".json")
    cli.add_options(
        parser, RunConfig, "devices: a slice of several machines is used whole", only=("mesh", "shard_state")
    )
    cli.add_options(parser, TrainConfig, "training: all that decides the numbers; defaults are the preset's")
    arguments = parser.parse()
    to = target(arguments.target)
    config = replace(preset(arguments.preset), cli.given(arguments, TrainConfig))
    run = replace(RunConfig(), cli.given(arguments, RunConfig))

    from jax_sngan.accelerators.compiled import compiled, request_for  # jax takes a second to load
    from jax_sngan.accelerators.report import figures, lines

    request = request_for(config, run, to, quick=arguments.quick)
    told = figures(request, compiled(request, partial(print, file=sys.stderr)))
    if arguments.json != "-":
        print("\n".join(lines(request, told)))
    if arguments.json:
        write_json(arguments.json, told)
