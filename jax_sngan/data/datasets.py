"""Where images come from: uint8 [n, h, w, c] and labels [n], by the name of a data set, a file or a folder."""

import hashlib
import importlib.resources
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.config import other_names
from jax_sngan.data import arrays, image_folder, image_formats, mixtures, resize, stacked
from jax_sngan.data import official as originals
from jax_sngan.data.file_digests import Digests
from jax_sngan.data.image_folder import Stream
from jax_sngan.data.layout import shown_classes
from jax_sngan.data.streaming import ImageArray, StreamedImages
from jax_sngan.system import archives, npz
from jax_sngan.system.cache_folder import cache_folder
from jax_sngan.system.errors import UserError
from jax_sngan.system.nearest import nearest, suggestion
from jax_sngan.system.regular_files import other_kind, remote
from jax_sngan.system.terminal import shown

BLACK_BACKGROUND = ("fashion", "fashion_mnist", "mnist")
# Mirrored digits are no digits. Fashion-MNIST's shoes all point left and its test images do too, so a mirrored shoe
# is an image that the data do not hold, and one that evaluation would count against the generator.
ONE_SIDED = ("fashion", "fashion_mnist", "mnist")
GIVEN = "given from Python"  # TrainConfig.data of a run whose images were an array or a Dataset
POINTS, STACKS = 100_000, 50_000  # how many there are
STACKED = {"stacked_fashion": "fashion", "stacked_mnist": "mnist"}
NAMED = ("fashion", *originals.NAMES, *mixtures.MIXTURES, *STACKED)  # the sources that are no file or folder


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in memory, or on disk and decoded when they are asked for.

    Raises:
      ValueError: the arrays are not of the types and shapes below, or there is no image.
    """

    name: str  # as reported with figures
    images: ImageArray  # uint8 [n, h, w, c]; or points of the plane, float32 [n, 1, 1, 2]
    labels: np.ndarray  # int32 [n]; zeros where there are none
    classes: tuple[str, ...]  # names by label; () where there are no labels
    flip: bool  # whether a mirrored image is still one of the data
    files: str | None = None  # of a folder or archive: image_folder.Loaded.files
    told: str = ""  # how the files that are there add up; "" where each is one of the images
    unlabelled: str = ""  # why labels that are there are not read
    digests: np.ndarray | None = None  # uint8 [n, 32] of a folder or archive: SHA-256 of each image's file

    def __post_init__(self) -> None:
        points = self.images.dtype == np.float32 and self.images.shape[1:] == (1, 1, 2)
        if not (points or (self.images.dtype == np.uint8 and self.images.ndim == 4)) or not len(self.images):
            raise ValueError(f"images must be uint8 [n, h, w, c], got {self.images.dtype} {list(self.images.shape)}")
        if self.labels.dtype != np.int32 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must be int32 [n], got {self.labels.dtype} {list(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def summary(self) -> str:
        """One line for a person: name, count and size."""
        n, h, w, c = self.images.shape
        if c == 2:
            return f"{self.name}: {n:,} points of {len(self.classes)} Gaussians"
        classes = f", {len(self.classes)} classes: {shown_classes(self.classes)}" if self.classes else ""
        missing = np.flatnonzero(np.bincount(self.labels, minlength=len(self.classes)) == 0)
        if self.classes and len(missing):
            names = shown_classes(tuple(self.classes[i] for i in missing))
            classes += f" ({len(missing)} of them without images: {names})"
        streamed = ", streamed" if isinstance(self.images, StreamedImages) else ""
        told = "".join(f"; {part}" for part in (self.told, self.unlabelled and f"no labels: {self.unlabelled}") if part)
        return f"{self.name}: {n:,} images of {h}x{w}x{c}{classes}{told}{streamed}"

    def checksum(self) -> str:
        """SHA-256 over shape, images and labels, in hexadecimal: two data sets are the same if it is.

        Of a stream, whose images are never all decoded, the checksum of its files.
        """
        if isinstance(self.images, StreamedImages):
            assert self.files is not None
            return self.files
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images[:]).data)
        digest.update(np.ascontiguousarray(self.labels, "<i4").data)
        return digest.hexdigest()

    def content_order(self) -> np.ndarray:
        """[n] rows of images that somebody brought, in an order that depends on their contents and labels and not on
        how files are called: what draws by it gives the same of files in any order. Of named data their own order."""
        if self.files is None and not self.name.startswith("npz:"):
            return np.arange(len(self))
        digests = self.digests
        if digests is None:
            own = b"".join(hashlib.sha256(image.tobytes()).digest() for image in np.asarray(self.images[:]))
            digests = np.frombuffer(own, np.uint8).reshape(-1, 32)
        keys = Digests(0, 0, self.labels, digests).images()
        return np.argsort(keys, kind="stable")

    def identity(self) -> dict[str, str]:
        """What a checkpoint keeps of its data: "summary"; "sha256" of images in memory; "files_sha256" of files."""
        found = {"summary": self.summary()}
        if not isinstance(self.images, StreamedImages):
            found["sha256"] = self.checksum()
        return found if self.files is None else found | {"files_sha256": self.files}


def is_path(source: str) -> bool:
    """Whether a source is a person's own file or folder, not a named data set."""
    return source not in NAMED


