"""Folders and archives of image files: decoded into memory, with a cache of the result, or left on disk
(data/streaming.py). Which images they hold is decided in data/layout.py."""

import hashlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jax_sngan.data import file_digests, image_files, resize
from jax_sngan.data.file_digests import Digests
from jax_sngan.data.image_formats import looks_cut
from jax_sngan.data.layout import Layout, arrange
from jax_sngan.data.streaming import Files, ImageArray, StreamedImages
from jax_sngan.system import archives, machine
from jax_sngan.system.budget import Budget
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import whole_file
from jax_sngan.system.npz import read_whole_npz
from jax_sngan.system.terminal import listed, shown

CACHE_VERSION = 4  # goes up whenever the same files would give other pixels, or what is kept has another form
CHUNK = 64  # images whose files wait in memory to be decoded; fewer where they have more than CHUNK_BYTES
CHUNK_BYTES = 2**28
MEMORY_SHARE = 2  # decoded images may take the machine's memory divided by this
NAMED = 20  # broken images by name

Stream = Literal["auto", "always", "never"]  # auto: where they would take more
Broken = dict[int, str]  # row -> why it cannot be read


class Loaded(NamedTuple):
    """The images of a split."""

    images: ImageArray  # uint8 [n, image_size, image_size, channels]
    layout: Layout  # labels and classes; of what came from the cache without names
    files: str  # SHA-256 of the size, and of each image's label and file in their order
    digests: np.ndarray  # uint8 [n, 32], SHA-256 of each image's file


def load_folder(
    path: Path,
    *,
    image_size: int,
    channels: int,
    split: str,
    cache: Path,
    progress: bool = True,
    stream: Stream = "auto",
    skip_broken: bool = False,
) -> Loaded:
    """All images of a folder, or of a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip of one.

    What is decoded into memory is kept in `cache`, under a key of the path, every file's size and time, and the
    options; a second call reads it back. Of a stream only the checksums of its files are kept. What cannot be written
    there is only not kept.

    Args:
      path: the folder or archive; data/layout.py says how it may be laid out.
      image_size: pixels a side; images are cropped square and resized.
      channels: 1 or 3.
      split: "train" or "test".
      cache: folder for the result.
      progress: show a bar.
      stream: whether the images stay on disk. Then each file is read once, and its headers and its end are looked at.
      skip_broken: images that cannot be read are left out; of a stream too each is decoded once to know them.
    Raises:
      UserError: no images, some that cannot be read (all are named), a damaged archive, or more than fits into memory
        and no stream.
    """
    found = image_files.contents(path) if path.is_dir() else None
    layout = None if found is None else _arranged(found, split, path)
    stamps = image_files.stamps_of(path) if found is None else found.stamps
    given = [str(path.resolve()), image_size, channels, split, skip_broken, sorted(stamps.items())]
    key = hashlib.sha256(json.dumps([CACHE_VERSION, *given]).encode()).hexdigest()[:24]
    kept = cache / f"{path.name}-{key}"
    if stream != "always" and (cached := _read_cache(kept.with_name(f"{kept.name}.npz"), layout)) is not None:
        return cached
    if found is None or layout is None:
        found = image_files.contents(path, progress)
        layout = _arranged(found, split, path)
    needed = len(layout.names) * image_size * image_size * channels
    fits = needed <= machine.memory() // MEMORY_SHARE
    if stream == "always" or (stream == "auto" and not fits):
        return _streamed(
            path, layout, found.links, image_size, channels, kept.with_name(f"{kept.name}.json"), progress, skip_broken
        )
    if not fits:
        raise UserError(
            f"{path}: {len(layout.names)} images of {image_size} pixels need {needed / 2**30:.0f} GiB of memory; "
            "--stream auto leaves them on disk"
        )
    budget = Budget(path, sum(size for size, _ in stamps.values()))
    images, digests, broken = _decode(path, layout.names, found.links, image_size, channels, budget, progress)
    rows = _sound(broken, layout, str(path), skip_broken)
    layout = layout.without(broken)
    loaded = _loaded(images[rows] if broken else images, layout, digests[rows], image_size, channels, cache)
    target = kept.with_name(f"{kept.name}.npz")
    about = json.dumps(layout.about())
    arrays = {"images": loaded.images, "labels": layout.labels, "classes": np.array(layout.classes, dtype=np.str_)}
    try:
        with whole_file(target) as f:
            np.savez(f, **arrays, files=loaded.files, digests=loaded.digests, about=about)  # type: ignore[arg-type]
    except OSError as e:
        print(f"note: {target} cannot be written ({e.strerror}); next time the images are read anew", file=sys.stderr)
    return loaded


