"""Training in JAX: a config, its options and its data in; a workdir, or a state in memory, out."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import RunConfig, TrainConfig, replace, to_dict
from jax_sngan.core import flops
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.inputs import drawing, input_shapes, sample_latents
from jax_sngan.core.state import TrainState, state_shapes
from jax_sngan.core.step import training_step
from jax_sngan.models.network import allow_dtype
from jax_sngan.runs import pictures
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.data_changes import of_used_images
from jax_sngan.runs.log import last_logged
from jax_sngan.runs.loggers import Logger
from jax_sngan.runs.memory import MemoryCheckpoints
from jax_sngan.runs.provenance import check
from jax_sngan.runs.run_log import RunLog
from jax_sngan.runs.selection import choose_start
from jax_sngan.runs.workdir import (
    check_start,
    check_workdir,
    prepare,
    run_folder,
    sample_command,
    take,
    writing,
)
from jax_sngan.system import processes
from jax_sngan.system.allocator import keep_freed_memory
from jax_sngan.system.errors import UserError
from jax_sngan.system.lock import Lock, LockedElsewhere, locked
from jax_sngan.system.signals import Stop, stop_signals
from jax_sngan.training.backend import JaxBackend
from jax_sngan.training.evaluation import TrainingEvaluation
from jax_sngan.training.loop import (
    Make,
    Numbers,
    Progress,
    Result,
    Scores,
    Training,
    TrainingDiverged,
    training_loop,
)
from jax_sngan.training.messages import describe_resume, describe_start, kept_in
from jax_sngan.training.profile import Profile
from jax_sngan.training.task import SetUp, Task, check_asked, reading_ahead, set_up, task_of

COMPILING = "compiling the training step (kept for the next start) …"

Callback = Callable[[int, dict[str, Any]], None]  # given the step and the values of each line of the log
MakeLoggers = Callable[[TrainConfig, Path], Sequence[Logger]]


def no_loggers(config: TrainConfig, workdir: Path) -> Sequence[Logger]:
    """None but those of every run."""
    del config, workdir
    return ()


def describe(config: TrainConfig, gan: GAN | None = None) -> dict[str, Any]:
    """What --dry-run prints: the resolved config, parameter counts, and a training step's GFLOP; gan: the config's."""
    gan = gan or as_gan(config)
    allow_dtype(gan)
    state = state_shapes(gan)
    inputs = input_shapes(drawing(gan, config))
    return {
        "config": to_dict(config),
        "g_params": count(state.generator.params),
        "d_params": count(state.discriminator.params),
        "gflop_per_step": flops.count(partial(training_step, gan), state, inputs) / 1e9,
    }


def count(tree: Any) -> int:
    """Numbers in a tree of arrays."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def train(config: TrainConfig, run: RunConfig) -> Result:
    """Trains config's networks in run's workdir, as train_in_workdir does."""
    return train_in_workdir(task_of(config, run))


