"""Scores a run's checkpoint, a folder of images or an npz against real images; --compare tests two of them."""

import argparse
from pathlib import Path
from typing import Any

from jax_sngan.commands import cli
from jax_sngan.system.allocator import keep_freed_memory
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json
from jax_sngan.system.terminal import shown

SEEDS = 5  # of --compare


def main() -> None:
    """Prints a table."""
    arguments = read()
    keep_freed_memory()
    options: dict[str, Any] = {
        "step": arguments.step,
        "metrics": None if arguments.metrics is None else [m.strip() for m in arguments.metrics.split(",")],
        "num": arguments.num,
        "protocol": arguments.protocol,
        "seed": arguments.seed,
        "real": arguments.real,
        "split": arguments.split,
        "data_dir": arguments.data_dir,
        "features": arguments.features,
        "raw": arguments.raw,
        "standing": arguments.standing_statistics,
        "progress": True,
    }

    from jax_sngan.commands.own_gan import own_gan
    from jax_sngan.evaluation import evaluate  # jax takes a second to load

    options["gan"] = None if arguments.gan is None else own_gan(arguments.gan)

    if arguments.compare is None:
        seeds = 1 if arguments.seeds is None else arguments.seeds
        result = evaluate.evaluate(arguments.subject, seeds=seeds, **options)
        lines = table(result)
    else:
        a, b = arguments.compare
        seeds = SEEDS if arguments.seeds is None else arguments.seeds
        result = evaluate.compare(a, b, seeds=seeds, **options)
        lines = comparison_table(result, Path(a).name, Path(b).name)
    if arguments.json != "-":
        print("\n".join(map(shown, lines)))
    if arguments.json:
        write_json(arguments.json, result)


def read() -> argparse.Namespace:
    """The line.

    Raises:
      UserError: not one thing to score, and not two to compare.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument("subject", nargs="?", metavar="WORKDIR|FOLDER|FILE.npz", help="a run, or images")
    parser.add_gan("where the run was trained with --gan, the same again")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two of those: a paired test over --seeds")
    parser.add_step()
    parser.add_argument(
        "--metrics",
        metavar="NAME[,NAME…]",
        help="fcd, fcd_inf, kcd, cs, precision, recall, density, coverage, classes, intra_fcd, nearest, path_length; "
        "inception has fid, fid_inf, kid, is, intra_fid, another extractor fd, fd_inf, kd, score, intra_fd instead "
        "(default: the Frechet distance and, by the classifier, classes)",
    )
    parser.add_argument(
        "--num", type=int, metavar="N", help="generated images (default: 5000 of a run, all of a folder or file)"
    )
    parser.add_argument("--protocol", choices=("10k_5k", "50k_50k"), help="how many real and how many generated images")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first, of the latents (default 0)")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"with their mean and 95 %% interval (default 1; of --compare {SEEDS})"
    )
    parser.add_argument(
        "--real",
        metavar="SOURCE",
        help="the real images, as --data of `train`, or FILE.npz with mu and sigma of their features (as FID programs "
        "keep them; default: the run's; for fashion, the official test images of Fashion-MNIST where they are on this "
        "machine, else those that ship with the package)",
    )
    parser.add_argument(
        "--split", choices=("train", "test"), help="of the real images (default: test where there are official ones)"
    )
    parser.add_argument("--data-dir", metavar="FOLDER", help="folder that holds the real images' original files")
    parser.add_argument(
        "--features",
        default="classifier",
        metavar="NAME|FILE",
        help="classifier (default), inception, Inception's weights as FILE.pth, or a network as FILE.onnx",
    )
    parser.add_argument("--raw", action="store_true", help="the generator's own weights, not their moving average")
    parser.add_argument(
        "--standing-statistics", type=int, default=0, metavar="N", help="take batch statistics anew on N latents"
    )
    parser.add_output("--json", "write the result there", ".json")
    arguments = parser.parse()
    if (arguments.subject is None) == (arguments.compare is None):
        raise UserError("give what to score, WORKDIR, FOLDER or FILE.npz, or --compare with two of them")
    return arguments


def heading(result: dict[str, Any]) -> str:
    """What was compared with what."""
    of = "" if result["step"] is None else f"step {result['step']}, "
    real, extractor = result["real"], result["extractor"]
    source = f" trained on {extractor['source']}" if "source" in extractor else ""
    against = real["name"] if real["count"] is None else f"{real['count']:,} of {real['name']}, {real['split']}"
    return (
        f"{of}{result['num']:,} images against {against}; "
        f"features of {extractor['name']}{source} ({extractor['checksum'][:12] or 'no checksum'})"
    )


def table(result: dict[str, Any]) -> list[str]:
    """A line a score, with its interval where there are several seeds."""
    width = max(map(len, result["metrics"]))
    lines = [heading(result)]
    for name, value in result["metrics"].items():
        line = f"{name:{width}}  {value:10.4g}"
        if name in result["intervals"]:
            low, high = result["intervals"][name]
            line += f"   95 % {low:.4g} to {high:.4g}, {len(result['seeds'])} seeds"
        lines.append(line)
    return lines


def comparison_table(result: dict[str, Any], a: str, b: str) -> list[str]:
    """A line a score: A's, B's, the difference with its interval, and p."""
    width = max(map(len, result["differences"]))
    head = f"{'':{width}}  {a[:12]:>12} {b[:12]:>12}   B - A (95 %), p"
    lines = [f"A: {heading(result['a'])}", f"B: {heading(result['b'])}", head]
    for name, gap in result["differences"].items():
        low, high = gap["interval"]
        values = " ".join(f"{result[x]['metrics'][name]:12.4g}" for x in ("a", "b"))
        lines.append(f"{name:{width}}  {values}   {gap['mean']:+.4g} ({low:+.4g} to {high:+.4g}), p = {gap['p']:.2g}")
    return [*lines, result["test"]]
