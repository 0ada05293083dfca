"""Folders and archives of image files: which images a split holds, their classes, and a cache of the result."""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jax_sngan import archives, resize
from jax_sngan.downloads import whole_file
from jax_sngan.errors import UserError

SPLITS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
LARGEST_IMAGE = 2**26  # bytes of one image file
CACHE_VERSION = 1  # goes up whenever the same files would give other pixels
CHUNK = 64  # images whose files wait in memory to be decoded


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


def load(
    path: Path, *, image_size: int, channels: int, split: str, cache: Path, progress: bool = True
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """All images of a folder, or of a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip of one.

    The result is kept in `cache`, under a key of the path, every file's size and time, and the options; a second call
    reads it back. What cannot be written there is only not kept.

    Args:
      path: the folder or archive; arrange() says how it may be laid out.
      image_size: pixels a side; images are cropped square and resized.
      channels: 1 or 3.
      split: "train" or "test".
      cache: folder for the result.
      progress: show a bar.
    Returns:
      uint8 [n, image_size, image_size, channels], int32 [n], names of the classes.
    Raises:
      UserError: no images, one that cannot be read, a damaged archive, or more than fits into memory.
    """
    stamps = _stamps(path)
    key = json.dumps([CACHE_VERSION, str(path.resolve()), image_size, channels, split, sorted(stamps.items())])
    cached = cache / f"{path.name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if (kept := _read_cache(cached)) is not None:
        return kept
    names = _archive_names(path, progress) if path.is_file() else list(stamps)
    if len(set(names)) != len(names):
        raise UserError(f"{path} holds two files of one name")
    listing = arrange([name for name in names if is_image(name)], split, str(path))
    images = _decode(path, listing, image_size, channels, progress)
    try:
        with whole_file(cached) as f:
            np.savez(f, images=images, labels=listing.labels, classes=np.array(listing.classes, dtype=np.str_))
    except OSError as e:
        print(f"note: {cached} cannot be written ({e.strerror}); next time the images are read anew", file=sys.stderr)
    return images, listing.labels, listing.classes


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


def _read_cache(cached: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
    try:
        with open(cached, "rb") as f, np.load(f, allow_pickle=False) as kept:
            return kept["images"], kept["labels"], tuple(str(name) for name in kept["classes"])
    except Exception:  # absent, or damaged in any way: it is made anew
        return None


def _decode(path: Path, listing: Listing, image_size: int, channels: int, progress: bool) -> np.ndarray:
    """uint8 [n, image_size, image_size, channels] in the listing's order."""
    shape = (len(listing.names), image_size, image_size, channels)
    if (needed := int(np.prod(shape, dtype=np.int64))) > archives.memory() // 2:
        raise UserError(f"{path}: {shape[0]} images of {image_size} pixels need {needed / 2**30:.0f} GiB of memory")
    images = np.empty(shape, np.uint8)
    place = {name: i for i, name in enumerate(listing.names)}
    files = _archive_files(path, place) if path.is_file() else _folder_files(path, listing.names)

    def decode(item: tuple[str, bytes]) -> None:
        name, data = item
        images[place[name]] = resize.decode(data, str(path / name), image_size, channels)

    bar = tqdm(
        total=len(place),
        desc=f"images of {path.name}",
        unit="image",
        mininterval=0.5,
        disable=None if progress else True,
    )
    with (
        bar,
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,  # Pillow decodes and resizes outside the GIL
    ):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # resize.decode has a lower limit
        while chunk := list(islice(files, CHUNK)):
            for _ in pool.map(decode, chunk):
                bar.update()
    return images


def _folder_files(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            with open(path / name, "rb") as f:
                data = f.read(LARGEST_IMAGE + 1)
        except OSError as e:
            raise UserError(f"image {str(path / name)!r} cannot be read: {e.strerror}") from e
        if len(data) > LARGEST_IMAGE:
            raise UserError(f"image {str(path / name)!r} has more than {LARGEST_IMAGE} bytes")
        yield name, data


def _archive_files(path: Path, wanted: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    for name, data in archives.members(path, wanted.__contains__, LARGEST_IMAGE):
        if data is not None:
            yield name, data