def train_in_workdir(
    task: Task,
    *,
    callbacks: Sequence[Callback] = (),
    loggers: MakeLoggers = no_loggers,
    signals: Callable[..., AbstractContextManager[Stop]] = stop_signals,
) -> Result:
    """Trains in a workdir, from its newest checkpoint if it has one.

    In one of several processes (system/processes.py) this is called in all of them.

    Args:
      callbacks: called with each line of the log, in the process that writes it.
      loggers: config, workdir -> those of the user's own, made in that process when the run begins.
      signals: who listens to Ctrl-C while steps are done, and how (system/signals.py).
    Raises:
      UserError: a wrong option, data that can't be had, a workdir that holds another run.
      TrainingDiverged: a number is no longer finite.
    """
    config, run = task.config, task.run
    keep_freed_memory(task.pixels)
    workdir = run_folder(config, run)
    processes.join(run.coordinator, run.num_processes, run.process_id)
    with processes.ends_alone(TrainingDiverged), ExitStack() as stack:
        # What is wrong in itself is told first, the data included; then what is other than in the run that is there.
        mesh = check_asked(task)
        processes.first_does(lambda: check_workdir(workdir, run.resume))
        on, first = set_up(task, mesh), processes.is_first()
        task, config = on.task, on.task.config  # with the names of the data's classes
        evaluate = evaluated_by_first(task)
        processes.first_does(lambda: check_start(workdir, config, run.resume))

        # From here on the workdir is this run's alone, and nothing half-written is in it.
        lock = _own(stack, workdir, config, run)

        # The state, after what a person should know: the newest checkpoint's, if there is one and it saw the same data.
        checkpoints = stack.enter_context(Checkpoints(workdir, run.keep_checkpoints))
        stack.enter_context(processes.ends_alone(TrainingDiverged))  # or closing them would wait for the others
        start, notes = choose_start(checkpoints, run.step)
        backend = on.backend(checkpoints)
        if start is not None:
            _check_gan(checkpoints.gan_name(start), task.gan_name, workdir)
            may_change = partial(of_used_images, config, start, checkpoints.rollbacks(start))
            there = f"the checkpoint of step {start} in {workdir}"
            notes += check(checkpoints.origin(start), backend.origin, there, may_change)
        sampling = sample_command(workdir, task.gan_name)
        notes += processes.first_does(lambda: prepare(workdir, config, sampling))
        profile = None
        if (done := start or 0) < config.steps:
            profile = _profile(stack, run, backend, workdir, done, config.steps)
            if first:
                _describe(on, workdir, done)
        progress = backend.begin(start)
        if progress.step >= config.steps:
            if first:  # it may have been killed between its last checkpoint and this
                pictures.save_training(workdir / "samples", config.steps, anew=False)
            return Result(progress.step, {}, sampling=sampling, writes=first)

        # The log.
        own = loggers(config, workdir) if first else ()
        log = stack.enter_context(_begin_log(on, workdir, progress, start, notes, own))

        # Steps, until the end or a signal.
        stack.enter_context(reading_ahead(config, run, on.data, on.mesh, task.gan))
        job = Training(
            config=config,
            run=run,
            backend=backend,
            progress=progress,
            log=log,
            latents=_grid_latents(task),
            keep_picture=partial(_keep_picture, workdir),
            check_folder=lock.check,
            where=str(workdir),
            evaluate=evaluate,
            real=_real_images(on),
            profile=profile,
            past=lambda: processes.first_does(log.past),
            callbacks=callbacks if first else (),
            agree=processes.Agreement(on.mesh),
        )
        with signals(log.say, partial(kept_in, workdir, config.steps)) as stop:
            log.say(COMPILING)
            stopped = training_loop(job, stop)
            if first and job.progress.step >= config.steps:
                pictures.save_training(workdir / "samples", config.steps)
        now = job.progress
        return Result(now.step, now.metrics, job.picture, stopped, sampling, job.stopped_by, first)


class Trained(NamedTuple):
    """A run that was kept in memory, at its end."""

    config: TrainConfig  # with the names of the data's classes
    state: TrainState
    progress: Progress
    lines: list[tuple[int, dict[str, float]]]  # of its log: step and numbers
    stopped: int  # the signal that stopped it early, or 0
    origin: dict[str, Any]  # provenance.provenance()


def train_in_memory(
    task: Task,
    *,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    watch: Callable[[int, TrainState, list[Numbers]], None] | None = None,
    keep_picture: Callable[[int, np.ndarray], Path | None] = lambda step, images: None,
    signals: Callable[[], AbstractContextManager[Stop]] = lambda: nullcontext(Stop()),
) -> Trained:
    """The same run without a folder: nothing is written to disk.

    Args:
      callbacks, signals: as above; by default nobody listens to Ctrl-C. loggers: of the user's own.
      watch: given the steps done, the state and each step's numbers, whenever a program is done, finite or not; such
        a run is not ended by a NaN, and tells nobody of itself.
      keep_picture: given the step and the images of each sample grid.
    Raises:
      UserError, TrainingDiverged: as above.
    """
    config, run = task.config, task.run
    keep_freed_memory(task.pixels)
    on = set_up(task, check_asked(task))
    backend = on.backend(MemoryCheckpoints(run.keep_checkpoints))
    progress = backend.begin(None)
    images_a_step = task.gan.n_dis * config.batch_size
    log = RunLog(None, 0, config.steps, images_a_step, shows=watch is None, loggers=loggers)
    job = Training(
        config=config,
        run=run,
        backend=backend,
        progress=progress,
        log=log,
        latents=_grid_latents(task),
        keep_picture=keep_picture,
        check_folder=lambda: None,
        where="memory",
        evaluate=evaluated_by_first(task),
        real=_real_images(on),
        past=log.past,
        callbacks=callbacks,
        watch=None if watch is None else lambda step, numbers: watch(step, backend.state, numbers),
    )
    with log, reading_ahead(config, run, on.data, on.mesh, task.gan), signals() as stop:
        log.say(COMPILING)
        stopped = training_loop(job, stop)
        if stopped:
            log.say(f"stopped at step {job.progress.step} of {config.steps}")
    return Trained(on.task.config, backend.state, job.progress, log.lines, stopped, backend.origin)


