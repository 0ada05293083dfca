"""Makes images from a run's Orbax checkpoint: a grid, an npz of all of them, or an interpolation."""

from pathlib import Path

import numpy as np

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.terminal import shown


def main() -> None:
    """Writes what is asked for; without --grid, --npz or --interpolate a grid in WORKDIR/samples."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a run")
    parser.add_step()
    parser.add_argument("--num", type=int, default=64, metavar="N", help="how many images (default 64)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the latents (default 0)")
    parser.add_argument("--labels", metavar="N[,N…]", help="classes: one for all images, or one each")
    parser.add_argument("--raw", action="store_true", help="the generator's own weights, not their moving average")
    parser.add_gan("where it was trained with --gan, the same again")
    parser.add_output("--grid", "write the images as one picture", ".png")
    parser.add_output("--npz", "write images uint8 [num, h, w, c], labels and step", ".npz")
    parser.add_output("--interpolate", "write a closed walk through the latent space", ".gif")
    parser.add_output("--json", "write what was made", ".json")
    arguments = parser.parse()
    labels = None
    if arguments.labels is not None:
        parts = arguments.labels.split(",")
        if not all(p.strip().isdigit() for p in parts):
            raise UserError(f"--labels must be numbers parted by commas, got {arguments.labels!r}")
        labels = np.array([int(p) for p in parts])
    if arguments.num < 1:
        raise UserError(f"--num must be at least 1, got {arguments.num}")
    if not 0 <= arguments.seed < 2**32:
        raise UserError(f"--seed must be from 0 to 2**32 - 1, got {arguments.seed}")

    from jax_sngan.commands.own_gan import own_gan
    from jax_sngan.runs import pictures, run  # after the options are checked: jax takes a second to load

    gan = None if arguments.gan is None else own_gan(arguments.gan)
    generator = run.load(arguments.workdir, arguments.step, gan=gan, average=not arguments.raw)
    made = []
    if not (arguments.grid or arguments.npz or arguments.interpolate):
        arguments.grid = f"{arguments.workdir}/samples/sample_{generator.step:06d}_seed{arguments.seed}.png"
    if arguments.grid or arguments.npz:
        images = generator.sample(arguments.num, seed=arguments.seed, labels=labels)
    if arguments.grid:
        pictures.save_grid(arguments.grid, images)
        made.append(arguments.grid)
    if arguments.npz:
        arrays = {"images": images, "step": np.array(generator.step)}
        classes = generator.labels(arguments.num, labels)
        if classes is not None:
            arrays["labels"] = classes
        write_whole(arguments.npz, lambda p: save_npz(p, arrays))
        made.append(arguments.npz)
    if arguments.interpolate:
        pictures.save_animation(arguments.interpolate, generator.interpolate(seed=arguments.seed, labels=labels))
        made.append(arguments.interpolate)
    if arguments.json != "-":
        print(*map(shown, made), sep="\n")
    if arguments.json:
        write_json(arguments.json, {"step": generator.step, "num": arguments.num, "files": made})


def save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """np.savez to exactly this path: given a name, it would add .npz."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its options
