"""How a Frechet distance depends on the number of images: a run's and the real images' own, with their limits."""

import argparse
from pathlib import Path
from typing import Any

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole


def main() -> None:
    """Writes a picture: the distance against n, and against 1/n with the line that is extrapolated."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("subject", metavar="WORKDIR|FOLDER|FILE.npz", help="as of evaluate.py")
    parser.add_step()
    parser.add_argument("--num", type=int, default=20_000, metavar="N", help="the most images (default 20000)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="random parts of each size (default 5)")
    parser.add_argument("--real", metavar="SOURCE", help="real images, as of evaluate.py")
    parser.add_argument("--data-dir", metavar="FOLDER", help="folder that holds the real images' original files")
    parser.add_argument("--features", default="classifier", metavar="NAME|FILE", help="as of evaluate.py")
    parser.add_output("--out", "the picture", ".png", default="sample_size.png")
    parser.add_output("--json", "write the numbers there", ".json")
    arguments = parser.parse()
    if arguments.num < 20 or arguments.repeats < 1:
        raise UserError(f"--num must be at least 20 and --repeats 1, got {arguments.num} and {arguments.repeats}")
    result = measure(arguments)
    if arguments.json != "-":
        for curve in result["curves"]:
            largest = f"{curve['distances'][-1]:.4g} at {curve['counts'][-1]:,}"
            print(f"{curve['name']}: {largest} images, {curve['limit']:.4g} at infinitely many")
        print(arguments.out)
    draw(result, arguments.out)
    if arguments.json:
        write_json(arguments.json, result)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Curves of the subject and, where the real set is a test split, of the training images against it."""
    import numpy as np

    from jax_sngan.evaluation import evaluate
    from jax_sngan.evaluation.sources import open_subject
    from jax_sngan.metrics import extrapolation, scores
    from jax_sngan.metrics.reference import reference

    given = open_subject(arguments.subject, step=arguments.step, raw=False, standing=0)
    given.check(arguments.num, 1)
    source, split = evaluate.choose_real(arguments.real, given.source, None, 0)
    data = evaluate.load_real(source, split, given, arguments.data_dir)
    extractor = evaluate.open_features(arguments.features, source, given, arguments.data_dir)
    real = reference(data, extractor, evaluate.real_name(source, split))
    features = [extractor.extract(images)[0] for images, _ in given.batches(arguments.num, 0)]
    sets = {Path(given.name).name: np.concatenate(features)}
    if split == "test":
        training = evaluate.load_real(source, "train", given, arguments.data_dir)
        rows = np.random.default_rng(0).permutation(len(training))[: arguments.num]
        sets["real training images"] = extractor.extract(training.images[rows])[0]
    curves = []
    for name, made in sets.items():
        found = [extrapolation.frechet_extrapolation(real.moments, made, s) for s in range(arguments.repeats)]
        distances = np.mean([f.distances for f in found], axis=0)
        slope, limit = np.polyfit(1 / found[0].counts, distances, 1)
        counts = found[0].counts.tolist()
        curves.append({"name": name, "counts": counts, "distances": distances.tolist(), "slope": slope, "limit": limit})
    metric = next(name for name, key in scores.names(extractor.name).items() if key == "frechet")
    against = f"{len(data):,} images of {data.name}, {split}"
    return {"metric": metric, "real": against, "extractor": extractor.describe(), "curves": curves}


def draw(result: dict[str, Any], path: str) -> None:
    """One row of two plots a curve."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(result["curves"]), 2, figsize=(9, 3 * len(result["curves"])), squeeze=False)
    for (left, right), curve in zip(axes, result["curves"], strict=True):
        counts, distances = np.array(curve["counts"]), np.array(curve["distances"])
        left.plot(counts, distances, "o-", markersize=3)
        left.axhline(curve["limit"], linestyle="--", color="grey")
        left.set(title=curve["name"], xlabel="images n", ylabel=result["metric"])
        reach = np.linspace(0, 1 / counts[0], 2)
        right.plot(1 / counts, distances, "o", markersize=3)
        right.plot(reach, curve["limit"] + curve["slope"] * reach, "--", color="grey")
        right.set(title=f"at infinitely many: {curve['limit']:.3g}", xlabel="1 / n")
    figure.suptitle(f"against {result['real']}", fontsize=9)
    figure.tight_layout()
    write_whole(path, lambda p: figure.savefig(p, format="png", dpi=90))
    plt.close(figure)


if __name__ == "__main__":
    cli.run(main)
