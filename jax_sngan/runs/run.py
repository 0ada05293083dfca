"""A trained GAN at one step, in memory or in a workdir: its images, its discriminator's scores, and how to keep it."""

import io
from collections.abc import Callable
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.core.pixels import to_float
from jax_sngan.core.state import TrainState
from jax_sngan.data.datasets import GIVEN
from jax_sngan.data.layout import shown_classes
from jax_sngan.models.network import Network, Variables
from jax_sngan.runs import pictures
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.labels import Labels, names_of
from jax_sngan.runs.log import lines_up_to
from jax_sngan.runs.sample import CHUNK, Generator, averaged
from jax_sngan.runs.workdir import open_workdir, prepare, sample_command, training_command
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import new_folder

SHOWN = 64  # images that a notebook shows


class Record(NamedTuple):
    """What a checkpoint and a workdir hold of a run beside its state."""

    metrics: dict[str, float]  # the last logged
    unlogged: list[dict[str, float]]  # each step's numbers since then
    rollbacks: int
    origin: dict[str, Any] | None  # provenance.provenance()
    gan: str | None  # what the GAN is called; None: it is the config's
    lines: str  # of metrics.jsonl
    pictures: dict[int, np.ndarray]  # by step, the images of each sample grid; of a run that was kept in memory


class Run(Generator):
    """A trained GAN; its generator's weights are the averaged ones.

    Attributes:
      config: what it was trained with. gan: its networks, losses and the rest.
      step: training steps done.
      classes: how many its images are of; 0: unconditional.
      class_names: of them, by their numbers; () where they are not known.
    """

    def __init__(
        self,
        config: TrainConfig,
        gan: GAN,
        step: int,
        generator: Variables,
        discriminator: Callable[[], Variables],
        state: Callable[[], TrainState],
        record: Callable[[], Record],
    ):
        """discriminator, state, record: read the rest of the run when it is asked for."""
        super().__init__(gan, step, generator)
        self.config, self.classes, self.class_names = config, gan.num_classes, names_of(config, gan.num_classes)
        self._discriminator, self._state, self._record = cache(discriminator), state, record

    @property
    def origin(self) -> dict[str, Any] | None:
        """What it was made by and trained on (provenance.provenance); None where that is not known."""
        return self._record().origin

    def score(self, images: np.ndarray, labels: Labels | None = None) -> np.ndarray:
        """The discriminator's raw scores in evaluation mode: higher looks more real to it; the loss gives their unit.

        Args:
          images: uint8 [n, h, w, c] as `sample` gives them and data are; of points, float [n, 1, 1, 2].
          labels: the images' classes by number or name, one each or one for all; needed where the
            discriminator is told classes.
        Returns:
          float [n].
        Raises:
          UserError: other images, or labels that are missing or there can't be.
        """
        gan, images = self.gan, np.asarray(images)
        wanted = np.float32 if gan.real_dtype == "float32" else np.uint8
        if images.shape[1:] != gan.image_shape or not len(images) or not np.can_cast(images.dtype, wanted, "same_kind"):
            shape = ", ".join(map(str, gan.image_shape))
            raise UserError(f"images must be {gan.real_dtype} [n, {shape}], got {images.dtype} {list(images.shape)}")
        network = gan.networks.discriminator
        if gan.num_classes and labels is None and network.takes_labels:
            raise UserError(f"labels must be given: the images' classes, numbers from 0 to {gan.num_classes - 1}")
        classes = None if labels is None else self.labels(len(images), labels)
        score, discriminator = _score(network, gan.precision, gan.dtype), self._discriminator()
        scores = []
        for start in range(0, len(images), CHUNK):  # each call has as many images, so that a score is its image's alone
            rows = np.minimum(np.arange(start, start + CHUNK), len(images) - 1)
            own = None if classes is None else classes[rows]
            scores.append(np.asarray(score(discriminator, images[rows].astype(wanted), own)))
        return np.concatenate(scores)[: len(images)]

    def save(self, workdir: str | Path) -> None:
        """Writes a workdir as training does: with it sampling, evaluating and training go on, from commands and here.

        Raises:
          UserError: something stands there already, or it can't be written.
        """
        target, record = Path(workdir), self._record()
        with new_folder(target) as folder:
            with Checkpoints(folder, keep=1) as checkpoints:
                checkpoints.save(
                    self._state(),
                    self.config,
                    record.metrics,
                    record.unlogged,
                    origin=record.origin,
                    rollbacks=record.rollbacks,
                    gan=record.gan,
                )
            (folder / "metrics.jsonl").write_text(record.lines, encoding="utf-8")
            for step, images in record.pictures.items():
                pictures.save_grid(folder / "samples" / f"{step:06d}.png", images)
            if self.step >= self.config.steps:
                pictures.save_training(folder / "samples", self.step)
            resuming = training_command(self.config, target)
            if record.gan is not None or self.config.data == GIVEN:
                resuming = f"jax_sngan.train(…, workdir={str(target)!r}), given the same GAN, data and options"
            prepare(target, self.config, sample_command(target, record.gan), resuming=resuming, folder=folder)

    def __repr__(self) -> str:
        h, w, c = self.gan.image_shape
        kind = "points" if self.gan.real_dtype == "float32" else f"{h}x{w}x{c} images"
        classes = f"{self.classes} classes" if self.classes else "unconditional"
        if any(name != str(number) for number, name in enumerate(self.class_names)):
            classes += f": {shown_classes(self.class_names)}"
        return f"Run({self.config.name}, step {self.step}, {kind}, {classes})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: a grid of samples."""
        picture = io.BytesIO()
        num = min(SHOWN, pictures.count(self.gan.real_dtype == "float32"))
        pictures.grid(self.sample(num), scale=2).save(picture, "PNG")
        return picture.getvalue()


