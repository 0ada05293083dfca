"""A run's folder: what it holds, who may start in it, and the text that tells how to go on. Knows no jax.

A folder is a run's by its mark, run.json, which is the first thing that a run writes. What has neither that nor what
runs from before there was a mark have left is somebody else's: nothing in it is read for a run, written or removed.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from jax_sngan.config import class_names, presets
from jax_sngan.config.schema import RunConfig, TrainConfig, differences, flatten, from_dict, replace, to_dict
from jax_sngan.data.datasets import is_path
from jax_sngan.data.layout import shown_classes
from jax_sngan.runs import manifest
from jax_sngan.runs.selection import steps_in
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import ANIMATION, RUN_FILES, read_json, temporary_for, write_json, write_whole
from jax_sngan.system.invocation import called, own_command, this_command
from jax_sngan.system.lock import NAME as LOCK
from jax_sngan.system.regular_files import check_local
from jax_sngan.system.terminal import command, listed, shown

Framework = Literal["jax", "torch"]

MARK = "run.json"
_MARKED = {"program": "jax-sngan", "format": 1}
_FILES = (MARK, "config.json", "README.txt", "metrics.jsonl")  # each written whole, so a kill may leave a temporary one
_HALF = re.compile(r"[0-9]+\.(unsealed|(unsealed\.)?orbax-checkpoint-tmp(-[0-9]+)?|unfinished|deleting(-[0-9]+)?)")
_NAMED = 5  # entries of a foreign folder that its refusal names


def run_folder(config: TrainConfig, run: RunConfig) -> Path:
    """Where a run is kept: --workdir, else runs/PRESET.

    Raises:
      UserError: that is an address.
    """
    if run.workdir is not None:
        check_local(run.workdir, "workdir")
    return Path(run.workdir or f"runs/{config.name}")


def has_checkpoint(workdir: Path) -> bool:
    """Whether WORKDIR/checkpoints has an entry for a step, sound or not."""
    return bool(steps_in(workdir / "checkpoints"))


def framework_of(workdir: Path) -> Framework | None:
    """Whose checkpoints stand in WORKDIR/checkpoints: Orbax's folders, the reference's state.pt, or nobody's."""
    folders = [workdir / "checkpoints" / str(step) for step in steps_in(workdir / "checkpoints")]
    if any((folder / "state.pt").exists() for folder in folders):
        return "torch"
    return "jax" if any((folder / "_CHECKPOINT_METADATA").exists() for folder in folders) else None


