"""The same run by the reference: state, steps and checkpoints in torch, put into the loop of both frameworks.

Data, inputs and the first state are given, so that a run starts from the JAX framework's numbers and sees its inputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from jax_sngan.config.schema import ModelConfig, RunConfig, TrainConfig
from jax_sngan.runs.log import RunLog, last_logged
from jax_sngan.runs.provenance import check, provenance
from jax_sngan.runs.selection import choose_start
from jax_sngan.runs.workdir import check_start, prepare, run_folder, take, writing
from jax_sngan.system.errors import UserError
from jax_sngan.system.lock import locked
from jax_sngan.training.loop import Loop, Make, Result, Scores, describe_resume, describe_start
from torch_ref.core.inputs import Inputs
from torch_ref.core.pixels import to_uint8
from torch_ref.core.state import TrainState, create_state, dump, load_state
from torch_ref.core.step import Logs, training_step
from torch_ref.runs.checkpoint import Checkpoint, Checkpoints
from torch_ref.system import machine


def train(
    config: TrainConfig,
    run: RunConfig,
    data: dict[str, str],
    first: Callable[[], dict[str, np.ndarray]],
    draw: Callable[[int, int], Inputs],
    latents: np.ndarray,
    device: torch.device,
    evaluate: Callable[[Callable[[bool], Make]], Scores] | None = None,
) -> Result:
    """Trains config's networks, from the newest checkpoint of the workdir if it has one.

    Args:
      data: data.Dataset.identity().
      first: the state to start from, as torch_ref.core.state.dump names it.
      draw: a step's number and how often the run went back -> the step's inputs, on the device.
      latents: [num, latent_size] of the sample grids.
      device: which computes; what is written is the same wherever that was.
      evaluate: as of loop.Loop.
    Raises:
      UserError: a workdir that holds another run.
      TrainingDiverged: a number is no longer finite.
    """
    if run.mesh is not None:
        raise UserError(f"mesh is for train_jax.py; the reference runs on one device, got {run.mesh}")
    if (joined := (run.coordinator, run.num_processes, run.process_id)) != (None, None, None):
        raise UserError(
            "coordinator, num_processes and process_id are for train_jax.py; the reference runs in one process, got "
            f"{', '.join(map(str, joined))}"
        )
    if run.standing_statistics:
        raise UserError(f"standing_statistics is for train_jax.py, got {run.standing_statistics}")
    if run.deterministic and device.type != "cpu":
        raise UserError(f"deterministic is for train_jax.py, or for device cpu, got it with {device}")
    machine.set_precision(config.precision, device)
    workdir = run_folder(config, run)
    check_start(workdir, config, run.resume, "torch")
    origin = provenance("torch", data, machine.described(device))
    with locked(workdir) as lock, writing(workdir):
        check_start(workdir, config, run.resume, "torch")  # again: a run may have ended here since
        take(workdir)
        checkpoints = Checkpoints(workdir, run.keep_checkpoints)
        start, notes = choose_start(checkpoints, run.step)
        if start is not None:
            notes += check(checkpoints.origin(start), origin, f"the checkpoint of step {start} in {workdir}")
        notes += prepare(workdir, config, TorchEngine.sampling)
        engine = TorchEngine(config, checkpoints, start, origin, first, draw, latents, device)
        if engine.start >= config.steps:
            return Result(engine.start, {}, None, 0, engine.sampling)
        state = engine.state
        g, d = (sum(p.numel() for p in m.parameters()) for m in (state.generator, state.discriminator))
        describe_start(
            config,
            workdir,
            data["summary"],
            (g, d),
            machine.described(device),
            engine.start,
            platform="cpu" if device.type == "cpu" else "gpu",
            deterministic=run.deterministic,
        )
        begun = (workdir / "metrics.jsonl").exists()
        with RunLog(workdir, engine.start, config.steps, config.n_dis * config.batch_size, engine.logged) as log:
            describe_resume(workdir, start, [*notes, *log.notes], begun)
            return Loop(config, run, workdir, log, engine, lock, evaluate).run_all()


class TorchEngine:
    """State, step and `.pt` checkpoints (loop.Engine)."""

    sampling = ""  # its grids are all that it draws
    before_first = ""

    def __init__(
        self,
        config: TrainConfig,
        checkpoints: Checkpoints,
        start: int | None,
        origin: dict[str, Any],
        first: Callable[[], dict[str, np.ndarray]],
        draw: Callable[[int, int], Inputs],
        latents: np.ndarray,
        device: torch.device,
    ):
        """start: the checkpoint to go on from; None: the first state. origin: provenance.provenance()."""
        self.config, self.draw, self.checkpoints, self.origin, self.device = config, draw, checkpoints, origin, device
        self.latents = torch.from_numpy(latents.copy()).to(device)
        self.state = create_state(config, device=device)
        self.logs: list[Logs] = []  # of the steps since the last collect(), on the device
        self.unlogged: list[dict[str, float]] = []
        self.rollbacks, self.logged = 0, 0
        if start is not None:
            self.rollbacks = self.restore(start)
        else:
            load_state(self.state, first())
        self.start = self.state.step

    def restore(self, step: int) -> int:
        """See loop.Engine."""
        checkpoint = self.checkpoints.restore(step)
        load_state(self.state, checkpoint.state)
        self.unlogged = checkpoint.unlogged
        self.logged = last_logged(step, checkpoint.unlogged, checkpoint.metrics)
        self.logs.clear()
        return checkpoint.rollbacks

    def compile(self, k: int, count: int) -> None:
        """See loop.Engine; nothing is."""

    def steps(self, k: int, count: int) -> None:
        """See loop.Engine. A GPU is one step behind at most: what copies a step's inputs waits for the step before."""
        for step in range(k, k + count):
            self.state, logs = training_step(self.config, self.state, self.draw(step, self.rollbacks))
            self.logs.append(logs)

    def collect(self) -> list[dict[str, np.ndarray]]:
        """See loop.Engine."""
        logs, self.logs = self.logs, []
        return [{name: value.cpu().numpy() for name, value in entry.items()} for entry in logs]

    def images(self, num: int) -> np.ndarray:
        """See loop.Engine."""
        return sample(self.config.model, self.state, self.latents[:num])

    def generator(self, average: bool) -> Make:
        """See loop.Engine."""

        def make(latents: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
            classes = None if labels is None else torch.from_numpy(labels).long().to(self.device)
            given = torch.from_numpy(latents.copy()).to(self.device)
            return sample(self.config.model, self.state, given, classes, average=average)

        return make

    def not_finite(self) -> str | None:
        """See loop.Engine."""
        for network in ("generator", "discriminator"):
            for name, tensor in getattr(self.state, network).state_dict().items():
                if not bool(torch.isfinite(tensor).all()):
                    return f"{network}.{name}"
        return None

    def save(self, metrics: dict[str, float], unlogged: list[dict[str, float]]) -> None:
        """See loop.Engine."""
        checkpoint = Checkpoint(self.config, metrics, unlogged, dump(self.state), self.rollbacks)
        self.checkpoints.save(checkpoint, self.origin)

    def saved(self) -> list[int]:
        """See loop.Engine."""
        return self.checkpoints.steps()


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
            images = made if config.channels == 2 else to_uint8(made)
    finally:
        with torch.no_grad():
            for name, p in generator.named_parameters():
                p.copy_(raw[name])
        generator.train()
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