@lru_cache(maxsize=16)
def _score(network: Network, precision: str, dtype: str) -> Any:
    def score(variables: Variables, images: Array, labels: Array | None) -> Array:
        seen = to_float(images, jnp.dtype(dtype)) if images.dtype == jnp.uint8 else images.astype(dtype)
        with jax.default_matmul_precision(precision):
            return network.apply(variables, seen, labels, train=False)[0]

    return jax.jit(score)


def load(
    workdir: str | Path,
    step: str | int = "latest",
    *,
    gan: GAN | Callable[[TrainConfig], GAN] | None = None,
    average: bool = True,
    standing: int = 0,
) -> Run:
    """A run at one of its checkpoints. Only its generator is read; the rest when it is asked for.

    Args:
      step: latest, best, or the number of a checkpoint.
      gan: where the run's GAN is not its config's: the GAN once more, or what makes it from the config. Nothing is
        imported on a checkpoint's word.
      average: with the moving average's weights, else with the raw ones.
      standing: 0, or on how many latents batch statistics are taken anew (Generator.standing).
    Raises:
      UserError: no such workdir, checkpoint or step, statistics that cannot be taken, or a gan that is missing or not
        that of the checkpoint.
    """
    folder = open_workdir(workdir)
    with Checkpoints(folder) as checkpoints:
        number, config, like, made = checkpoints.choose(step, gan)
        own, mean = checkpoints.restore_part(number, like, "generator", "generator_ema")

    def discriminator() -> Variables:
        with Checkpoints(folder) as checkpoints:
            found: Variables = checkpoints.restore_part(number, like, "discriminator")[0]
            return found

    def state() -> TrainState:
        with Checkpoints(folder) as checkpoints:
            return checkpoints.restore(number, like)

    generator, record = averaged(own, mean) if average else own, partial(_record_of, folder, number)
    run = Run(config, made, number, generator, discriminator, state, record)
    return run.standing(standing) if standing else run


def _record_of(folder: Path, step: int) -> Record:
    log = folder / "metrics.jsonl"
    with Checkpoints(folder) as checkpoints:
        return Record(
            metrics=checkpoints.metrics(step),
            unlogged=checkpoints.unlogged(step),
            rollbacks=checkpoints.rollbacks(step),
            origin=checkpoints.origin(step),
            gan=checkpoints.gan_name(step),
            lines=lines_up_to(log, step) if log.exists() else "",
            pictures={},
        )