def check_ours(workdir: Path) -> None:
    """Passes where nothing stands at workdir, an empty folder, or a run's without links to other places.

    A run's folder has the mark; or, from before there was one, config.json beside a README.txt of this program's, or a
    checkpoint with a manifest of its kind.

    Raises:
      UserError: something else does; nothing of it was touched.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"workdir {workdir} is a file; give a folder")
    if not workdir.is_dir():
        return
    try:
        found = [path for path in sorted(workdir.iterdir()) if not _is_begun(path)]
    except OSError as error:
        raise UserError(f"cannot read {workdir}: {error.strerror or error}") from error
    if found and not (_is_marked(workdir) or _is_older_run(workdir)):
        names = listed([p.name for p in found], _NAMED)
        raise UserError(
            f"{workdir} is not empty and no run of this program (it holds {names}); nothing was touched: "
            "give a new folder as --workdir"
        )
    home = Path(os.path.realpath(workdir))
    for path in (*(workdir / name for name in (*RUN_FILES, "samples", LOCK)), *(workdir / "checkpoints").glob("*")):
        target = Path(os.path.realpath(path))
        if path.is_symlink() and not target.is_relative_to(home):
            raise UserError(
                f"{path} is a link out of its workdir, to {target}, where another run may write; "
                "put the whole workdir there, or give another --workdir"
            )
    for path in (workdir / "checkpoints").glob("*"):
        if _HALF.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            raise UserError(f"{path} is in the way: a checkpoint gets that name while it is written; rename it")


def _is_begun(path: Path) -> bool:
    """Whether a run that was killed before it had its mark leaves such a thing: its lock, empty, or half a mark."""
    if path.is_symlink() or not path.is_file():
        return False
    return temporary_for(path.name) == MARK or (path.name == LOCK and not path.stat().st_size)


def _is_marked(workdir: Path) -> bool:
    try:
        told = read_json(workdir / MARK)
    except UserError:
        return False
    return isinstance(told, dict) and told.get("program") == _MARKED["program"]


def _is_older_run(workdir: Path) -> bool:
    try:
        with (workdir / "README.txt").open("rb") as file:
            ours = file.readline().startswith(b"A run of jax-sngan, preset ")
    except OSError:
        ours = False
    checkpoints = workdir / "checkpoints"
    return (ours and (workdir / "config.json").is_file()) or any(
        manifest.is_ours(checkpoints / str(step)) for step in steps_in(checkpoints)
    )


def check_framework(workdir: Path, framework: Framework) -> None:
    """Passes where no checkpoint in workdir is the other framework's.

    Raises:
      UserError: one is; it names the command that converts it.
    """
    if framework_of(workdir) not in (None, framework):
        other = called({"jax": "torch", "torch": "train"}[framework])
        convert = own_command("convert", workdir, "OUT")
        raise UserError(f"{workdir} holds checkpoints of {other}; to convert: {convert}")


def open_workdir(workdir: str | Path) -> Path:
    """The folder of a run that has Orbax checkpoints.

    Raises:
      UserError: there is no such folder, no checkpoint in it, or the reference's.
    """
    check_local(workdir, "workdir")
    folder = Path(workdir)
    if not folder.is_dir():
        raise UserError(f"no workdir {folder}; train first, or give the folder of a run")
    check_framework(folder, "jax")
    if not has_checkpoint(folder):
        raise UserError(f"no checkpoint in {folder}; it must hold checkpoints/STEP as {called('train')} writes them")
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


def check_start(workdir: Path, config: TrainConfig, resume: str, framework: Framework = "jax") -> None:
    """Whether a run of one framework may start in workdir; writes nothing.

    A run with a constant learning rate may be given more steps, since no earlier number depends on them.

    Raises:
      UserError: as check_workdir; or it holds another run (each option that differs is named).
    """
    check_workdir(workdir, resume, framework)
    if not (workdir / "config.json").exists():
        return
    old = config_of(workdir)
    constant = config.generator_optimizer.schedule == config.discriminator_optimizer.schedule == "constant"
    names = [class_names.parse(c.class_names) for c in (old, config)]
    if all(names) and names[0] != names[1]:
        raise UserError(
            f"{workdir} was trained with the classes {shown_classes(names[0])}, the data now have "
            f"{shown_classes(names[1])}: each number would mean another class; give the same folders, or another "
            "--workdir"
        )
    same: dict[str, Any] = {"class_names": config.class_names}
    if is_path(old.data) and is_path(config.data):
        same["data"] = config.data  # whether they are the same, their checksums say
    if constant:
        same["steps"] = config.steps
    changed = differences(replace(old, same), config)
    if changed:
        raise UserError(f"{workdir} holds another run ({'; '.join(changed)}); give another --workdir or those values")


def check_workdir(workdir: Path, resume: str, framework: Framework = "jax") -> None:
    """Whether a run of one framework may stand at workdir, whatever its config is.

    Raises:
      UserError: as check_ours; it holds the other framework's checkpoints, it has a checkpoint and resume is never, or
        it has none and resume is must.
    """
    check_ours(workdir)
    check_framework(workdir, framework)
    if resume == "never" and has_checkpoint(workdir):
        raise UserError(f"{workdir} has checkpoints and --resume is never; give another --workdir")
    if resume == "must" and not has_checkpoint(workdir):
        raise UserError(f"{workdir} has no checkpoint and --resume is must")


def take(workdir: Path) -> None:
    """Marks a folder that check_ours passed as a run's, and removes what a killed run left half-written in it.

    That is files and folders by the names that this program gives while it writes, and by no others.
    """
    if not _is_marked(workdir):
        write_json(workdir / MARK, _MARKED)
    for path in (*workdir.iterdir(), *(workdir / "samples").glob(".*")):
        name = temporary_for(path.name) or ""
        ours = name in _FILES if path.parent == workdir else re.fullmatch(rf"[0-9]{{6,}}\.png|{ANIMATION}", name)
        if ours and path.is_file() and not path.is_symlink():
            path.unlink()
    for path in (workdir / "checkpoints").glob("*"):
        if _HALF.fullmatch(path.name):
            shutil.rmtree(path)


def prepare(
    workdir: Path, config: TrainConfig, sampling: str, *, resuming: str | None = None, folder: Path | None = None
) -> list[str]:
    """Writes the mark, config.json and README.txt.

    Args:
      sampling: the command that makes images, "" where there is none.
      resuming: the command that goes on with the run; default: the one that started this process.
      folder: where they are written, if workdir does not stand under its name yet.
    Returns:
      a line where a README.txt is left as it is, since somebody has written in it.
    Raises:
      UserError: the folder can't be made or written to.
    """
    folder = folder or workdir
    if not _is_marked(folder):
        write_json(folder / MARK, _MARKED)
    write_json(folder / "config.json", to_dict(config))
    readme = folder / "README.txt"
    if readme.exists() and not _is_our_text(readme):
        return [f"{readme} has lines that this program did not write: it is left as it is"]
    images = SAMPLING.format(command=sampling, load=repr(str(workdir))) if sampling else ""
    board = command("tensorboard", "--logdir", workdir / "tensorboard")
    report = own_command("report", workdir, "--out", "report.html")
    train = resuming or this_command()
    text = README.format(name=shown(config.name), board=board, report=report, train=train, images=images)
    write_whole(readme, lambda p: p.write_text(text, encoding="utf-8"))
    return []


def _is_our_text(readme: Path) -> bool:
    """Whether each line of a README.txt is one of those that `prepare` writes, whatever their commands."""
    try:
        lines = readme.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    shapes = [re.sub(r"\\{\w+\\}", ".*", re.escape(line)) for line in (README + SAMPLING).splitlines()]
    return all(any(re.fullmatch(shape, line) for shape in shapes if shape != ".*") for line in lines)


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


def sample_command(workdir: Path, gan: str | None = None) -> str:
    """The command that draws a grid from a run's newest checkpoint; gan: what it was trained with as --gan."""
    named = [] if gan is None else ["--gan", gan]
    return own_command("sample", workdir, *named, "--grid", "grid.png")


def training_command(config: TrainConfig, workdir: Path, framework: Framework = "jax") -> str:
    """The command that goes on with a run: its preset, and each option in which its config differs from that."""
    base = presets.preset(config.name if config.name in presets.names() else "fashion")
    of_base, own = flatten(base), flatten(config)
    changed = {name: value for name, value in own.items() if value != of_base[name]}
    options = [
        f"--{name.replace('_', '-')}={str(v).lower() if isinstance(v, bool) else v}" for name, v in changed.items()
    ]
    name = {"jax": "train", "torch": "torch"}[framework]
    return own_command(name, base.name, *options, f"--workdir={workdir}", "--resume=must")


README = """\
A run of jax-sngan, preset {name}.

To go on where it stopped:    {train}
{images}
config.json      every option that decides the numbers
metrics.jsonl    one line a log: step, losses, mean scores of real and generated images
samples/         grids of the averaged generator, always from the same latents
checkpoints/     one folder a step
tensorboard/     the same numbers: {board}

At its end samples/training.gif shows the grids over the whole training.
All of it on one page:        {report}
run.json         marks this folder as a run's
"""
SAMPLING = """\
To make images:               {command}
From Python:                  import jax_sngan; jax_sngan.load({load}).sample(64)
"""
