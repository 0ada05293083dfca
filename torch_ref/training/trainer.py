"""The same run by the reference: state, steps and checkpoints in torch, put into the loop of both frameworks.

Data, inputs and the first state are given, so that a run starts from the JAX framework's numbers and sees its inputs.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jax_sngan.config.schema import ModelConfig, RunConfig, TrainConfig
from jax_sngan.runs import pictures
from jax_sngan.runs.log import last_logged
from jax_sngan.runs.loggers import Logger
from jax_sngan.runs.provenance import check, provenance
from jax_sngan.runs.run_log import RunLog
from jax_sngan.runs.selection import choose_start
from jax_sngan.runs.workdir import check_start, prepare, run_folder, take, writing
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import called
from jax_sngan.system.lock import locked
from jax_sngan.system.machine import peak_memory
from jax_sngan.system.signals import stop_signals
from jax_sngan.training.loop import Make, Numbers, Progress, Result, Scores, Training, training_loop
from jax_sngan.training.messages import describe_resume, describe_start, kept_in
from torch_ref.core.inputs import Inputs
from torch_ref.core.observer import observe
from torch_ref.core.pixels import to_uint8
from torch_ref.core.state import TrainState, create_state, dump, load_state
from torch_ref.core.step import Logs, training_step
from torch_ref.runs.checkpoint import Checkpoint, Checkpoints
from torch_ref.system import machine

MayChange = Callable[[int, int, dict[str, Any], dict[str, Any]], str | None]


def train(
    config: TrainConfig,
    run: RunConfig,
    data: dict[str, str],
    first: Callable[[], dict[str, np.ndarray]],
    draw: Callable[[int, int], Inputs],
    latents: np.ndarray,
    device: torch.device,
    evaluate: Callable[[Callable[[bool], Make]], Scores] | None = None,
    may_change: MayChange = lambda *_: None,
    real: Callable[[], np.ndarray] | None = None,
    loggers: Callable[[TrainConfig, Path], Sequence[Logger]] = lambda *_: (),
) -> Result:
    """Trains config's networks, from the newest checkpoint of the workdir if it has one.

    Args:
      data: data.Dataset.identity().
      first: the state to start from, as torch_ref.core.state.dump names it.
      draw: a step's number and how often the run went back -> the step's inputs, on the device.
      latents: [num, latent_size] of the sample grids.
      device: which computes; what is written is the same wherever that was.
      evaluate: as of loop.Training.
      may_change: given a checkpoint's step and rollbacks, its data and today's, where these differ: a line where the
        run may go on all the same, else None.
      real, loggers: as of loop.Training and jax_sngan.training.trainer.train_in_workdir.
    Raises:
      UserError: a workdir that holds another run.
      TrainingDiverged: a number is no longer finite.
    """
    _check(run, device)
    machine.set_precision(config.precision, device)
    workdir = run_folder(config, run)
    check_start(workdir, config, run.resume, "torch")
    origin = provenance("torch", data, machine.described(device))
    with locked(workdir) as lock, writing(workdir):
        # The workdir is this run's alone, and nothing half-written is in it.
        check_start(workdir, config, run.resume, "torch")  # again: a run may have ended here since
        take(workdir)

        # The state: that of the newest checkpoint, if there is one and it saw the same data, or the first one.
        checkpoints = Checkpoints(workdir, run.keep_checkpoints)
        start, notes = _choose(checkpoints, run, origin, workdir, may_change)
        notes += prepare(workdir, config, sampling="")  # its grids are all that it draws
        backend = TorchBackend(config, checkpoints, origin, draw, device, watch_all=run.log_level == "full")
        progress = backend.begin(start, first)
        if progress.step >= config.steps:
            pictures.save_training(workdir / "samples", config.steps, anew=False)  # killed after its last checkpoint
            return Result(progress.step, {})

        # The log, and what a person should know before the first step.
        begun = (workdir / "metrics.jsonl").exists()
        logged = last_logged(progress.step, progress.unlogged, progress.metrics)
        _describe_start(config, run, data, backend, workdir)
        images_a_step, own = config.n_dis * config.batch_size, loggers(config, workdir)
        with RunLog(workdir, progress.step, config.steps, images_a_step, logged, loggers=own) as log:
            describe_resume(workdir, start, [*notes, *log.notes], begun)

            # Steps, until the end or a signal.
            job = Training(
                config=config,
                run=run,
                backend=backend,
                progress=progress,
                log=log,
                latents=latents,
                keep_picture=partial(_keep_picture, workdir),
                check_folder=lock.check,
                where=str(workdir),
                evaluate=evaluate,
                real=real,
                past=log.past,
            )
            with stop_signals(log.say, partial(kept_in, workdir, config.steps)) as stop:
                stopped = training_loop(job, stop)
                if job.progress.step >= config.steps:
                    pictures.save_training(workdir / "samples", config.steps)
    return Result(job.progress.step, job.progress.metrics, job.picture, stopped, alarm=job.stopped_by)


def _check(run: RunConfig, device: torch.device) -> None:
    """Passes where no option is given that is the other framework's alone."""
    if run.mesh is not None:
        raise UserError(f"mesh is for {called('train')}; the reference runs on one device, got {run.mesh}")
    if (joined := (run.coordinator, run.num_processes, run.process_id)) != (None, None, None):
        raise UserError(
            f"coordinator, num_processes and process_id are for {called('train')}; the reference runs in one process, "
            f"got {', '.join(map(str, joined))}"
        )
    if run.standing_statistics:
        raise UserError(f"standing_statistics is for {called('train')}, got {run.standing_statistics}")
    if run.profile_steps is not None:
        raise UserError(f"profile_steps is for {called('train')}, got {run.profile_steps}")
    if run.deterministic and device.type != "cpu":
        raise UserError(f"deterministic is for {called('train')}, or for device cpu, got it with {device}")


