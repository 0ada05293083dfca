"""Folders and archives of image files: which images a split holds, their classes, and whether they are decoded into
memory, with a cache of the result, or stay on disk (streams.py)."""

import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jax_sngan import archives, machine, resize
from jax_sngan.errors import UserError
from jax_sngan.files import whole_file
from jax_sngan.streams import Files, ImageArray, StreamedImages

SPLITS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
LARGEST_IMAGE = 2**26  # bytes of one image file
CACHE_VERSION = 2  # goes up whenever the same files would give other pixels
CHUNK = 64  # images whose files wait in memory to be decoded
MEMORY_SHARE = 2  # decoded images may take the machine's memory divided by this

Stream = Literal["auto", "always", "never"]  # auto: where they would take more


@dataclass(frozen=True)
class Listing:
    """The images of one split, in an order that depends on their names alone."""

    names: tuple[str, ...]  # relative to the folder or archive, sorted
    labels: np.ndarray  # int32 [n]
    classes: tuple[str, ...]  # () where the images lie in no class folders


def arrange(names: list[str], split: str, where: str) -> Listing:
    """Choose the images of a split and read their classes from their folders.

    A folder that holds all the rest counts as a wrapping and is looked through. If what is left are folders called
    train and test (or val, valid, validation) and nothing else, they are the splits; without them every image is
    training data. Below that, two or more sub-folders that together hold every image are the classes.

    Args:
      names: every image's path with forward slashes, relative to the folder or archive.
      split: "train" or "test".
      where: the folder or archive, for errors.
    Raises:
      UserError: no images, or none of that split.
    """
    if not names:
        raise UserError(f"{where} holds no images; looked for files in {', '.join(resize.SUFFIXES)}")
    known = {name for group in SPLITS.values() for name in group}
    paths = _unwrapped([tuple(name.split("/")) for name in sorted(names)], keep=known)
    order = dict(zip(sorted(names), paths, strict=True))
    tops = {path[0] for path in paths}
    if tops <= known and all(len(path) > 1 for path in paths):
        chosen = next((top for top in SPLITS[split] if top in tops), None)
        if chosen is None:
            raise UserError(f"{where} has no {' or '.join(SPLITS[split])} folder, only {', '.join(sorted(tops))}")
        order = {name: path[1:] for name, path in order.items() if path[0] == chosen}
        order = dict(zip(order, _unwrapped(list(order.values())), strict=True))
    elif split == "test":
        raise UserError(f"{where} has no test images: none were set apart in a folder test (beside train)")
    tops = {path[0] for path in order.values()}
    if len(tops) > 1 and all(len(path) > 1 for path in order.values()):
        classes = tuple(sorted(tops))
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([number[path[0]] for path in order.values()], np.int32)
    else:
        classes, labels = (), np.zeros(len(order), np.int32)
    return Listing(tuple(order), labels, classes)


def _unwrapped(paths: list[tuple[str, ...]], keep: set[str] | frozenset[str] = frozenset()) -> list[tuple[str, ...]]:
    """The paths without the folders that all of them share, as far as those are not in keep."""
    while len({path[0] for path in paths}) == 1 and paths[0][0] not in keep and all(len(path) > 1 for path in paths):
        paths = [path[1:] for path in paths]
    return paths


def is_image(name: str) -> bool:
    """Whether a path is an image by its ending, and neither hidden nor one of macOS's shadows."""
    parts = name.split("/")
    return name.lower().endswith(resize.SUFFIXES) and not any(p.startswith((".", "__MACOSX")) for p in parts)


class Loaded(NamedTuple):
    """The images of a split."""

    images: ImageArray  # uint8 [n, image_size, image_size, channels]
    labels: np.ndarray  # int32 [n]
    classes: tuple[str, ...]
    files: str  # SHA-256 of the size, and of each image's label and file in their order