def sizes(path: Path, split: str, progress: bool = False) -> Counter[tuple[int, int]]:
    """How many images of a split have which (pixels of the shorter side, channels), by their headers alone.

    Images whose headers cannot be read are not counted; load_folder names them.

    Raises:
      UserError: as load_folder, of what the names tell, or a damaged archive.
    """
    found = image_files.contents(path, progress)
    layout = _arranged(found, split, path)

    def size(item: tuple[int, str, bytes | UserError]) -> tuple[int, int] | None:
        try:
            return None if isinstance(item[2], UserError) else resize.size_of(item[2], item[1])
        except resize.BrokenImage:
            return None

    counted = Counter[tuple[int, int]]()
    with ThreadPoolExecutor(min(8, machine.cores())) as pool, _silent():
        for chunk in _chunks(image_files.in_order(path, layout.names, found.links)):
            counted.update(one for one in pool.map(size, chunk) if one is not None)
    return counted


def _arranged(found: image_files.Contents, split: str, path: Path) -> Layout:
    return arrange(found.names, split, str(path), others=found.others, labels=found.labels_file)


def _loaded(
    images: ImageArray, layout: Layout, digests: np.ndarray, image_size: int, channels: int, cache: Path
) -> Loaded:
    checksum = file_digests.keep(cache, Digests(image_size, channels, layout.labels, digests))
    return Loaded(images, layout, checksum, digests)


def _sound(broken: Broken, layout: Layout, where: str, skip: bool) -> np.ndarray:
    """The rows of the images that can be read.

    Raises:
      UserError: there are others and they are not to be left out, or there are no others.
    """
    total = len(layout.names)
    if broken and (not skip or len(broken) == total):
        if len(broken) == 1:
            hint = "; --skip-broken leaves it out" if total > 1 else ""
            raise UserError(next(iter(broken.values())) + hint)
        names = listed([repr(shown(layout.names[row])) for row in sorted(broken)], NAMED)
        hint = "" if len(broken) == total else "; --skip-broken leaves them out"
        first = broken[min(broken)]
        raise UserError(f"{where}: {len(broken)} of {total} images are broken: {names} ({first}){hint}")
    return np.setdiff1d(np.arange(total), list(broken))


def _streamable(path: Path, names: tuple[str, ...], links: dict[str, str]) -> Files:
    """Raises UserError where the files of an archive can't be read one without the others."""
    if path.is_dir():
        return image_files.FolderFiles(path, names)
    if archives.suffix(path) not in archives.RANDOM_ACCESS:
        raise UserError(
            f"{path} is compressed as a whole and cannot be streamed: unpack it, into a folder or a "
            f"{' or '.join(archives.RANDOM_ACCESS)}"
        )
    return image_files.ArchiveFiles(path, names, links)


def _bar(total: int, what: str, unit: str, progress: bool) -> tqdm:
    """On a terminal, and where progress is asked for."""
    return tqdm(total=total, desc=what, unit=unit, mininterval=0.5, disable=None if progress else True)


@contextmanager
def _silent() -> Iterator[None]:
    """Without Pillow's warnings of large images: resize has a lower limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _streamed(
    path: Path,
    layout: Layout,
    links: dict[str, str],
    image_size: int,
    channels: int,
    kept: Path,
    progress: bool,
    skip_broken: bool,
) -> Loaded:
    """The images left where they are; every file is read once, for its checksum and its headers, unless that is kept.

    One that seems cut off is decoded then, and each where broken ones are to be left out: what is not told by now would
    stop the run.
    """
    files = _streamable(path, layout.names, links)
    known = _read_checked(kept, len(files))
    if known is None:

        def look(row: int) -> tuple[bytes, str]:
            try:
                name, data = files.read(row)
                if skip_broken or looks_cut(data):
                    resize.decode(data, name, image_size, channels)
                else:
                    resize.size_of(data, name)
            except UserError as error:
                return bytes(32), str(error)
            return hashlib.sha256(data).digest(), ""

        rows = _bar(len(files), f"checksum of {path.name}", "file", progress)
        seen: list[tuple[bytes, str]] = []
        with rows, _silent(), ThreadPoolExecutor(min(8, machine.cores())) as pool:  # reads and hashes outside the GIL
            for start in range(0, len(files), CHUNK):  # the pool would read all files before the first is waited for
                part = range(start, min(start + CHUNK, len(files)))
                seen += pool.map(look, part)
                rows.update(len(part))
        broken = {row: why for row, (_, why) in enumerate(seen) if why}
        known = np.frombuffer(b"".join(digest for digest, _ in seen), np.uint8).reshape(-1, 32), broken
        sound = _sound(broken, layout, str(path), skip_broken)
        _write_checked(kept, *known)
    digests, broken = known
    sound = _sound(broken, layout, str(path), skip_broken)
    if broken:
        layout = layout.without(broken)
        files = _streamable(path, layout.names, links)
    images = StreamedImages(files, image_size, channels, str(path))
    return _loaded(images, layout, digests[sound], image_size, channels, kept.parent)


def _read_checked(kept: Path, count: int) -> tuple[np.ndarray, Broken] | None:
    """(digests uint8 [n, 32], broken) of a stream's files as they were found before; None where that is not kept."""
    try:
        told = json.loads(kept.read_text())
        digests = np.frombuffer(bytes.fromhex(told["digests"]), np.uint8).reshape(count, 32)
        own = hashlib.sha256((told["digests"] + json.dumps(told["broken"])).encode()).hexdigest()
        return (digests, {int(row): why for row, why in told["broken"].items()}) if own == told["sha256"] else None
    except Exception:  # absent, or damaged in any way: the files are read again
        return None


