"""Folders and archives of image files: which images a split holds, their classes, and whether they are decoded into
memory, with a cache of the result, or stay on disk (data/streaming.py)."""

import hashlib
import json
import re
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jax_sngan.data import image_files, resize
from jax_sngan.data.streaming import Files, ImageArray, StreamedImages
from jax_sngan.system import archives, machine
from jax_sngan.system.budget import Budget
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import whole_file
from jax_sngan.system.npz import read_whole_npz

SPLITS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
CACHE_VERSION = 2  # goes up whenever the same files would give other pixels
CHUNK = 64  # images whose files wait in memory to be decoded; fewer where they have more than CHUNK_BYTES
CHUNK_BYTES = 2**28
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


class Loaded(NamedTuple):
    """The images of a split."""

    images: ImageArray  # uint8 [n, image_size, image_size, channels]
    labels: np.ndarray  # int32 [n]
    classes: tuple[str, ...]
    files: str  # SHA-256 of the size, and of each image's label and file in their order


def load_folder(
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
    stamps, others = image_files.stamps(path)
    image_files.tell_passed_over(path, others)
    key = json.dumps([CACHE_VERSION, str(path.resolve()), image_size, channels, split, sorted(stamps.items())])
    kept = cache / f"{path.name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    if stream != "always" and (found := _read_cache(kept.with_name(f"{kept.name}.npz"))) is not None:
        return found
    names = image_files.archive_names(path, progress) if path.is_file() else list(stamps)
    if len(set(names)) != len(names):
        raise UserError(f"{path} holds two files of one name")
    listing = arrange([name for name in names if image_files.is_image(name)], split, str(path))
    needed = len(listing.names) * image_size * image_size * channels
    fits = needed <= machine.memory() // MEMORY_SHARE
    if stream == "always" or (stream == "auto" and not fits):
        return _streamed(path, listing, image_size, channels, kept.with_name(f"{kept.name}.sha256"), progress)
    if not fits:
        raise UserError(
            f"{path}: {len(listing.names)} images of {image_size} pixels need {needed / 2**30:.0f} GiB of memory; "
            "--stream auto leaves them on disk"
        )
    budget = Budget(path, sum(size for size, _ in stamps.values()))
    images, files = _decode(path, listing, image_size, channels, budget, progress)
    target = kept.with_name(f"{kept.name}.npz")
    classes = np.array(listing.classes, dtype=np.str_)
    try:
        with whole_file(target) as f:
            np.savez(f, images=images, labels=listing.labels, classes=classes, files=np.array(files))
    except OSError as e:
        print(f"note: {target} cannot be written ({e.strerror}); next time the images are read anew", file=sys.stderr)
    return Loaded(images, listing.labels, listing.classes, files)


def _streamed(path: Path, listing: Listing, image_size: int, channels: int, kept: Path, progress: bool) -> Loaded:
    """The images left where they are; every file is read once, for the checksum, unless that is kept."""
    if path.is_file() and archives.suffix(path) not in archives.RANDOM_ACCESS:
        raise UserError(
            f"{path} is compressed as a whole and cannot be streamed: unpack it, into a folder or a "
            f"{' or '.join(archives.RANDOM_ACCESS)}"
        )
    files: Files = (
        image_files.ArchiveFiles(path, listing.names)
        if path.is_file()
        else image_files.FolderFiles(path, listing.names)
    )
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


def _read_cache(cached: Path) -> Loaded | None:
    try:
        if cached.stat().st_size > machine.memory() // MEMORY_SHARE:  # a larger machine wrote it
            return None
        kept = read_whole_npz(cached)
        classes = tuple(str(name) for name in kept["classes"])
        return Loaded(kept["images"], kept["labels"], classes, str(kept["files"]))
    except Exception:  # absent, or damaged in any way: it is made anew
        return None


def _decode(
    path: Path, listing: Listing, image_size: int, channels: int, budget: Budget, progress: bool
) -> tuple[np.ndarray, str]:
    """uint8 [n, image_size, image_size, channels] in the listing's order, and the files' checksum."""
    images = np.empty((len(listing.names), image_size, image_size, channels), np.uint8)
    digests = [b""] * len(images)
    files = image_files.in_order(path, listing.names)

    def decode(item: tuple[int, str, bytes]) -> None:
        row, name, data = item
        images[row] = resize.decode(data, name, image_size, channels, budget)
        digests[row] = hashlib.sha256(data).digest()

    bar = _bar(len(images), f"images of {path.name}", "image", progress)
    with (
        bar,
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(8, machine.cores())) as pool,  # Pillow decodes and resizes outside the GIL
    ):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # resize.decode has a lower limit
        for chunk in _chunks(files):
            for _ in pool.map(decode, chunk):
                bar.update()
    return images, files_checksum(image_size, channels, listing.labels, digests)


def _chunks(files: Iterator[tuple[int, str, bytes]]) -> Iterator[list[tuple[int, str, bytes]]]:
    """Files in lists of CHUNK and of CHUNK_BYTES at most; one larger than that is a list of its own."""
    chunk: list[tuple[int, str, bytes]] = []
    waiting = 0
    for item in files:
        if len(chunk) == CHUNK or waiting + len(item[2]) > CHUNK_BYTES:
            yield chunk
            chunk, waiting = [], 0
        chunk.append(item)
        waiting += len(item[2])
    yield chunk