def load(
    path: Path,
    *,
    image_size: int,
    channels: int,
    split: str,
    cache: Path,
    progress: bool = True,
    stream: Stream = "auto",
) -> Loaded:
    """All images of a folder, or of a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip of one.

    What is decoded into memory is kept in `cache`, under a key of the path, every file's size and time, and the
    options; a second call reads it back. Of a stream only the checksum of its files is kept. What cannot be written
    there is only not kept.

    Args:
      path: the folder or archive; arrange() says how it may be laid out.
      image_size: pixels a side; images are cropped square and resized.
      channels: 1 or 3.
      split: "train" or "test".
      cache: folder for the result.
      progress: show a bar.
      stream: whether the images stay on disk.
    Raises:
      UserError: no images, one that cannot be read, a damaged archive, or more than fits into memory and no stream.
    """
    stamps = _stamps(path)
    key = json.dumps([CACHE_VERSION, str(path.resolve()), image_size, channels, split, sorted(stamps.items())])
    kept = cache / f"{path.name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    if stream != "always" and (found := _read_cache(kept.with_name(f"{kept.name}.npz"))) is not None:
        return found
    names = _archive_names(path, progress) if path.is_file() else list(stamps)
    if len(set(names)) != len(names):
        raise UserError(f"{path} holds two files of one name")
    listing = arrange([name for name in names if is_image(name)], split, str(path))
    needed = len(listing.names) * image_size * image_size * channels
    fits = needed <= machine.memory() // MEMORY_SHARE
    if stream == "always" or (stream == "auto" and not fits):
        return _streamed(path, listing, image_size, channels, kept.with_name(f"{kept.name}.sha256"), progress)
    if not fits:
        raise UserError(
            f"{path}: {len(listing.names)} images of {image_size} pixels need {needed / 2**30:.0f} GiB of memory; "
            "--stream auto leaves them on disk"
        )
    images, files = _decode(path, listing, image_size, channels, progress)
    target = kept.with_name(f"{kept.name}.npz")
    classes = np.array(listing.classes, dtype=np.str_)
    try:
        with whole_file(target) as f:
            np.savez(f, images=images, labels=listing.labels, classes=classes, files=np.array(files))
    except OSError as e:
        print(f"note: {target} cannot be written ({e.strerror}); next time the images are read anew", file=sys.stderr)
    return Loaded(images, listing.labels, listing.classes, files)


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
    """The image files of a folder (streams.Files)."""

    def __init__(self, path: Path, names: tuple[str, ...]):
        self.path, self._names = path, _Names(names)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, row: int) -> tuple[str, bytes]:
        """See streams.Files."""
        full = str(self.path / self._names[row])
        try:
            with open(full, "rb") as f:
                data = f.read(LARGEST_IMAGE + 1)
        except OSError as e:
            raise UserError(f"image {full!r} cannot be read: {e.strerror}") from e
        if len(data) > LARGEST_IMAGE:
            raise UserError(f"image {full!r} has more than {LARGEST_IMAGE} bytes")
        return full, data


class ArchiveFiles:
    """The image files of a .tar or .zip, read at their places (streams.Files)."""

    def __init__(self, path: Path, names: tuple[str, ...]):
        """Raises UserError as archives.places."""
        self.path, self._names = path, _Names(names)
        found = archives.places(path, set(names).__contains__, LARGEST_IMAGE)
        self._places = np.array([found[name] for name in names], np.int64)  # [n, 5], as archives.Place

    def __len__(self) -> int:
        return len(self._names)

    def read(self, row: int) -> tuple[str, bytes]:
        """See streams.Files."""
        name = self._names[row]
        return str(self.path / name), archives.read_at(self.path, archives.Place(*self._places[row].tolist()), name)


def _streamed(path: Path, listing: Listing, image_size: int, channels: int, kept: Path, progress: bool) -> Loaded:
    """The images left where they are; every file is read once, for the checksum, unless that is kept."""
    if path.is_file() and archives.suffix(path) not in archives.RANDOM_ACCESS:
        raise UserError(
            f"{path} is compressed as a whole and cannot be streamed: unpack it, into a folder or a "
            f"{' or '.join(archives.RANDOM_ACCESS)}"
        )
    files: Files = ArchiveFiles(path, listing.names) if path.is_file() else FolderFiles(path, listing.names)
    try:
        checksum = kept.read_text()
    except OSError:
        checksum = ""
    if not re.fullmatch("[0-9a-f]{64}", checksum):
        rows = _bar(len(files), f"checksum of {path.name}", "file", progress)
        digests: list[bytes] = []
        with rows, ThreadPoolExecutor(min(8, machine.cores())) as pool:  # files are read and hashed outside the GIL
            for start in range(0, len(files), CHUNK):  # the pool would read all files before the first is waited for
                part = range(start, min(start + CHUNK, len(files)))
                digests += pool.map(lambda row: hashlib.sha256(files.read(row)[1]).digest(), part)
                rows.update(len(part))
        checksum = files_checksum(image_size, channels, listing.labels, digests)
        try:
            with whole_file(kept) as f:
                f.write(checksum.encode())
        except OSError as e:
            print(f"note: {kept} cannot be written ({e.strerror}); next time all files are read", file=sys.stderr)
    return Loaded(StreamedImages(files, image_size, channels, str(path)), listing.labels, listing.classes, checksum)


