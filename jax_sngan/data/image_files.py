"""The image files of a folder or an archive: which there are, and their contents. Nothing is decoded here."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jax_sngan.data import resize
from jax_sngan.system import archives
from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import open_regular, other_kind

LARGEST_IMAGE = 2**26  # bytes of one image file
NAMED = 5  # of what is passed over, by name


def is_image(name: str) -> bool:
    """Whether a path is an image by its ending, and neither hidden nor one of macOS's shadows."""
    parts = name.split("/")
    return name.lower().endswith(resize.SUFFIXES) and not any(p.startswith((".", "__MACOSX")) for p in parts)


def stamps(path: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """(bytes, nanoseconds of the last change) of the archive, or of each image below the folder; and what has an
    image's name there and is none: a FIFO, a device, a link to nothing, a folder (whose own files are looked at)."""
    if path.is_file():
        return {"": (path.stat().st_size, path.stat().st_mtime_ns)}, {}
    stamps: dict[str, tuple[int, int]] = {}
    others: dict[str, str] = {}
    seen = set()

    def unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}")

    for folder, subfolders, files in os.walk(path, onerror=unreadable, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:  # a link to a folder above would be walked for ever
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        subfolders.sort()
        relative = Path(folder).relative_to(path).as_posix()
        for file in files + subfolders:
            name = file if relative == "." else f"{relative}/{file}"
            if not is_image(name):
                continue
            full = os.path.join(folder, file)
            if (kind := other_kind(full)) is not None:
                others[name] = kind
                continue
            status = os.stat(full)
            stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps, others


def tell_passed_over(path: Path, others: dict[str, str]) -> None:
    """A line on stderr for what is not read, where there is any."""
    if others:
        told = [f"{name!r} is {kind}" for name, kind in list(others.items())[:NAMED]]
        more = f", and {len(others) - NAMED} more" if len(others) > NAMED else ""
        print(f"note: {path}: passed over, for they are no files: {', '.join(told)}{more}", file=sys.stderr)


def first_image(folder: Path) -> tuple[str, bytes] | None:
    """The name and contents of the image of a folder whose path comes first; None if there is none.

    Raises:
      UserError: it can't be read.
    """
    names = sorted(stamps(folder)[0])
    return FolderFiles(folder, (names[0],)).read(0) if names else None


def archive_names(path: Path, progress: bool) -> list[str]:
    """Every file in it; a pass of its own, for which of them are wanted shows only when all are known."""
    listed = tqdm(
        archives.members(path, lambda _: False, 0),
        desc=f"files in {path.name}",
        unit="file",
        disable=None if progress else True,
        leave=False,
    )
    return [name for name, _ in listed]


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

    def __init__(self, path: Path, names: tuple[str, ...]):
        """Raises UserError as archives.places."""
        self.path, self._names = path, _Names(names)
        found = archives.places(path, set(names).__contains__, LARGEST_IMAGE)
        self._places = np.array([found[name] for name in names], np.int64)  # [n, 5], as archives.Place

    def __len__(self) -> int:
        return len(self._names)

    def read(self, row: int) -> tuple[str, bytes]:
        """See streaming.Files."""
        name = self._names[row]
        return str(self.path / name), archives.read_at(self.path, archives.Place(*self._places[row].tolist()), name)


def in_order(path: Path, names: tuple[str, ...]) -> Iterator[tuple[int, str, bytes]]:
    """(row, what to call it in an error, contents) of each name, in the order in which they are read best.

    Raises:
      UserError: one can't be read, or the archive is damaged.
    """
    if path.is_file():
        wanted = {name: row for row, name in enumerate(names)}
        for name, data in archives.members(path, wanted.__contains__, LARGEST_IMAGE):
            if data is not None:
                yield wanted[name], str(path / name), data
        return
    files = FolderFiles(path, names)
    for row in range(len(files)):
        yield row, *files.read(row)
