"""Writing files so that a reader never meets half of one."""

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import check_local

# What a run writes into its workdir, beside samples/000100.png, and reads again.
RUN_FILES = ("run.json", "checkpoints", "config.json", "metrics.jsonl", "README.txt", "tensorboard")
ANIMATION = "training.gif"  # in samples/, of the whole training
_TEMPORARY = ".jax-sngan-{}-{}"  # drawn digits, the name that it will have


def temporary_for(name: str) -> str | None:
    """The name of the file that a temporary one of ours would become; None of any other file's name."""
    found = re.fullmatch(_TEMPORARY.format("[0-9a-f]{8}", "(.+)"), name)
    return found[1] if found else None


def sync(path: Path) -> None:
    """Returns once a file's contents, or a folder's list of names, would outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have none of folders
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """sync of every file and folder below a folder, and of itself; each folder after what it lists."""

    def fail(error: OSError) -> None:
        raise error

    for here, _, names in os.walk(folder, topdown=False, onerror=fail):
        for name in names:
            sync(Path(here, name))
        sync(Path(here))


def make_folder(folder: Path) -> None:
    """The folder and those above it, where they are not there; a power cut does not take them away again."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync(made.parent)


def remove_folder(folder: Path) -> None:
    """Removes a folder that has a name which counts: it loses the name first, and then what is in it.

    So that one which is half removed, whenever that ends, stands under STEP.deleting and is taken for nothing.
    """
    doomed = rename_aside(folder, "deleting")
    sync(folder.parent)
    shutil.rmtree(doomed)


def rename_aside(path: Path, ending: str) -> Path:
    """Renames NAME to NAME.ending, or NAME.ending-2 and so on where that is taken; returns the new path."""
    aside, n = path.with_name(f"{path.name}.{ending}"), 1
    while aside.exists() or aside.is_symlink():
        n += 1
        aside = path.with_name(f"{path.name}.{ending}-{n}")
    path.rename(aside)
    return aside


def _temporary(path: Path) -> Path:
    return path.with_name(_TEMPORARY.format(secrets.token_hex(4), path.name))


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary file of path's ending in its folder; takes path's place when the block ends, is gone if it raises.

    Its contents are on the disk before it has the name, and the name before this returns: after a power cut there is
    the old file or the new one. Who may read it is what the umask says.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:  # Ctrl-C too leaves nothing behind
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Calls write(temporary path of the same ending in the same folder), then puts the result in place of path.

    Raises:
      UserError: the folder can't be made or written to.
    """
    try:
        with _beside(Path(path)) as temporary:
            write(temporary)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """The same as an open file, for what can be had again: whoever asks decides what it means that it can't be kept.

    Yields:
      a binary file, open for writing; on disk when the block has ended.
    Raises:
      OSError: the folder can't be made or written to.
    """
    with _beside(path) as temporary, open(temporary, "wb") as file:
        yield file


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside path to fill; takes path's place when the block ends, and is removed if it raises.

    Raises:
      UserError: path exists and is no empty folder, or can't be made.
    """
    path = Path(path)
    check_unused(path)
    filling = _temporary(path)
    try:
        make_folder(path.parent)
        filling.mkdir()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield filling
        try:
            sync_tree(filling)
            os.replace(filling, path)
            sync(path.parent)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise


def check_unused(path: Path) -> None:
    """Passes where nothing stands at path, or an empty folder.

    Raises:
      UserError: something does.
    """
    check_local(path, "a new folder")
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UserError(f"{path} exists and is not an empty folder; give another name")


def check_output(path: Path, *endings: str, always: bool = False) -> None:
    """Passes where a result may be written to path; asked before the work begins.

    Args:
      endings: those of the kind of file that it will be. A file that is there is only replaced by one of its kind.
      always: a new file's name must have one of them too.
    Raises:
      UserError: it is a folder or no file, stands under a file or where one may not write, has another ending, or is
        one that a run lives by.
    """
    check_local(path, "a file to write")
    kind = path.suffix.lower() in endings
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is no file")
    if not kind and (always or path.exists()):
        there = "" if always else " is there already and"
        raise UserError(f"{path}{there} does not end in {' or '.join(endings)}; give another name")
    folder = next(p for p in path.absolute().parents if p.exists())
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: {folder} is a file")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not tell: root has all, also in /proc
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    for run in path.resolve().parents:
        if (run / "checkpoints").is_dir() and (run / "config.json").is_file():
            first, *rest = path.resolve().relative_to(run).parts
            if first in RUN_FILES or (first == "samples" and rest and Path(rest[-1]).stem.isdigit()):
                raise UserError(f"{path} belongs to the run in {run}; give another name")


def write_json(path: str | Path, value: Any) -> None:
    """value as indented JSON; path "-" is standard output."""
    text = json.dumps(value, indent=2) + "\n"
    if str(path) == "-":
        print(text, end="")
    else:
        write_whole(path, lambda p: p.write_text(text))


def read_json(path: str | Path) -> Any:
    """The value of a JSON file.

    Raises:
      UserError: it is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
