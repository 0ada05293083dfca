"""What is scored: a run's generator, a generator in training, or images that are there; each as batches by a seed."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import sample_latents
from jax_sngan.data import arrays, image_folder
from jax_sngan.data import datasets as data_sets
from jax_sngan.interop.public_programs import PROGRAMS
from jax_sngan.metrics import path_length
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.metrics.path_length import STEP
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.great_circles import great_circle
from jax_sngan.runs.run import load
from jax_sngan.runs.sample import CHUNK, Generator
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system import archives
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown

BATCH = 15 * CHUNK  # images that are held at once
MIXED = 4  # sizes that a line names

Batches = Iterator[tuple[np.ndarray, np.ndarray | None]]  # uint8 [n, h, w, c], and int32 [n] or None


class Subject:
    """Images that a generator makes from latents of a seed.

    Attributes:
      name: for errors.
      step: training steps done; None where images are no run's.
      source: the data that a run was trained on, or None.
      image_size, channels: of the images.
      total: how many images there are; None: as many as are wanted.
      classes: of conditional images; 0: none.
      unlabelled: why images that have labels are read without.
      suffix: what scores' names must say of the generator.
      generator: the generator itself, where it can be walked through; None: images alone.
    """

    step: int | None = None
    source: str | None = None
    total: int | None = None
    generator: Generator | None = None
    unlabelled: str = ""

    def __init__(
        self,
        gan: GAN,
        source: str | None,
        step: int | None,
        make: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
        *,
        name: str,
        suffix: str = "",
    ):
        """make: latents [n, latent_size] and labels int32 [n] or None -> uint8 [n, h, w, c]."""
        height, width, self.channels = gan.image_shape
        if gan.real_dtype == "float32":
            raise UserError(f"{name} makes points of the plane; scores are of images")
        if height != width:
            raise UserError(f"{name} makes images of {height}x{width}; scores are of square ones")
        self.name, self.step, self.source, self.suffix = name, step, source, suffix
        self.image_size, self.classes, self._gan, self._make = height, gan.num_classes, gan, make

    def check(self, num: int, seeds: int) -> None:
        """Passes where num images of each of so many seeds can be had.

        Raises:
          UserError: they can't.
        """
        if num < 2:
            raise UserError(f"num must be at least 2, got {num}")
        if self.total is not None and num > self.total:
            raise UserError(f"num must be at most {self.total}, the images in {self.name}, got {num}")
        if self.total is not None and seeds > 1 and num == self.total:
            raise UserError(
                f"seeds must be 1 with all {num} images of {self.name}, got {seeds}: each seed would take the "
                "same ones; a smaller --num draws a part for each"
            )

    def class_counts(self, num: int, seed: int) -> np.ndarray | None:
        """How many of num images of a seed are of each class, int [classes]; None where there are no classes."""
        return np.bincount(np.arange(num) % self.classes, minlength=self.classes) if self.classes else None

    def batches(self, num: int, seed: int) -> Batches:
        """num images of a seed in batches; image i is the same whatever num is."""
        latents = np.asarray(sample_latents(seed, num, self._gan.latent_size, jnp.dtype(self._gan.dtype)))
        labels = np.arange(num, dtype=np.int32) % self.classes if self.classes else None
        for start in range(0, num, BATCH):
            part = None if labels is None else labels[start : start + BATCH]
            yield self._make(latents[start : start + BATCH], part), part

    def path_length(self, extractor: Extractor, num: int, seed: int) -> float:
        """The perceptual path length over num places between latents of the seed."""
        assert self.generator is not None
        assert extractor.unrounded is not None
        gan = self._gan
        ends = np.asarray(sample_latents(seed, 2 * num, gan.latent_size, jnp.dtype(gan.dtype)), np.float64)
        share = np.random.default_rng(seed).random((num, 1))
        labels = np.arange(num) % self.classes if self.classes else None
        features = []
        for shift in (0.0, STEP):
            latents = great_circle(ends[:num], ends[num:], share + shift)
            parts = []
            for start in range(0, num, BATCH):
                rows = slice(start, start + BATCH)
                pixels = self.generator.pixels(latents[rows], None if labels is None else labels[rows])
                parts.append(extractor.unrounded(pixels))
            features.append(np.concatenate(parts))
        return path_length(features[0], features[1])


class GivenImages(Subject):
    """Images of a folder, an archive, an npz or an npy; a seed chooses which, where there are more than wanted."""

    def __init__(self, path: Path):
        """
        Raises:
          UserError: there are no images at path, they cannot be read, or no size is that of most of them.
        """
        self.image_size, self.channels, mixture = _size(path)
        data = data_sets.load_data(str(path), image_size=self.image_size, channels=self.channels)
        if mixture:  # after what load_data refuses
            print(f"note: {shown(path)}: {mixture}", file=sys.stderr)
        self._images, self._labels, self._order = data.images, data.labels, data.content_order()
        self.name, self.suffix = str(path), ""
        self.total, self.classes, self.unlabelled = len(data), len(data.classes), data.unlabelled

    def _rows(self, num: int, seed: int) -> np.ndarray:
        """num rows; of classes each has its share, to one image."""
        if num == len(self._order):
            return self._order
        drawn = self._order[np.random.default_rng(seed).permutation(len(self._order))]
        labels = self._labels[drawn]
        rank = np.empty(len(drawn))  # of each image in its class, from 0 to 1
        for c in np.unique(labels):
            own = np.flatnonzero(labels == c)
            rank[own] = (np.arange(len(own)) + 0.5) / len(own)
        return drawn[np.sort(np.argsort(rank, kind="stable")[:num])]

    def class_counts(self, num: int, seed: int) -> np.ndarray | None:
        """See Subject."""
        return np.bincount(self._labels[self._rows(num, seed)], minlength=self.classes) if self.classes else None

    def batches(self, num: int, seed: int) -> Batches:
        """num of the images, all or a part that the seed draws without repeats, whatever their files are called; of
        classes each has its share."""
        rows = self._rows(num, seed)
        for start in range(0, num, BATCH):
            part = rows[start : start + BATCH]
            yield self._images[part], self._labels[part] if self.classes else None


def check_there(subject: str | Path) -> None:
    """Passes where a path names something that may be scored; what is in it is looked at by open_subject.

    Raises:
      UserError: there is nothing, or a run without a checkpoint.
    """
    path = Path(subject)
    if _is_run(path):
        open_workdir(path)


def _is_run(path: Path) -> bool:
    """A folder with checkpoints in it or a config.json; what is not there is taken for a run that was meant."""
    of_run = path.is_dir() and ((path / "checkpoints").is_dir() or (path / "config.json").is_file())
    return of_run or not path.exists()


def trained_on(checkpoints: Checkpoints, step: int, config: TrainConfig) -> str | None:
    """The data of a run, by its config; None where that does not know: of a network from another program's file it
    names what that program is usually trained on."""
    if config.name not in PROGRAMS:
        return config.data
    origin = checkpoints.origin(step)
    return config.data if origin is None or origin["data"] is not None else None


def open_subject(
    subject: str | Path,
    *,
    step: str | int,
    raw: bool,
    standing: int,
    gan: GAN | Callable[[TrainConfig], GAN] | None = None,
) -> Subject:
    """The subject that a path names: a run's workdir is a folder with checkpoints in it or a config.json.

    gan: as runs.run.load.

    Raises:
      UserError: there is nothing of the kind, or an option of runs was given for images.
    """
    path = Path(subject)
    if _is_run(path):
        run = load(path, step, gan=gan, average=not raw, standing=standing)
        suffix = ("_raw" if raw else "") + (f"_standing{standing}" if standing else "")
        with Checkpoints(path) as checkpoints:
            source = trained_on(checkpoints, run.step, run.config)
        made = Subject(run.gan, source, run.step, run.images, name=str(path), suffix=suffix)
        own = run.gan.networks.generator.config
        if own is None or own.compute_dtype == "same":  # bfloat16 rounds a hair's step away
            made.generator = run
        return made
    if step != "latest" or raw or standing or gan is not None:
        raise UserError(f"step, raw, standing statistics and a gan are of runs; {path} holds images")
    return GivenImages(path)


def _size(path: Path) -> tuple[int, int, str]:
    """(pixels a side, channels) of most of the images at path, and a line where not all have them.

    Raises:
      UserError: it holds no images, or no more than half of them are of one size or have one number of channels.
    """
    if path.suffix.lower() in (".npz", ".npy"):
        return *arrays.shape(path), ""
    if not path.is_dir() and archives.suffix(path) is None:
        raise UserError(
            f"{path} must be a run's workdir, a folder of images, or a file of them: FILE.npz, an archive"
            f"{data_sets.to_read(path)}"
        )
    found = image_folder.sizes(path, "train")
    if not found:
        raise UserError(f"{path} holds no images that can be read")
    total = found.total()
    chosen = []
    for i, what in enumerate(("pixels a side", "channels")):
        kinds = Counter[int]()
        for size, count in found.items():
            kinds[size[i]] += count
        most, count = kinds.most_common(1)[0]
        if 2 * count <= total:
            told = ", ".join(f"{n:,} of {kind}" for kind, n in kinds.most_common(MIXED))
            raise UserError(
                f"{path} holds images of {len(kinds)} {what} ({told}), none of them more than half: scores are of one "
                "size and number of channels; bring them to one first"
            )
        chosen.append(most)
    side, channels = chosen
    if len(found) == 1:
        return side, channels, ""
    others = [f"{n:,} of {s} x {c}" for (s, c), n in found.most_common() if (s, c) != (side, channels)]
    more = f" and {len(others) - MIXED} other kinds" if len(others) > MIXED else ""
    told = f"not all {total:,} images are {side} pixels a side with {channels} channels, and are brought to that: "
    return side, channels, f"{told}{', '.join(others[:MIXED])}{more} (pixels x channels)"
