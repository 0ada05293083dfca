"""How a Frechet distance depends on the number of images: a run's and the real images' own, with their limits."""

from typing import Any

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole


def main() -> None:
    """Writes a picture: the distance against n, and against 1/n with the line that is extrapolated."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("subject", metavar="WORKDIR|FOLDER|FILE.npz", help="as of `evaluate`")
    parser.add_step()
    parser.add_argument("--num", type=int, default=20_000, metavar="N", help="the most images (default 20000)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="random parts of each size (default 5)")
    parser.add_argument("--real", metavar="SOURCE", help="real images, as of `evaluate`")
    parser.add_argument("--data-dir", metavar="FOLDER", help="folder that holds the real images' original files")
    parser.add_argument("--features", default="classifier", metavar="NAME|FILE", help="as of `evaluate`")
    parser.add_output("--out", "the picture", ".png", default="sample_size.png")
    parser.add_output("--json", "write the numbers there", ".json")
    arguments = parser.parse()
    if arguments.num < 20 or arguments.repeats < 1:
        raise UserError(f"--num must be at least 20 and --repeats 1, got {arguments.num} and {arguments.repeats}")

    from jax_sngan.evaluation import sample_size  # jax takes a second to load
    from jax_sngan.reports.plots import png

    result = sample_size.measure(
        arguments.subject,
        step=arguments.step,
        num=arguments.num,
        repeats=arguments.repeats,
        real=arguments.real,
        data_dir=arguments.data_dir,
        features=arguments.features,
    )
    if arguments.json != "-":
        for curve in result["curves"]:
            largest = f"{curve['distances'][-1]:.4g} at {curve['counts'][-1]:,}"
            print(f"{curve['name']}: {largest} images, {curve['limit']:.4g} at infinitely many")
        print(arguments.out)
    picture = png(plots(result), 2, width=4.5, height=3.0)
    write_whole(arguments.out, lambda path: path.write_bytes(picture))
    if arguments.json:
        write_json(arguments.json, result)


def plots(result: dict[str, Any]) -> list[Any]:
    """Two plots a curve of sample_size.measure's: against the number of images, and against its inverse."""
    from jax_sngan.reports.plots import Line, Plot

    found = []
    for curve in result["curves"]:
        counts, distances, limit = curve["counts"], curve["distances"], curve["limit"]
        reach = [0.0, 1 / counts[0]]
        found += [
            Plot(
                f"{curve['name']} against {result['real']}",
                [Line("distance", counts, distances)],
                "images n",
                result["metric"],
                level=limit,
            ),
            Plot(
                f"at infinitely many: {limit:.3g}",
                [
                    Line("measured", [1 / n for n in counts], distances),
                    Line("extrapolated", reach, [limit + curve["slope"] * x for x in reach], colour=7, dash=1),
                ],
                "1 / n",
                result["metric"],
            ),
        ]
    return found
