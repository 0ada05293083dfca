"""train(): from Python what the command does, by the same trainer; a Run comes back."""

import dataclasses
import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.config import other_names
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import RunConfig, TrainConfig, flatten, replace
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.data.datasets import GIVEN, Dataset
from jax_sngan.runs import pictures
from jax_sngan.runs.log import json_line
from jax_sngan.runs.loggers import Logger
from jax_sngan.runs.run import Record, Run, load
from jax_sngan.runs.run_log import in_notebook
from jax_sngan.runs.sample import averaged
from jax_sngan.system import processes
from jax_sngan.system.errors import UserError
from jax_sngan.system.nearest import nearest, suggestion
from jax_sngan.system.signals import python_interrupts
from jax_sngan.training.task import Task
from jax_sngan.training.trainer import Callback, Trained, train_in_memory, train_in_workdir

OWN_GAN = "a GAN given from Python"  # what a checkpoint calls it by
_OF_TRAINING = ("name", "data", "class_names", "steps", "batch_size", "seed")  # not a GAN's to say
_MIRRORED = ("n_dis", "generator_batch_multiplier", "update_order", "passes", "accumulate", "ema_decay", "ema_warmup",
             "precision", "flip", "dequantize")  # fmt: skip  # fields of a GAN that TrainConfig has as well
_OF_WORKDIRS = ("resume", "step", "coordinator", "num_processes", "process_id", "profile_steps")  # fields of RunConfig


def train(
    what: str | TrainConfig | GAN,
    *,
    data: np.ndarray | Dataset | str | PathLike[str] | None = None,
    labels: np.ndarray | Sequence[int] | None = None,
    workdir: str | PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    **options: Any,
) -> Run:
    """Trains a GAN, by the trainer behind `sngan train`: the same options give the same bits.

    On a CPU it changes two settings of this process: freed memory is kept, and where batches are large jax runs a
    program in the thread that calls it (system/allocator.py).

    The first Ctrl-C ends it after the step that is being done, and what is trained by then comes back; the second is
    Python's own.

    Args:
      what: a preset's name, a config, or a GAN.
      data: images uint8 [n, h, w, c] (of points float32 [n, 1, 1, 2]), a Dataset, or what load_data takes: a name, a
        file, a folder. None: what the config names.
      labels: int [n], the classes of an array's images.
      workdir: the folder to train in, where a run that is there goes on; None: all is kept in memory.
      callbacks: each is called with the step and the values of every line of the log: numbers, and arrays [n] of which
        a histogram is made.
      loggers: objects that are told the same, and pictures too (jax_sngan.runs.loggers.Logger).
      options: fields of TrainConfig and RunConfig by their names (steps=500, batch_size=32, mesh="data=2", and
        **{"model.latent_size": 64}); of a GAN only those that it does not decide: name, class_names, steps,
        batch_size, seed.
    Returns:
      The run at its last step.
    Raises:
      UserError: an argument that there is not, or of another kind, shape or range; data that can't be had; a workdir
        that holds another run.
      TrainingDiverged: a number is no longer finite.
    """
    own = {f.name for f in dataclasses.fields(RunConfig)}
    of_run = {name: value for name, value in options.items() if name in own}
    of_training = {name: value for name, value in options.items() if name not in own}
    config, gan, name = _trained(what, of_training)
    if isinstance(data, (np.ndarray, Dataset)):
        given = _dataset(gan, data, labels)
        if given.name != config.data:
            config = replace(config, {"data": GIVEN})
    else:
        if labels is not None:
            raise UserError(f"labels are of an array of images, got labels with data={data!r}")
        given = None
        config = config if data is None else replace(config, {"data": str(data)})
    _check_told(callbacks, loggers)
    if workdir is not None:
        run = replace(RunConfig(), {"workdir": str(workdir), **of_run})
        task = Task(config, run, gan, name, given)
        result = train_in_workdir(
            task, callbacks=callbacks, loggers=lambda *_: loggers, signals=lambda *_: python_interrupts()
        )
        if result.stopped and result.step < config.steps:
            print(f"stopped at step {result.step} of {config.steps} and saved in {workdir}")
        return load(Path(workdir), gan=None if name is None else gan)
    if wrong := [name for name in _OF_WORKDIRS if name in of_run]:
        raise UserError(f"{wrong[0]} is of a run in a workdir, got {wrong[0]}={of_run[wrong[0]]!r} and no workdir")
    if processes.count() > 1:
        raise UserError(f"workdir must be given where there are {processes.count()} processes")
    shown: dict[int, np.ndarray] = {}
    trained = train_in_memory(
        Task(config, replace(RunConfig(), of_run), gan, name, given),
        callbacks=callbacks,
        loggers=loggers,
        keep_picture=lambda step, images: _keep(shown, step, images),
        signals=python_interrupts,
    )
    return _run_of(trained.config, gan, name, trained, shown)