def _own(stack: ExitStack, workdir: Path, config: TrainConfig, run: RunConfig) -> Lock:
    """Takes a workdir for this run, until the stack is closed."""

    def begin() -> None:
        check_start(workdir, config, run.resume)  # again: a run may have ended here since
        take(workdir)

    lock = processes.first_makes(lambda: stack.enter_context(locked(workdir))) or LockedElsewhere()
    processes.first_does(begin)
    if not workdir.is_dir():
        raise UserError(f"workdir {workdir} is not there: all processes of a run must see the one folder")
    stack.enter_context(writing(workdir))
    return lock


def _check_gan(there: str | None, here: str | None, workdir: Path) -> None:
    """Passes where a run that was the config's GAN goes on as that, and one of a GAN of one's own with one.

    Whether it is the same one, the arrays' names and shapes tell.
    """
    if there is not None and here is None:
        raise UserError(
            f"{workdir} was trained with a GAN of its own, {there}: give it again, by --gan or to train; nothing is "
            "imported on a checkpoint's word"
        )
    if there is None and here is not None:
        raise UserError(f"{workdir} was trained with its config's GAN, not with {here}; give another --workdir")


def _describe(on: SetUp, workdir: Path, start: int) -> None:
    """Prints what a person should know before the first step; start: steps that are done."""
    config, run, gan, name, _ = on.task
    state = state_shapes(gan)
    parameters = (count(state.generator.params), count(state.discriminator.params))
    if name is not None:  # what the lines below tell of a config is the GAN's to say
        changes = {"precision": gan.precision, "model.dtype": gan.dtype, "model.compute_dtype": "same"}
        config = replace(config, changes | {"n_dis": gan.n_dis})
    summary, networks = on.data.summary(), name or config.model.architecture
    describe_start(config, run, workdir, summary, networks, parameters, on.devices, on.platform, start)


def _begin_log(
    on: SetUp, workdir: Path, progress: Progress, start: int | None, notes: list[str], loggers: Sequence[Logger]
) -> RunLog:
    """The log of this process; only the first writes, and tells where the run goes on."""
    config, images_a_step = on.task.config, on.task.gan.n_dis * on.task.config.batch_size
    if not processes.is_first():
        return RunLog(None, progress.step, config.steps, images_a_step, shows=False)
    begun = (workdir / "metrics.jsonl").exists()
    logged = last_logged(progress.step, progress.unlogged, progress.metrics)
    log = RunLog(workdir, progress.step, config.steps, images_a_step, logged, loggers=loggers)
    describe_resume(workdir, start, [*notes, *log.notes], begun)
    return log


def _grid_latents(task: Task) -> np.ndarray:
    gan, num = task.gan, pictures.count(task.gan.real_dtype == "float32")
    return np.asarray(sample_latents(task.config.seed, num, gan.latent_size, jnp.dtype(gan.dtype)))


def _profile(
    stack: ExitStack, run: RunConfig, backend: JaxBackend, workdir: Path, start: int, end: int
) -> Profile | None:
    """What traces run.profile_steps, in the process that writes.

    Raises:
      UserError: they are not among the steps that are left.
    """
    steps = run.profiled
    if not steps:
        return None
    if not start <= steps.start < steps.stop <= end:
        raise UserError(
            f"profile_steps must lie within {start}:{end}, the steps that are left; got {run.profile_steps}"
        )
    profile = Profile(workdir / "profile", steps, backend.text)
    stack.callback(profile.close)
    return profile if processes.is_first() else None


def _real_images(on: SetUp) -> Callable[[], np.ndarray]:
    """The first images of the data, as many as a grid has."""
    count = min(len(on.data), pictures.count(on.task.gan.real_dtype == "float32"))
    return cache(lambda: np.asarray(on.data.images[:count]))


def _keep_picture(workdir: Path, step: int, images: np.ndarray) -> Path:
    path = workdir / "samples" / f"{step:06d}.png"
    if processes.is_first():
        pictures.save_grid(path, images)
    return path


def evaluated_by_first(task: Task) -> Callable[[Callable[..., Make]], Scores] | None:
    """The run's evaluation for the loop, if it has any: the first process does it, all know the scores.

    Raises:
      UserError: as TrainingEvaluation.
    """
    run = task.run
    if not run.evaluate_every:
        return None
    of_first = processes.first_makes(lambda: TrainingEvaluation(task.config, run, task.gan, task.data))

    def evaluate(generator: Callable[..., Make]) -> Scores:
        both = {True: generator(True, run.standing_statistics), False: generator(False)}  # all have a part of them
        return Scores(*processes.first_does(lambda: cast(TrainingEvaluation, of_first)(both.__getitem__)))

    return evaluate