def load_data(
    source: str,
    *,
    image_size: int,
    channels: int,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    stream: Stream = "auto",
    skip_broken: bool = False,
) -> Dataset:
    """The images of a source, brought to a size and a number of channels.

    | source | what it is |
    | --- | --- |
    | `fashion` | 10,000 of Fashion-MNIST's training images, 1,000 a class, which ship with the package |
    | `fashion_mnist`, `mnist` | the IDX files, gzipped or not |
    | `cifar10`, `cifar100` | the official python or binary archive, or its unpacked folder; 100 fine classes |
    | `grid`, `ring` | 100,000 points of 25 or 8 Gaussians in the plane (data/mixtures.py): 1 pixel, 2 channels |
    | `stacked_fashion`, `stacked_mnist` | 50,000 stacks of three of those as colours, 1,000 modes (data/stacked.py) |
    | FILE.npz, FILE.npy | one array of images, with labels or without (data/arrays.py) |
    | FOLDER, or a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip of one | images, in class folders or not, with splits or
      not (data/layout.py) |

    The named sources with original files look in data_dir alone if it is given; else where Debian's package puts
    them, then among earlier downloads, and download what is missing, with checksums. Images of another size are
    cropped square and resized; MNIST and its like are padded with zeros instead where that is enough (resize.fit).

    Args:
      source: see above.
      image_size: pixels a side.
      channels: 1 or 3; 2 for points.
      split: "train" or "test".
      data_dir: folder with the original files.
      cache_dir: of downloads and decoded folders; default $XDG_CACHE_HOME/jax_sngan or ~/.cache/jax_sngan.
      progress: show bars where it takes long.
      stream: always: images of a folder stay on disk and are decoded when they are asked for; auto: where they would
        take more than half of the memory; never: they are refused then.
      skip_broken: images of a folder or archive that cannot be read are left out; else they are refused, all by name.
    Returns:
      A Dataset. Its flip is False for digits and garments, else True. Its name is the source, with the number of images
      where the official data have another; folders and archives are `folder:NAME`, npz and npy `npz:NAME`. What of
      a folder's files is left out, a line on standard error says.
    Raises:
      UserError: one line on what was looked for, where, and how to supply it, or on what is wrong with it.
    """
    _check_kind(source, channels, stream)
    if source in mixtures.MIXTURES:
        return _points(source, split)
    if source in STACKED:
        return _stacked(source, image_size, channels, split, data_dir, cache_dir, progress)
    _check_images(source, image_size, channels, split, data_dir)
    folder = None if data_dir is None else Path(data_dir)
    cache = Path(cache_dir) if cache_dir is not None else cache_folder()
    try:
        if source == "fashion":
            name, images, labels, classes = _embedded(split)
        elif source in originals.NAMES:
            images, labels = originals.load_official(
                source, split=split, data_dir=folder, cache=cache, progress=progress
            )
            official = len(images) == originals.OFFICIAL_SIZES[split][source]
            name, classes = source if official else f"{source} ({len(images)} images)", originals.CLASSES[source]
        else:
            return _given(source, image_size, channels, split, cache, progress, stream, skip_broken)
    except OSError as e:  # a folder without permission, a disk that fails
        raise UserError(f"data {source!r} cannot be read: {e.filename or ''} {e.strerror or e}") from e
    images = resize.fit(images, image_size, channels, pad=source in BLACK_BACKGROUND)
    return Dataset(name, images, labels, classes, flip=source not in ONE_SIDED)