def _check_told(callbacks: Any, loggers: Any) -> None:
    if callable(callbacks) or not all(callable(callback) for callback in callbacks):
        raise UserError("callbacks must be a list of functions of a step and its numbers")
    if not isinstance(loggers, Sequence) or not all(isinstance(logger, Logger) for logger in loggers):
        raise UserError("loggers must be a list of objects that have the methods numbers and images")


def _trained(what: str | TrainConfig | GAN, options: dict[str, Any]) -> tuple[TrainConfig, GAN, str | None]:
    """The config, the GAN, and what the GAN is called by where it is not the config's own."""
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    for option in options:
        if option.partition(".")[0] not in known:
            names = nearest(option, [*flatten(TrainConfig()), *flatten(RunConfig())], other_names.OPTIONS)
            hint = suggestion(names) or "it takes the fields of TrainConfig and RunConfig"
            raise UserError(f"train has no argument {option!r}; {hint}")
    if isinstance(what, GAN):
        if decided := [option for option in options if option not in _OF_TRAINING]:
            raise UserError(f"{decided[0]} is the GAN's to decide: dataclasses.replace(gan, {decided[0]}=…)")
        mirrored = {name: getattr(what, name) for name in _MIRRORED}
        return replace(TrainConfig(), mirrored | {"model.dtype": what.dtype} | options), what, OWN_GAN
    if isinstance(what, str):
        what = preset(what)
    if not isinstance(what, TrainConfig):
        raise UserError(f"train takes a preset's name, a TrainConfig or a GAN, got {type(what).__name__}")
    config = replace(what, options)
    return config, as_gan(config), None


def _dataset(gan: GAN, data: np.ndarray | Dataset, labels: Any) -> Dataset:
    """What was given, as a Dataset."""
    if isinstance(data, Dataset):
        if labels is not None:
            raise UserError("labels are of an array of images; a Dataset has its own")
        return data
    if data.ndim != 4 or not len(data) or data.dtype != gan.real_dtype:
        raise UserError(f"data must be {gan.real_dtype} [n, h, w, c], got {data.dtype} {list(data.shape)}")
    if labels is None:
        return Dataset("an array", data, np.zeros(len(data), np.int32), (), flip=True)
    classes = np.asarray(labels)
    if classes.shape != (len(data),) or classes.dtype.kind not in "iu" or classes.min() < 0:
        raise UserError(f"labels must be {len(data)} numbers from 0, one an image, got {list(classes.shape)}")
    count = max(gan.num_classes, int(classes.max()) + 1)
    return Dataset("an array", data, classes.astype(np.int32), tuple(map(str, range(count))), flip=True)


def _keep(shown: dict[int, np.ndarray], step: int, images: np.ndarray) -> None:
    """Keeps a sample grid's images, and shows them in a notebook, each in the place of the last."""
    shown[step] = images
    if in_notebook():
        from IPython.display import Image, display

        picture = io.BytesIO()
        pictures.grid(images, scale=2).save(picture, "PNG")
        display(Image(picture.getvalue()), display_id="jax_sngan", update=len(shown) > 1)


def _run_of(config: TrainConfig, gan: GAN, name: str | None, trained: Trained, shown: dict[int, np.ndarray]) -> Run:
    state, progress = trained.state, trained.progress
    record = Record(
        metrics=progress.metrics,
        unlogged=progress.unlogged,
        rollbacks=progress.rollbacks,
        origin=trained.origin,
        gan=name,
        lines="".join(json_line(step, numbers) for step, numbers in trained.lines),
        pictures=shown,
    )
    generator = averaged(state.generator, state.generator_ema)
    return Run(config, gan, progress.step, generator, lambda: state.discriminator, lambda: state, lambda: record)
