"""Writes runs' generators for other programs: StableHLO, ONNX, or a web page; each is read back and compared first."""

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json
from jax_sngan.system.terminal import command, shown


def main() -> None:
    """Prints a line for each generator, and what to do with the folder."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folder of a run; several come side by side")
    parser.add_argument("--format", required=True, choices=("stablehlo", "onnx", "web"), help="what to write")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for it")
    parser.add_step()
    parser.add_argument(
        "--standing-statistics", type=int, default=0, metavar="N", help="take batch statistics anew on N latents"
    )
    parser.add_argument(
        "--truncation",
        type=float,
        metavar="X",
        help="onnx, stablehlo: cut latents off at +-X, as `sample`",
    )
    parser.add_argument(
        "--scores",
        nargs="+",
        default=[],
        metavar="FILE",
        help="web: what `evaluate` wrote with --json, one for each run, beside the run's own scores",
    )
    parser.add_argument(
        "--ort-web", metavar="FOLDER", help="web: a copy of onnxruntime-web's package (default: fetched from npm)"
    )
    parser.add_output("--json", "write what was exported", ".json")
    arguments = parser.parse()
    if arguments.format != "web":
        for option, value in (("--scores", arguments.scores), ("--ort-web", arguments.ort_web)):
            if value:
                raise UserError(f"{option} is for --format web, got --format {arguments.format}")
    elif arguments.truncation is not None:
        raise UserError("--truncation is for --format onnx and stablehlo: the page has a slider for it")

    if arguments.format == "web":  # imported here: jax takes a second to load
        from jax_sngan.export.web_page import export_page

        told = export_page(
            arguments.workdirs,
            arguments.out,
            arguments.step,
            scores=arguments.scores,
            ort_web=arguments.ort_web,
            standing=arguments.standing_statistics,
        )
    else:
        from jax_sngan.export.export import export_runs

        told = export_runs(
            arguments.workdirs,
            arguments.format,
            arguments.out,
            arguments.step,
            arguments.standing_statistics,
            arguments.truncation,
        )
    if arguments.json != "-":
        for one in told:
            check = one["check"]
            print(
                f"{one['file']}: {shown(one['preset'])}, step {one['step']}, {one['bytes'] / 1e6:.1f} MB; "
                f"{check['latents']} images differ from the checkpoint's by at most {check['max_abs_error']:.1e}"
            )
        if arguments.format == "web":
            serve = command("python", "-m", "http.server", "--directory", arguments.out)
            print(f"to look at it: {serve}, then http://localhost:8000")
    if arguments.json:
        write_json(arguments.json, told)