def _choose(
    checkpoints: Checkpoints, run: RunConfig, origin: dict[str, Any], workdir: Path, may_change: MayChange
) -> tuple[int | None, list[str]]:
    """The checkpoint to go on from, if there is one, and what a person should know of it."""
    start, notes = choose_start(checkpoints, run.step)
    if start is None:
        return None, notes

    def allowed(old: dict[str, Any], new: dict[str, Any]) -> str | None:
        return may_change(start, checkpoints.restore(start).rollbacks, old, new)

    where = f"the checkpoint of step {start} in {workdir}"
    return start, notes + check(checkpoints.origin(start), origin, where, allowed)


def _keep_picture(workdir: Path, step: int, images: np.ndarray) -> Path:
    path = workdir / "samples" / f"{step:06d}.png"
    pictures.save_grid(path, images)
    return path


def _describe_start(
    config: TrainConfig, run: RunConfig, data: dict[str, str], backend: "TorchBackend", workdir: Path
) -> None:
    state = backend.state
    g, d = (sum(p.numel() for p in m.parameters()) for m in (state.generator, state.discriminator))
    platform, device = "cpu" if backend.device.type == "cpu" else "gpu", machine.described(backend.device)
    describe_start(
        config, run, workdir, data["summary"], config.model.architecture, (g, d), device, platform, state.step
    )


