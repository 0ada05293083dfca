"""A run's folder: what it holds, who may start in it, and the text that tells how to go on. Knows no jax."""

import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from jax_sngan.config import RunConfig, TrainConfig, differences, from_dict, to_dict
from jax_sngan.errors import UserError
from jax_sngan.files import read_json, write_json, write_whole

Wing = Literal["jax", "torch"]


def run_folder(config: TrainConfig, run: RunConfig) -> Path:
    """Where a run is kept: --workdir, else runs/PRESET."""
    return Path(run.workdir or f"runs/{config.name}")


def has_checkpoint(workdir: Path) -> bool:
    """Whether a finished checkpoint stands in WORKDIR/checkpoints."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(p.name.isdigit() for p in folder.iterdir())


def wing_of(workdir: Path) -> Wing | None:
    """Whose checkpoints stand in WORKDIR/checkpoints: Orbax's folders, train_torch.py's state.pt, or none."""
    if not has_checkpoint(workdir):
        return None
    return "torch" if any((workdir / "checkpoints").glob("*/state.pt")) else "jax"


def check_wing(workdir: Path, wing: Wing) -> None:
    """Passes where no checkpoint in workdir is the other wing's.

    Raises:
      UserError: one is; it names the command that converts it.
    """
    if wing_of(workdir) not in (None, wing):
        other = {"jax": "train_torch.py", "torch": "train_jax.py"}[wing]
        raise UserError(
            f"{workdir} holds checkpoints of {other}; to convert: python scripts/convert_checkpoint.py {workdir} OUT"
        )


def open_workdir(workdir: str | Path) -> Path:
    """The folder of a run that has Orbax checkpoints.

    Raises:
      UserError: there is no such folder, no checkpoint in it, or the reference's.
    """
    folder = Path(workdir)
    if not folder.is_dir():
        raise UserError(f"no workdir {folder}; train first, or give the folder of a run")
    check_wing(folder, "jax")
    if not has_checkpoint(folder):
        raise UserError(f"no checkpoint in {folder}; it must hold checkpoints/STEP as train_jax.py writes them")
    return folder


def config_of(workdir: Path) -> TrainConfig:
    """The config in a run's config.json.

    Raises:
      UserError: the file can't be read, or is of another version.
    """
    path = workdir / "config.json"
    values = read_json(path)
    try:
        return from_dict(TrainConfig, values)
    except UserError as error:
        raise UserError(
            f"{path} does not fit this version of jax-sngan ({error}); "
            "go on with the version that wrote it, or give another --workdir"
        ) from error


def check_start(workdir: Path, config: TrainConfig, resume: str, wing: Wing = "jax") -> None:
    """Whether a run of one wing may start in workdir; writes nothing.

    A run with a constant learning rate may be given more steps, since no earlier number depends on them.

    Raises:
      UserError: it holds another run (each option that differs is named) or the other wing's checkpoints, it has a
        checkpoint and resume is never, it has none and resume is must, or it is a file.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"workdir {workdir} is a file; give a folder")
    check_wing(workdir, wing)
    if (workdir / "config.json").exists():
        old = config_of(workdir)
        constant = config.generator_optimizer.schedule == config.discriminator_optimizer.schedule == "constant"
        changed = differences(dataclasses.replace(old, steps=config.steps) if constant else old, config)
        if changed:
            raise UserError(
                f"{workdir} holds another run ({'; '.join(changed)}); give another --workdir or those values"
            )
    if resume == "never" and has_checkpoint(workdir):
        raise UserError(f"{workdir} has checkpoints and --resume is never; give another --workdir")
    if resume == "must" and not has_checkpoint(workdir):
        raise UserError(f"{workdir} has no checkpoint and --resume is must")


def prepare(
    workdir: Path, config: TrainConfig, sampling: str, *, resuming: str | None = None, folder: Path | None = None
) -> None:
    """Writes config.json and README.txt.

    Args:
      sampling: the command that makes images, "" where there is none.
      resuming: the command that goes on with the run; default: the one that started this process.
      folder: where the two are written, if workdir does not stand under its name yet.
    Raises:
      UserError: the folder can't be made or written to.
    """
    folder = folder or workdir
    write_json(folder / "config.json", to_dict(config))
    images = SAMPLING.format(command=sampling, workdir=workdir) if sampling else ""
    text = README.format(name=config.name, workdir=workdir, train=resuming or this_command(), images=images)
    write_whole(folder / "README.txt", lambda p: p.write_text(text))


def sweep(workdir: Path) -> None:
    """Removes what a killed run left half-written: temporary files and checkpoints that never got their name."""
    for pattern in (".*-????????.json", ".*-????????.jsonl", ".*-????????.txt", "samples/.*-????????.png"):
        for path in workdir.glob(pattern):
            path.unlink()
    for path in (workdir / "checkpoints").glob("*"):
        if re.fullmatch(r"\d+\.(unsealed|unfinished|orbax-checkpoint-tmp).*", path.name):
            shutil.rmtree(path)


@contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Within the block, a disk that is full or a folder that may not be written to is told in one line.

    Raises:
      UserError: it happened.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {error.filename or workdir}: {error.strerror or error}") from error


def this_command() -> str:
    """The command that started this process, as a person would type it."""
    return " ".join(["python", *sys.argv])


README = """\
A run of jax-sngan, preset {name}.

To go on where it stopped:    {train}
{images}
config.json      every option that decides the numbers
metrics.jsonl    one line a log: step, losses, mean scores of real and generated images
samples/         grids of the averaged generator, always from the same latents
checkpoints/     one folder a step
tensorboard/     the same numbers: tensorboard --logdir {workdir}/tensorboard
"""
SAMPLING = """\
To make images:               {command}
From Python:                  import jax_sngan; jax_sngan.load("{workdir}").sample(64)
"""