def _bar(total: int, what: str, unit: str, progress: bool) -> tqdm:
    """On a terminal, and where progress is asked for."""
    return tqdm(total=total, desc=what, unit=unit, mininterval=0.5, disable=None if progress else True)


def files_checksum(image_size: int, channels: int, labels: np.ndarray, digests: list[bytes]) -> str:
    """SHA-256, in hexadecimal, of what decides decoded images: the size, labels [n] and each file's SHA-256 [n]."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {image_size} {channels} {len(digests)}".encode())
    digest.update(np.ascontiguousarray(labels, "<i4").data)
    digest.update(b"".join(digests))
    return digest.hexdigest()


def _stamps(path: Path) -> dict[str, tuple[int, int]]:
    """(bytes, nanoseconds of the last change) of the archive, or of each image below the folder."""
    if path.is_file():
        return {"": (path.stat().st_size, path.stat().st_mtime_ns)}
    stamps: dict[str, tuple[int, int]] = {}
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
        for file in files:
            name = file if relative == "." else f"{relative}/{file}"
            if is_image(name) and (full := os.path.join(folder, file)) and os.path.isfile(full):
                status = os.stat(full)
                stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps


def _archive_names(path: Path, progress: bool) -> list[str]:
    """Every file in it; a pass of its own, for which of them are wanted shows only when all are known."""
    listed = tqdm(
        archives.members(path, lambda _: False, 0),
        desc=f"files in {path.name}",
        unit="file",
        disable=None if progress else True,
        leave=False,
    )
    return [name for name, _ in listed]


def _read_cache(cached: Path) -> Loaded | None:
    try:
        if cached.stat().st_size > machine.memory() // MEMORY_SHARE:  # a larger machine wrote it
            return None
        with open(cached, "rb") as f, np.load(f, allow_pickle=False) as kept:
            classes = tuple(str(name) for name in kept["classes"])
            return Loaded(kept["images"], kept["labels"], classes, str(kept["files"]))
    except Exception:  # absent, or damaged in any way: it is made anew
        return None


def _decode(path: Path, listing: Listing, image_size: int, channels: int, progress: bool) -> tuple[np.ndarray, str]:
    """uint8 [n, image_size, image_size, channels] in the listing's order, and the files' checksum."""
    images = np.empty((len(listing.names), image_size, image_size, channels), np.uint8)
    digests = [b""] * len(images)
    place = {name: i for i, name in enumerate(listing.names)}
    files = _archive_files(path, place) if path.is_file() else _folder_files(path, listing.names)

    def decode(item: tuple[int, str, bytes]) -> None:
        row, name, data = item
        images[row] = resize.decode(data, name, image_size, channels)
        digests[row] = hashlib.sha256(data).digest()

    bar = _bar(len(place), f"images of {path.name}", "image", progress)
    with (
        bar,
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(8, machine.cores())) as pool,  # Pillow decodes and resizes outside the GIL
    ):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # resize.decode has a lower limit
        while chunk := list(islice(files, CHUNK)):
            for _ in pool.map(decode, chunk):
                bar.update()
    return images, files_checksum(image_size, channels, listing.labels, digests)


def _folder_files(path: Path, names: tuple[str, ...]) -> Iterator[tuple[int, str, bytes]]:
    files = FolderFiles(path, names)
    for row in range(len(files)):
        yield row, *files.read(row)


def _archive_files(path: Path, wanted: dict[str, int]) -> Iterator[tuple[int, str, bytes]]:
    for name, data in archives.members(path, wanted.__contains__, LARGEST_IMAGE):
        if data is not None:
            yield wanted[name], str(path / name), data
