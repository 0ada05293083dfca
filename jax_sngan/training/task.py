"""What is trained, on which data and devices: all of a run that is there before its first state."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jax_sngan.config import class_names
from jax_sngan.config.arithmetic import compiler_options
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.inputs import drawing, step_rows
from jax_sngan.core.sharding import check_split, make_mesh, own_columns
from jax_sngan.core.state import state_shapes
from jax_sngan.data import datasets as data_sets
from jax_sngan.data.datasets import Dataset
from jax_sngan.data.layout import shown_classes
from jax_sngan.data.streaming import StreamedImages
from jax_sngan.metrics import scores
from jax_sngan.models.network import allow_dtype
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.memory import MemoryCheckpoints
from jax_sngan.runs.provenance import provenance
from jax_sngan.system import processes
from jax_sngan.system.compilation_cache import use_compilation_cache
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import called
from jax_sngan.training.backend import JaxBackend


def load_data(config: TrainConfig, run: RunConfig, gan: GAN | None = None) -> Dataset:
    """The run's real images, checked against its networks; gan: None: the config's.

    Raises:
      UserError: they can't be had, or do not fit.
    """
    gan = gan or as_gan(config)
    height, width, channels = gan.image_shape
    if height != width:
        raise UserError(f"data must be an array where images are {height}x{width}; what is loaded is made square")
    data = data_sets.load_data(
        config.data,
        image_size=height,
        channels=channels,
        data_dir=run.data_dir,
        stream=run.stream,
        skip_broken=run.skip_broken,
    )
    check_data(gan, data)
    return data


def check_data(gan: GAN, data: Dataset) -> None:
    """Passes where a GAN can be trained on images.

    Raises:
      UserError: they do not fit.
    """
    if data.images.shape[1:] != gan.image_shape or data.images.dtype != gan.real_dtype:
        want, got = (", ".join(map(str, shape)) for shape in (gan.image_shape, data.images.shape[1:]))
        raise UserError(
            f"data must be {gan.real_dtype} [n, {want}] for these networks, got {data.images.dtype} [n, {got}]"
        )
    if gan.flip and not data.flip:
        raise UserError(f"flip must be false for {data.name}: a mirrored image is no longer of the data")
    if gan.num_classes and data.unlabelled:
        raise UserError(f"model.num_classes={gan.num_classes} needs labels: {data.unlabelled}")
    if gan.num_classes and len(data.classes) != gan.num_classes:
        raise UserError(f"model.num_classes must be {len(data.classes)} for {data.name}, got {gan.num_classes}")


def with_class_names(config: TrainConfig, data: Dataset, classes: int) -> TrainConfig:
    """The config with the names of the data's classes, where the GAN is of so many; those that it has stay.

    Raises:
      UserError: it has names for another number, or the data name them otherwise, by more than their numbers.
    """
    own, theirs = class_names.parse(config.class_names), data.classes
    class_names.check_count(own, classes, "num_classes")
    if not classes:
        return config
    if own and own != theirs and theirs != tuple(str(i) for i in range(len(theirs))):
        raise UserError(
            f"class_names must be those of {data.name} ({shown_classes(theirs)}), or empty; got {shown_classes(own)}"
        )
    return config if own else replace(config, {"class_names": class_names.text_of(theirs)})


def reading_ahead(
    config: TrainConfig, run: RunConfig, data: Dataset, mesh: Mesh | None, gan: GAN | None = None
) -> AbstractContextManager[None]:
    """Within the block workers decode this process's images of the steps to come, where data are streamed."""
    if not isinstance(data.images, StreamedImages):
        return nullcontext()
    own = drawing(gan or config, config)
    plan = partial(step_rows, own, len(data), columns=own_columns(mesh, own))
    return data.images.reading_ahead(plan, config.steps, run.stream_workers)


class Task(NamedTuple):
    """What is trained: a config's GAN or another, and on which data."""

    config: TrainConfig
    run: RunConfig
    gan: GAN
    gan_name: str | None = None  # what the GAN is called by, where it is not the config's own
    data: Dataset | None = None  # None: those that the config names

    @property
    def pixels(self) -> int:
        """Of a batch."""
        height, width, _ = self.gan.image_shape
        return self.config.batch_size * height * width


def task_of(config: TrainConfig, run: RunConfig) -> Task:
    """That of a command line."""
    return Task(config, run, as_gan(config))


class SetUp(NamedTuple):
    """What a run computes with."""

    task: Task
    data: Dataset
    mesh: Mesh | None
    platform: str  # cpu, gpu, tpu
    devices: str  # a line on them

    def backend(self, checkpoints: Checkpoints | MemoryCheckpoints) -> JaxBackend:
        """The run's, without a state yet."""
        config, run, gan, name, _ = self.task
        return JaxBackend(
            config,
            gan,
            self.data,
            checkpoints,
            self.mesh,
            gan_name=name,
            split=run.shard_state,
            dispatch=run.dispatch,
            watch_all=run.log_level == "full",
            own_lines=bool(run.profile_steps),
            origin=provenance("jax", self.data.identity(), self.devices),
            compiler_options=compiler_options(run.deterministic, self.platform),
        )


def check_asked(task: Task) -> Mesh | None:
    """The mesh, where nothing that was asked for is wrong, as far as is known without reading the data.

    Raises:
      UserError: a device, a source of data, a metric or a mesh that there is not.
    """
    config, run, gan, _, data = task
    if run.device != "auto":
        raise UserError(
            f"device is for {called('torch')}, got {run.device}; JAX takes the first platform that it finds, or that "
            "of the environment: JAX_PLATFORMS=cpu or JAX_PLATFORMS=cuda"
        )
    if data is None:
        data_sets.check_source(config.data)
    if run.evaluate_every and run.evaluate_features in ("classifier", "inception"):
        scores.check([n.strip() for n in run.evaluate_metrics.split(",")], run.evaluate_features, lacking={})
    return make_mesh(run.mesh, drawing(gan, config))


def set_up(task: Task, mesh: Mesh | None) -> SetUp:
    """Data, devices and jax's own settings; mesh: check_asked's.

    Raises:
      UserError: the data can't be had or do not fit, or a split state that saves nothing.
    """
    config, run, gan, _, data = task
    allow_dtype(gan)
    use_compilation_cache()
    if mesh is not None and run.shard_state:
        check_split(mesh, state_shapes(gan))
    if data is None:
        data = processes.first_goes_ahead(lambda: load_data(config, run, gan))
    else:
        check_data(gan, data)
    devices = jax.devices() if mesh is None else mesh.devices.flatten()
    used = f"{1 if mesh is None else len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    if processes.count() > 1:
        used += f" in {processes.count()} processes"
    task = task._replace(config=with_class_names(config, data, gan.num_classes))
    return SetUp(task, data, mesh, devices[0].platform, used)