def _write_checked(kept: Path, digests: np.ndarray, broken: Broken) -> None:
    told: dict[str, Any] = {
        "digests": digests.tobytes().hex(),
        "broken": {str(row): why for row, why in broken.items()},
    }
    told["sha256"] = hashlib.sha256((told["digests"] + json.dumps(told["broken"])).encode()).hexdigest()
    try:
        with whole_file(kept) as f:
            f.write(json.dumps(told).encode())
    except OSError as e:
        print(f"note: {kept} cannot be written ({e.strerror}); next time all files are read", file=sys.stderr)


def _read_cache(cached: Path, layout: Layout | None) -> Loaded | None:
    """layout: of a folder, as it is now; None: of an archive, as it was kept."""
    try:
        if cached.stat().st_size > machine.memory() // MEMORY_SHARE:  # a larger machine wrote it
            return None
        kept = read_whole_npz(cached)
        about = json.loads(str(kept["about"]))
        classes = tuple(str(name) for name in kept["classes"])
        if layout is not None:
            about = layout.about() | {name: about[name] for name in ("broken", "counts")}
        whole = Layout((), kept["labels"], classes, **about)
        return Loaded(kept["images"], whole, str(kept["files"]), kept["digests"])
    except Exception:  # absent, or damaged in any way: it is made anew
        return None


def _decode(
    path: Path,
    names: tuple[str, ...],
    links: dict[str, str],
    image_size: int,
    channels: int,
    budget: Budget,
    progress: bool,
) -> tuple[np.ndarray, np.ndarray, Broken]:
    """uint8 [n, image_size, image_size, channels] in the order of names, each file's SHA-256 [n, 32], broken ones."""
    images = np.empty((len(names), image_size, image_size, channels), np.uint8)
    digests = np.zeros((len(names), 32), np.uint8)
    broken: Broken = {}

    def decode(item: tuple[int, str, bytes | UserError]) -> None:
        row, name, data = item
        try:
            if isinstance(data, UserError):
                raise resize.BrokenImage(str(data))
            images[row] = resize.decode(data, name, image_size, channels, budget)
            digests[row] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
        except resize.BrokenImage as error:
            broken[row] = str(error)

    bar = _bar(len(images), f"images of {path.name}", "image", progress)
    # Pillow decodes and resizes outside the GIL
    with bar, _silent(), ThreadPoolExecutor(min(8, machine.cores())) as pool:
        for chunk in _chunks(image_files.in_order(path, names, links)):
            for _ in pool.map(decode, chunk):
                bar.update()
    return images, digests, broken


def _chunks(
    files: Iterator[tuple[int, str, bytes | UserError]],
) -> Iterator[list[tuple[int, str, bytes | UserError]]]:
    """Files in lists of CHUNK and of CHUNK_BYTES at most; one larger than that is a list of its own."""
    chunk: list[tuple[int, str, bytes | UserError]] = []
    waiting = 0
    for item in files:
        size = 0 if isinstance(item[2], UserError) else len(item[2])
        if len(chunk) == CHUNK or waiting + size > CHUNK_BYTES:
            yield chunk
            chunk, waiting = [], 0
        chunk.append(item)
        waiting += size
    yield chunk
