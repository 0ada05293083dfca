"""The files of a folder or an archive: which there are, and the contents of its images. Nothing is decoded here."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jax_sngan.data.labels_file import LABELS_FILE
from jax_sngan.data.layout import is_hidden, is_image
from jax_sngan.system import archives
from jax_sngan.system.archive_links import NoFiles, resolve
from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import open_regular, other_kind

LARGEST_IMAGE = 2**26  # bytes of one image file
MOST_VISITS = 64  # of one folder, by links to it: links to links to it could make any number


class Contents(NamedTuple):
    """All that is in a folder or archive."""

    names: list[str]  # of every file, with forward slashes
    stamps: dict[str, tuple[int, int]]  # (bytes, nanoseconds of the last change) of what decides the images
    others: dict[str, str]  # what is no file, nor a folder of another name than an image's -> what it is
    links: dict[str, str]  # names of an archive that stand for another of its files -> that
    labels_file: bytes | None  # StyleGAN2-ADA's dataset.json


def stamps_of(path: Path) -> dict[str, tuple[int, int]]:
    """Contents.stamps of an archive, which is not opened."""
    status = path.stat()
    return {"": (status.st_size, status.st_mtime_ns)}


def contents(path: Path, progress: bool = False) -> Contents:
    """What is in a folder or an archive; of an archive that takes a pass of its own.

    Raises:
      UserError: it can't be read, an archive is damaged or holds two files of one name, or links lead round and round.
    """
    found = _folder(path) if path.is_dir() else _archive(path, progress)
    if len(set(found.names)) != len(found.names):
        raise UserError(f"{path} holds two files of one name")
    return found


def _archive(path: Path, progress: bool) -> Contents:
    others, labels_file, names = NoFiles(), None, []
    listed = tqdm(
        archives.members(path, _is_labels_file, LARGEST_IMAGE, others),
        desc=f"files in {path.name}",
        unit="file",
        disable=None if progress else True,
        leave=False,
    )
    at = ""
    for name, data in listed:
        names.append(name)
        if data is not None and (labels_file is None or name.count("/") < at.count("/")):
            at, labels_file = name, data
    links = resolve(names, others)
    return Contents([*names, *links], stamps_of(path), others.kinds, links, labels_file)


def _is_labels_file(name: str) -> bool:
    return name.rpartition("/")[2] == LABELS_FILE and not is_hidden(name)


def _folder(path: Path) -> Contents:
    found = Contents([], {}, {}, {}, None)
    visits = Counter[tuple[int, int]]()
    waiting: list[_Place] = [(path, "", ())]
    while waiting:
        waiting += _look(*waiting.pop(), found, visits)
    there = [name for name in found.names if _is_labels_file(name)]
    if not there:
        return found
    name = min(there, key=lambda n: n.count("/"))
    status = os.stat(path / name)
    found.stamps[name] = (status.st_size, status.st_mtime_ns)
    return found._replace(labels_file=FolderFiles(path, (name,)).read(0)[1])


_Place = tuple[Path, str, tuple[tuple[int, int], ...]]  # a folder, its name with a slash, the folders that it lies in


def _look(
    folder: Path, below: str, above: tuple[tuple[int, int], ...], found: Contents, visits: Counter[tuple[int, int]]
) -> list[_Place]:
    """Adds what is in a folder; returns the folders in it, links to folders among them."""
    try:
        here = os.stat(folder)
        entries = list(os.scandir(folder))
    except OSError as error:
        if is_hidden(below.rstrip("/")):  # a lost+found is root's alone
            found.others[below] = "not to be looked at"
            return []
        raise UserError(f"{error.filename or folder} cannot be read: {error.strerror}") from error
    key = (here.st_dev, here.st_ino)
    visits[key] += 1
    if visits[key] > MOST_VISITS:
        raise UserError(f"{folder}: more than {MOST_VISITS} links lead to the same folder")
    inside: list[_Place] = []
    for entry in entries:
        name = f"{below}{entry.name}"
        kind = None if entry.is_file(follow_symlinks=False) else other_kind(entry.path)
        if kind == "a folder":
            if entry.is_symlink() and _key(entry.path) in (*above, key):
                found.others[name] = "a link to a folder above"
                continue
            if is_image(name):
                found.others[name] = kind
            inside.append((Path(entry.path), f"{name}/", (*above, key)))
        elif kind is not None:
            found.others[name] = kind
        else:
            found.names.append(name)
            if is_image(name):
                status = entry.stat()
                found.stamps[name] = (status.st_size, status.st_mtime_ns)
    return inside


def _key(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


class _Names:
    """Names as one string of bytes: there may be millions, and every worker has them."""

    def __init__(self, names: tuple[str, ...]):
        encoded = [os.fsencode(name) for name in names]
        self._bytes, self._ends = b"".join(encoded), np.cumsum([len(name) for name in encoded])

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        return os.fsdecode(self._bytes[self._ends[row - 1] if row else 0 : self._ends[row]])


class FolderFiles:
    """The image files of a folder (streaming.Files)."""

    def __init__(self, path: Path, names: tuple[str, ...]):
        self.path, self._names = path, _Names(names)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, row: int) -> tuple[str, bytes]:
        """See streaming.Files."""
        full = str(self.path / self._names[row])
        try:
            with open_regular(full) as f:
                data = f.read(LARGEST_IMAGE + 1)
        except OSError as e:
            raise UserError(f"image {full!r} cannot be read: {e.strerror}") from e
        if len(data) > LARGEST_IMAGE:
            raise UserError(f"image {full!r} has more than {LARGEST_IMAGE} bytes")
        return full, data


class ArchiveFiles:
    """The image files of a .tar or .zip, read at their places (streaming.Files)."""

    def __init__(self, path: Path, names: tuple[str, ...], links: dict[str, str]):
        """links: of Contents. Raises UserError as archives.places."""
        self.path, self._names = path, _Names(names)
        real = [links.get(name, name) for name in names]
        found = archives.places(path, set(real).__contains__, LARGEST_IMAGE)
        self._places = np.array([found[name] for name in real], np.int64)  # [n, 5], as archives.Place

    def __len__(self) -> int:
        return len(self._names)

    def read(self, row: int) -> tuple[str, bytes]:
        """See streaming.Files."""
        name = self._names[row]
        return str(self.path / name), archives.read_at(self.path, archives.Place(*self._places[row].tolist()), name)


def in_order(path: Path, names: tuple[str, ...], links: dict[str, str]) -> Iterator[tuple[int, str, bytes | UserError]]:
    """(row, what to call it in an error, contents or why there are none) of each name, in the best order to read them.

    Raises:
      UserError: the archive is damaged.
    """
    if not path.is_dir():
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(links.get(name, name), []).append(row)
        for name, data in archives.members(path, rows.__contains__, LARGEST_IMAGE, NoFiles()):
            if data is not None:
                for row in rows[name]:
                    yield row, str(path / names[row]), data
        return
    files = FolderFiles(path, names)
    for row in range(len(files)):
        try:
            yield row, *files.read(row)
        except UserError as error:
            yield row, str(path / names[row]), error
