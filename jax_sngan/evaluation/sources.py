"""What is scored: a run's generator, a generator in training, or images that are there; each as batches by a seed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import sample_latents
from jax_sngan.data import datasets as data_sets
from jax_sngan.data import image_files, resize
from jax_sngan.metrics import path_length
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.metrics.path_length import STEP
from jax_sngan.runs.run import load
from jax_sngan.runs.sample import CHUNK, Generator, great_circle
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system import archives, npz
from jax_sngan.system.errors import UserError

BATCH = 15 * CHUNK  # images that are held at once

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
      suffix: what scores' names must say of the generator.
      generator: the generator itself, where it can be walked through; None: images alone.
    """

    step: int | None = None
    source: str | None = None
    total: int | None = None
    generator: Generator | None = None

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
    """Images of a folder, an archive or an npz; a seed chooses which, where there are more than wanted."""

    def __init__(self, path: Path):
        """
        Raises:
          UserError: there are no images at path, or they cannot be read.
        """
        self.image_size, self.channels = _size(path)
        data = data_sets.load_data(str(path), image_size=self.image_size, channels=self.channels)
        self._images, self._labels = data.images, data.labels
        self.name, self.suffix = str(path), ""
        self.total, self.classes = len(data), len(data.classes)

    def batches(self, num: int, seed: int) -> Batches:
        """num of the images, all in their order or a part that the seed draws, without repeats."""
        rows = np.arange(len(self._images))
        if num < len(rows):
            rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:num])
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
        made = Subject(run.gan, run.config.data, run.step, run.images, name=str(path), suffix=suffix)
        own = run.gan.networks.generator.config
        if own is None or own.compute_dtype == "same":  # bfloat16 rounds a hair's step away
            made.generator = run
        return made
    if step != "latest" or raw or standing or gan is not None:
        raise UserError(f"step, raw, standing statistics and a gan are of runs; {path} holds images")
    return GivenImages(path)


def _size(path: Path) -> tuple[int, int]:
    """(pixels a side, channels) of the images at path, by the first of them."""
    if path.suffix.lower() == ".npz":
        images = npz.read_npz(path, ("images", "x", "arr_0", "x_train"))[0]
        if images is None or images.ndim not in (3, 4):
            raise UserError(f"{path} must hold images, uint8 [n, h, w] or [n, h, w, c]")
        return min(images.shape[1:3]), 1 if images.ndim == 3 else images.shape[3]
    if path.is_dir():
        first = image_files.first_image(path)
    elif archives.suffix(path) is not None:
        members = archives.members(path, image_files.is_image, image_files.LARGEST_IMAGE)
        first = next(((str(path / name), content) for name, content in members if content is not None), None)
    else:
        raise UserError(f"{path} must be a run's workdir, a folder of images, or a file of them: FILE.npz, an archive")
    if first is None:
        raise UserError(f"{path} holds no images and no checkpoint")
    name, content = first
    return resize.size_of(content, name)
