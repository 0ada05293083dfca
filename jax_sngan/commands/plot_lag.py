"""How far sigma, as the power iteration has it, lags behind the largest singular value over whole runs."""

from pathlib import Path

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole

Curve = dict[int, float]  # by step: the largest of a network's layers


def main() -> None:
    """Writes a picture: singular value over sigma less 1, the largest of D's layers, a curve a run."""
    parser = cli.Parser(description=__doc__)
    help = "a run that logged both (--singular-values-every)"
    parser.add_argument("runs", nargs="+", metavar="WORKDIR", help=help)
    parser.add_output("--out", "the picture", ".png", default="lag.png")
    parser.add_output("--json", "write the numbers there", ".json")
    arguments = parser.parse()

    from jax_sngan.runs.log import values_of
    from jax_sngan.runs.workdir import config_of

    curves = {}
    for run in arguments.runs:
        values, config = values_of(Path(run) / "metrics.jsonl"), config_of(Path(run))
        curve = lag(values)
        if not curve:
            raise UserError(f"{run} has no d_singular_value in its log: train with --singular-values-every N")
        name = f"learning rate {config.discriminator_optimizer.learning_rate:g}"
        curves[name if name not in curves else f"{name} ({run})"] = curve
    _draw(curves, arguments.out)
    if arguments.json != "-":
        for name, curve in curves.items():
            late = [value for step, value in curve.items() if 2 * step >= max(curve)]
            print(f"{name}: at most {max(late):.2%} in the second half of {max(curve)} steps")
        print(arguments.out)
    if arguments.json:
        write_json(
            arguments.json, {name: {str(step): v for step, v in curve.items()} for name, curve in curves.items()}
        )


def lag(values: dict[str, dict[int, float]]) -> Curve:
    """By step, how much larger than sigma D's largest singular value is: the largest share of all layers.

    values: each number of a log by its name and step (runs.log.values_of).
    """
    found: Curve = {}
    for name, series in values.items():
        kind, _, layer = name.partition("/")
        for step, true in series.items() if kind == "d_singular_value" else ():
            found[step] = max(found.get(step, 0.0), true / values[f"d_sigma/{layer}"][step] - 1)
    return dict(sorted(found.items()))


def _draw(curves: dict[str, Curve], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5))
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), [max(value, 1e-8) for value in curve.values()], label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="singular value / sigma - 1, worst layer", yscale="log")
    axes.legend(fontsize=8)
    figure.tight_layout()
    write_whole(path, lambda p: figure.savefig(p, format="png", dpi=100))