class TorchBackend:
    """State, step and `.pt` checkpoints (loop.Backend)."""

    def __init__(
        self,
        config: TrainConfig,
        checkpoints: Checkpoints,
        origin: dict[str, Any],
        draw: Callable[[int, int], Inputs],
        device: torch.device,
        *,
        watch_all: bool = False,
    ):
        """origin: provenance.provenance(). draw: as train's. watch_all: observe tells norms by layer and scores too."""
        self.config, self.draw, self.checkpoints, self.origin, self.device = config, draw, checkpoints, origin, device
        self.state = create_state(config, device=device)
        self.logs: list[Logs] = []  # of the steps since the last collect(), on the device
        self._last: Inputs | None = None  # of the last step, where all is watched
        self._watch_all, self._waited = watch_all, 0.0  # seconds since used() was called

    def begin(self, start: int | None, first: Callable[[], dict[str, np.ndarray]]) -> Progress:
        """The state of a checkpoint, or the first one."""
        if start is not None:
            return self.restore(start)
        load_state(self.state, first())
        return Progress(self.state.step)

    def restore(self, step: int) -> Progress:
        """See loop.Backend."""
        checkpoint = self.checkpoints.restore(step)
        load_state(self.state, checkpoint.state)
        self.logs.clear()
        logged = {name: value for name, value in checkpoint.metrics.items() if name != "best_metric"}
        return Progress(step, checkpoint.rollbacks, logged, checkpoint.unlogged)

    def compile(self, step: int, count: int, rollbacks: int) -> None:
        """See loop.Backend; nothing is."""

    def started(self) -> None:
        """See loop.Backend; nothing is left."""

    def train(self, step: int, count: int, rollbacks: int) -> None:
        """See loop.Backend. A GPU is one step behind at most: what copies a step's inputs waits for the step before."""
        for k in range(step, step + count):
            began = time.monotonic()
            inputs = self.draw(k, rollbacks)
            self._waited += time.monotonic() - began
            self.state, logs = training_step(self.config, self.state, inputs)
            self.logs.append(logs)
            self._last = inputs if self._watch_all else None

    def collect(self) -> list[Numbers]:
        """See loop.Backend."""
        logs, self.logs = self.logs, []
        return [{name: value.cpu().numpy() for name, value in entry.items()} for entry in logs]

    def generator(self, average: bool) -> Make:
        """See loop.Backend."""

        def make(latents: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
            classes = None if labels is None else torch.from_numpy(labels).long().to(self.device)
            given = torch.from_numpy(latents.copy()).to(self.device)
            return sample(self.config.model, self.state, given, classes, average=average)

        return make

    def observe(self, *, singular_values: bool) -> dict[str, float | np.ndarray]:
        """See loop.Backend."""
        found = observe(self.config, self.state, self._last, singular_values=singular_values)
        return {name: value.item() if value.ndim == 0 else value.cpu().numpy() for name, value in found.items()}

    def used(self) -> dict[str, float]:
        """See loop.Backend."""
        waited, self._waited = self._waited, 0.0
        peak = peak_memory() if self.device.type == "cpu" else machine.peak(self.device)
        return {"memory_mb": peak, "data_wait_s": waited}

    def not_finite(self) -> str | None:
        """See loop.Backend."""
        for network in ("generator", "discriminator"):
            for name, tensor in getattr(self.state, network).state_dict().items():
                if not bool(torch.isfinite(tensor).all()):
                    return f"{network}.{name}"
        return None

    def save(self, progress: Progress, metrics: dict[str, float]) -> None:
        """See loop.Backend."""
        checkpoint = Checkpoint(self.config, metrics, progress.unlogged, dump(self.state), progress.rollbacks)
        self.checkpoints.save(checkpoint, self.origin)


def sample(
    config: ModelConfig,
    state: TrainState,
    latents: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    average: bool = True,
) -> np.ndarray:
    """Images in evaluation mode of latents [n, latent_size]: uint8 [n, h, w, c], or points.

    labels: int [n]; where conditional and not given, classes in turn. average: with the averaged weights, else the own.
    """
    if labels is None and config.num_classes:
        labels = torch.arange(len(latents), device=latents.device) % config.num_classes
    generator = state.generator
    raw = {name: p.detach().clone() for name, p in generator.named_parameters()}
    try:
        with torch.no_grad():
            for name, p in generator.named_parameters():
                p.copy_(state.generator_ema[name] if average else p)
            generator.eval()
            made = generator(latents, labels)
            images = made if config.is_points else to_uint8(made)
    finally:
        with torch.no_grad():
            for name, p in generator.named_parameters():
                p.copy_(raw[name])
        generator.train()
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
