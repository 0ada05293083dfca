"""Scores a run's checkpoint against real images: Frechet classifier distance and classes covered."""

from jax_sngan import command_line
from jax_sngan.files import write_json


def main() -> None:
    """Prints a line a metric."""
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a run")
    parser.add_argument("--step", default="latest", metavar="N|latest|best", help="which checkpoint (default latest)")
    parser.add_argument("--metrics", default="fcd,classes", metavar="NAME[,NAME…]", help="default: fcd,classes")
    parser.add_argument("--num", type=int, default=5000, metavar="N", help="generated images (default 5000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the latents (default 0)")
    parser.add_argument("--real", default="fashion_mnist", metavar="SOURCE", help="as --data (default fashion_mnist)")
    parser.add_argument("--split", default="test", choices=("train", "test"), help="of the real images (default test)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="folder that holds the real images' original files")
    parser.add_argument("--json", metavar="FILE", help="write the result there; - is standard output")
    arguments = parser.parse()

    from jax_sngan.evaluate import evaluate  # jax takes a second to load

    result = evaluate(
        arguments.workdir,
        step=arguments.step,
        metrics=tuple(arguments.metrics.split(",")),
        num=arguments.num,
        seed=arguments.seed,
        real=arguments.real,
        split=arguments.split,
        data_dir=arguments.data_dir,
    )
    if arguments.json != "-":
        print(f"step {result['step']}, {result['num']} images, classifier {result['classifier']['checksum'][:12]}")
        for name, value in result["metrics"].items():
            print(f"{name:24} {value:.4g}")
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    command_line.run(main)
