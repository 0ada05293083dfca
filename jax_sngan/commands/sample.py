"""Makes images from a run's Orbax checkpoint, or from a generator that ships with the package: a grid, an npz of all of
them, or an interpolation."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from jax_sngan.commands import cli
from jax_sngan.runs.image_npz import write_images
from jax_sngan.system.allocator import keep_freed_memory
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.terminal import shown

if TYPE_CHECKING:
    from jax_sngan.runs.run import Run

BATCH = 960  # images that are made at once and not kept, but for those that are drawn


def main() -> None:
    """Writes what is asked for; without --grid, --npz or --interpolate a grid in WORKDIR/samples, or here."""
    arguments = read()
    keep_freed_memory()

    from jax_sngan.runs import pictures  # after the options are checked: jax takes a second to load
    from jax_sngan.runs.labels import numbers_of

    generator = opened(arguments)
    labels = None if arguments.labels is None else numbers_of(arguments.labels, generator.class_names)
    made, notes = [], {}
    if not (arguments.grid or arguments.npz or arguments.interpolate):
        place = f"{arguments.workdir}_" if arguments.pretrained else f"{arguments.workdir}/samples/sample_"
        arguments.grid = f"{place}{generator.step:06d}_seed{arguments.seed}.png"
    num = arguments.num
    if arguments.grid or arguments.npz:
        latents = generator.latents(num, seed=arguments.seed, truncation=arguments.truncation)
        classes = generator.labels(num, labels)
        drawn: list[np.ndarray] = []  # for the grid

        def batches(count: int) -> Iterator[np.ndarray]:
            for start in range(0, count, BATCH):
                rows = slice(start, min(start + BATCH, count))
                images = generator.images(latents[rows], None if classes is None else classes[rows])
                if start < seen:
                    drawn.append(images[: seen - start])
                yield images

        first = generator.images(latents[:1], None if classes is None else classes[:1])
        seen = min(num, pictures.most(first.shape[1:])) if arguments.grid else 0
        if arguments.npz:
            others = {"step": np.array(generator.step)} | ({} if classes is None else {"labels": classes})
            shape = (num, *first.shape[1:])
            write_whole(arguments.npz, lambda p: write_images(p, shape, first.dtype, batches(num), others))
        else:
            for _ in batches(seen):
                pass
        if arguments.grid:
            pictures.save_grid(arguments.grid, np.concatenate(drawn))
            made.append(arguments.grid)
            if seen < num:
                notes[arguments.grid] = f" (the first {seen:,} of {num:,} images)"
        if arguments.npz:
            made.append(arguments.npz)
    if arguments.interpolate:
        pictures.save_animation(arguments.interpolate, generator.walk(seed=arguments.seed, labels=labels))
        made.append(arguments.interpolate)
    if arguments.json != "-":
        print(*(shown(file) + notes.get(file, "") for file in made), sep="\n")
    if arguments.json:
        write_json(arguments.json, {"step": generator.step, "num": arguments.num, "files": made})


def opened(arguments: argparse.Namespace) -> "Run":
    """The run that the line names.

    Raises:
      UserError: there is none.
    """
    from jax_sngan.commands.own_gan import own_gan
    from jax_sngan.runs import pretrained, run

    if arguments.pretrained:
        shipped = pretrained.pretrained(arguments.workdir)
        return shipped.standing(arguments.standing_statistics) if arguments.standing_statistics else shipped
    gan = None if arguments.gan is None else own_gan(arguments.gan)
    return run.load(
        arguments.workdir, arguments.step, gan=gan, average=not arguments.raw, standing=arguments.standing_statistics
    )


def read() -> argparse.Namespace:
    """The line.

    Raises:
      UserError: a number out of its range, or an option that is of runs alone.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a run; with --pretrained a name, as fashion")
    parser.add_argument(
        "--pretrained", action="store_true", help="a trained generator that ships with the package, by its name"
    )
    parser.add_step()
    parser.add_argument("--num", type=int, default=64, metavar="N", help="how many images (default 64)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the latents (default 0)")
    parser.add_argument(
        "--labels", metavar="CLASS[,CLASS…]", help="classes by name or number: one for all, or one each"
    )
    parser.add_argument("--raw", action="store_true", help="the generator's own weights, not their moving average")
    parser.add_argument(
        "--standing-statistics", type=int, default=0, metavar="N", help="take batch statistics anew on N latents"
    )
    parser.add_argument(
        "--truncation", type=float, metavar="X", help="latents from N(0, 1) cut off at +-X: better images, more alike"
    )
    parser.add_gan("where it was trained with --gan, the same again")
    parser.add_output("--grid", "write the images as one picture", ".png")
    parser.add_output("--npz", "write images uint8 [num, h, w, c], labels and step", ".npz")
    parser.add_output("--interpolate", "write a closed walk through the latent space", ".gif")
    parser.add_output("--json", "write what was made", ".json")
    arguments = parser.parse()
    for option, given in (("--step", arguments.step != "latest"), ("--raw", arguments.raw), ("--gan", arguments.gan)):
        if arguments.pretrained and given:
            raise UserError(f"{option} is of a run; with --pretrained there is the averaged generator alone")
    if arguments.num < 1:
        raise UserError(f"--num must be at least 1, got {arguments.num}")
    if not 0 <= arguments.seed < 2**32:
        raise UserError(f"--seed must be from 0 to 2**32 - 1, got {arguments.seed}")
    return arguments