def _check_kind(source: str, channels: int, stream: Stream) -> None:
    """Whether the source is images or points as the channels say, and of a kind that the way of reading is for."""
    if source == GIVEN:
        raise UserError(
            "this run's images were given from Python: give them again (data=), or name some (--data, --real)"
        )
    if (source in mixtures.MIXTURES) != (channels == 2):
        raise UserError(
            f"data {source!r} does not fit model.channels={channels}: "
            f"{', '.join(mixtures.MIXTURES)} are points, with 2 channels; all else is images, with 1 or 3"
        )
    if stream == "always" and not is_path(source):
        raise UserError(f"stream must be auto or never for data {source!r}, which fits into any memory; got always")


def _check_images(
    source: str, image_size: int, channels: int, split: str, data_dir: str | os.PathLike[str] | None
) -> None:
    """Whether the options of a source of images are in their ranges."""
    if image_size < 1 or channels not in (1, 3):
        raise UserError(f"images must have at least 1 pixel a side and 1 or 3 channels, got {image_size}, {channels}")
    if split not in ("train", "test"):
        raise UserError(f"split must be train or test, got {split!r}")
    if data_dir is not None and source not in originals.NAMES:
        raise UserError(f"--data-dir is for the originals of {', '.join(originals.NAMES)}, but --data is {source!r}")
    if data_dir is not None and _kind(Path(data_dir)) != "folder":
        raise UserError(f"--data-dir {str(data_dir)!r} is no folder; give the one that holds the files of {source}")


def _points(source: str, split: str) -> Dataset:
    """Points of a mixture; the test split is drawn apart."""
    mixture = mixtures.MIXTURES[source]()
    xy, modes = mixture.sample(POINTS, seed=("train", "test").index(split))
    return Dataset(source, xy.reshape(-1, 1, 1, 2), modes, tuple(map(str, range(len(mixture.centres)))), flip=False)


def _stacked(
    source: str, image_size: int, channels: int, split: str, data_dir: Any, cache_dir: Any, progress: bool
) -> Dataset:
    """Stacks of three images of a grey set."""
    if channels != 3:
        raise UserError(f"data {source!r} has 3 channels, one a colour; got model.channels={channels}")
    grey = load_data(
        STACKED[source], image_size=image_size, channels=1, split=split, data_dir=data_dir, cache_dir=cache_dir,
        progress=progress,
    )  # fmt: skip
    k = len(grey.classes)
    images, modes = stacked.stacked_images(np.asarray(grey.images), grey.labels, k, seed=0, count=STACKS)
    names = tuple(f"{a}, {b}, {c}" for a in grey.classes for b in grey.classes for c in grey.classes)
    return Dataset(source, images, modes, names, flip=False)


_Parts = tuple[str, np.ndarray, np.ndarray, tuple[str, ...]]  # name, images, labels, classes


