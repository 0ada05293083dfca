"""Learning curves of runs of either framework; those that differ in the seed alone are one, with a band."""

from dataclasses import asdict
from typing import Any

from jax_sngan.commands import cli
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.terminal import shown


def main() -> None:
    """Writes a picture, prints the last values."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folders of runs of either framework")
    parser.add_argument(
        "--metrics",
        metavar="NAME[,NAME…]",
        help="numbers of metrics.jsonl (default: the scores of the averaged generator that the first run has)",
    )
    parser.add_argument("--log", action="store_true", help="logarithmic values")
    parser.add_output("--out", "the picture", ".png", default="curves.png")
    parser.add_output("--json", "write every curve there", ".json")
    arguments = parser.parse()
    metrics = None if arguments.metrics is None else [m.strip() for m in arguments.metrics.split(",")]

    from jax_sngan.reports import curves, plots  # numpy takes a moment to load

    found = curves.read_curves(arguments.workdirs, metrics)
    panels = [curves.plot(metric, group, log=arguments.log) for metric, group in found.items()]
    picture = plots.png(panels, len(panels))
    write_whole(arguments.out, lambda path: path.write_bytes(picture))
    if arguments.json != "-":
        for metric, group in found.items():
            print("\n".join(map(shown, table(metric, group))))
        print(arguments.out)
    if arguments.json:
        write_json(arguments.json, {metric: [_plain(curve) for curve in group] for metric, group in found.items()})


def table(metric: str, group: list[Any]) -> list[str]:
    """A line a kind of run: the last step's value, its mean, deviation, lowest and highest over the seeds."""
    width = max(len(curve.name) for curve in group)
    lines = [metric]
    for curve in group:
        last = curve.values[:, -1]
        line = f"  {curve.name:{width}}  step {curve.steps[-1]:6}  {last.mean():10.4g}"
        if len(last) > 1:
            line += f" +- {curve.spread:.3g}   {last.min():.4g} to {last.max():.4g}, {len(last)} seeds"
        lines.append(line)
    return lines


def _plain(curve: Any) -> dict[str, Any]:
    return asdict(curve) | {"steps": curve.steps.tolist(), "values": curve.values.tolist()}