def _given(
    source: str,
    image_size: int,
    channels: int,
    split: str,
    cache: Path,
    progress: bool,
    stream: Stream,
    skip_broken: bool,
) -> Dataset:
    """A person's own images: an npz, an npy, a folder or an archive."""
    path = Path(source)
    kind = _kind(path) if source else None
    suffix = archives.suffix(path) if kind == "file" else None
    if kind == "file" and path.suffix.lower() in (".npz", ".npy"):
        if stream == "always":
            raise UserError(f"stream must be auto or never for {path}, which is one array; got always")
        given = arrays.read(path, split)
        if given.unlabelled:
            print(f"note: {shown(given.unlabelled)}; the images are read without labels", file=sys.stderr)
        images = resize.fit(given.images, image_size, channels)
        name = f"npz:{path.stem}"
        return Dataset(name, images, given.labels, given.classes, flip=True, unlabelled=given.unlabelled)
    if kind == "folder" or suffix is not None:
        if (owner := originals.belongs_to(path)) is not None:
            raise UserError(f"{path} is an original of {owner}: use --data {owner} --data-dir {path.parent}")
        name = f"folder:{path.resolve().name[: -len(suffix) if suffix else None]}"
        loaded = image_folder.load_folder(
            path,
            image_size=image_size,
            channels=channels,
            split=split,
            cache=cache / "folders",
            progress=progress,
            stream=stream,
            skip_broken=skip_broken,
        )
        layout = loaded.layout
        for note in layout.notes(str(path)):
            print(f"note: {note}", file=sys.stderr)
        return Dataset(
            name, loaded.images, layout.labels, layout.classes, flip=True, files=loaded.files, told=layout.told(),
            digests=loaded.digests,
        )  # fmt: skip
    raise _not_data(source, kind)


def check_source(source: str) -> None:
    """Passes where a source is a known one, or something stands there; reads nothing of it.

    Raises:
      UserError: neither.
    """
    if source != GIVEN and is_path(source) and not (source and _kind(Path(source))):
        raise _not_data(source, None)


def _not_data(source: str, kind: str | None) -> UserError:
    """What to say of a source that is none; kind: as _kind."""
    if (scheme := remote(source)) is not None:
        return UserError(f"data {source!r} is an address of {scheme}; copy the images to this machine first")
    problem = f"is {kind}, not a file or folder" if kind else "is no known data set and no file or folder that is there"
    if kind == "file":
        problem = f"is a file of a kind that is not read{to_read(source)}"
    near = "" if kind else suggestion(nearest(source, NAMED, other_names.DATA))
    return UserError(
        f"data {source!r} {problem}; {near + ' ' if near else ''}it may be {', '.join(NAMED)}, FILE.npz, FILE.npy, "
        f"FOLDER, or images in a {', '.join(archives.SUFFIXES)}"
    )


def to_read(path: str | Path) -> str:
    """What a file of a kind that is not read needs, for a line: `: unpack first`; "" where nothing is known."""
    need = image_formats.needs(image_formats.ending(str(path)))
    return f": {need}" if need else ""


def _kind(path: Path) -> str | None:
    """ "file", "folder", what else stands there ("a FIFO"), or None where nothing does or it cannot be looked at."""
    try:
        if not path.exists():
            return None
        return "folder" if path.is_dir() else other_kind(path) or "file"
    except (OSError, ValueError):  # a name too long, a folder above that is closed to us
        return None


def _embedded(split: str) -> _Parts:
    if split == "test":
        raise UserError("data 'fashion' ships no test images, so that they stay unseen; use fashion_mnist for them")
    with importlib.resources.as_file(importlib.resources.files("jax_sngan") / "datasets/fashion10k.npz") as path:
        if not path.is_file():
            raise UserError(f"{path} is missing; install the package again")
        images, labels = npz.read_npz(path, ("images",), ("labels",))
    if images is None or labels is None:
        raise UserError(f"{path} is not the file that the package ships; install the package again")
    return "fashion", images[..., None], labels.astype(np.int32), originals.CLASSES["fashion_mnist"]
