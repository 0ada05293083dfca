"""Training in JAX: data, state and jitted steps, put into the loop."""

import math
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_sngan import data as data_sets
from jax_sngan import flops
from jax_sngan.allocator import keep_freed_memory
from jax_sngan.checkpoint import Checkpoints, shapes
from jax_sngan.compilation_cache import use_compilation_cache
from jax_sngan.config import RunConfig, TrainConfig, to_dict
from jax_sngan.data import Dataset
from jax_sngan.errors import UserError
from jax_sngan.evaluate import TrainingEvaluation
from jax_sngan.inputs import draw_inputs, input_shapes, sample_latents
from jax_sngan.loop import Loop, Make, Result, describe_start
from jax_sngan.models import allow_dtype
from jax_sngan.run_log import RunLog
from jax_sngan.sample import Generator, averaged
from jax_sngan.sharding import make_mesh, replicate, split_inputs
from jax_sngan.state import TrainState, create_state
from jax_sngan.update import Logs, train_step, training_step
from jax_sngan.workdir import check_start, prepare, run_folder


def describe(config: TrainConfig) -> dict[str, Any]:
    """What --dry-run prints: the resolved config, parameter counts, and a training step's GFLOP."""
    allow_dtype(config.model)
    state = shapes(partial(create_state, config))
    return {
        "config": to_dict(config),
        "g_params": count(state.generator.params),
        "d_params": count(state.discriminator.params),
        "gflop_per_step": flops.count(partial(training_step, config), state, input_shapes(config)) / 1e9,
    }


def count(tree: Any) -> int:
    """Numbers in a tree of arrays."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def load_data(config: TrainConfig, run: RunConfig) -> Dataset:
    """The run's real images, checked against its networks.

    Raises:
      UserError: they can't be had, or do not fit the config.
    """
    m = config.model
    data = data_sets.load(config.data, image_size=m.image_size, channels=m.channels, data_dir=run.data_dir)
    if config.flip and not data.flip:
        raise UserError(f"flip must be false for {data.name}: a mirrored image is no longer of the data")
    if m.num_classes and len(data.classes) != m.num_classes:
        raise UserError(f"model.num_classes must be {len(data.classes)} for {data.name}, got {m.num_classes}")
    return data


def train(config: TrainConfig, run: RunConfig) -> Result:
    """Trains config's networks, from the newest checkpoint of the workdir if it has one.

    Raises:
      UserError: a wrong option, data that can't be had, a workdir that holds another run.
      TrainingDiverged: a number is no longer finite.
    """
    workdir = run_folder(config, run)
    check_start(workdir, config, run.resume)
    allow_dtype(config.model)
    use_compilation_cache()
    keep_freed_memory()
    mesh = make_mesh(run.mesh, config)
    data = load_data(config, run)
    evaluation = TrainingEvaluation(config, run) if run.evaluate_every else None
    sampling = f"python scripts/sample.py {workdir} --grid grid.png"
    prepare(workdir, config, sampling)
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, run.keep_checkpoints))
        engine = JaxEngine(config, data, checkpoints, mesh, sampling, run.standing_statistics)
        if engine.start >= config.steps:
            return Result(engine.start, {}, None, 0, engine.sampling)
        devices = jax.devices() if mesh is None else mesh.devices.flatten()
        used = f"{1 if mesh is None else len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
        parameters = (count(engine.state.generator.params), count(engine.state.discriminator.params))
        describe_start(config, workdir, data.summary(), parameters, used, engine.start)
        log = stack.enter_context(RunLog(workdir, engine.start, config.steps, config.n_dis * config.batch_size))
        log.say("compiling the training step (kept for the next start) …")
        return Loop(config, run, workdir, log, engine, evaluation).run_all()


class JaxEngine:
    """State, jitted step and checkpoints (loop.Engine)."""

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        checkpoints: Checkpoints,
        mesh: Mesh | None,
        sampling: str,
        standing: int = 0,
    ):
        """standing: latents of the averaged generator's batch statistics in evaluations; 0: the stored ones."""
        self.config, self.data, self.checkpoints, self.mesh = config, data, checkpoints, mesh
        self.sampling, self.standing = sampling, standing
        self.best = min(checkpoints.scores.values(), default=None)
        steps = checkpoints.steps()
        if steps:
            state = checkpoints.restore(steps[-1], shapes(partial(create_state, config)))
            self.unlogged = checkpoints.unlogged(steps[-1])
        else:
            state, self.unlogged = create_state(config), []
        self.state: TrainState = replicate(mesh, state)
        self.start = int(state.step)
        self._logs: list[Logs] = []  # on the device, oldest first

    def step(self, k: int) -> None:
        """Dispatches step k and waits for the one before: the host stays one ahead, and the bar tells the truth."""
        inputs = split_inputs(self.mesh, draw_inputs(self.config, self.data, k))
        self.state, logs = train_step(self.config)(self.state, inputs)
        if self._logs:
            jax.block_until_ready(self._logs[-1])
        self._logs.append(logs)

    def collect(self) -> list[dict[str, np.ndarray]]:
        """See loop.Engine."""
        logs, self._logs = jax.device_get(self._logs), []
        return logs

    def images(self, num: int) -> np.ndarray:
        """See loop.Engine."""
        m = self.config.model
        generator = Generator(self.config, 0, averaged(self.state.generator, self.state.generator_ema))
        return generator.images(sample_latents(self.config.seed, num, m.latent_size, jnp.dtype(m.dtype)))

    def generator(self, average: bool) -> Make:
        """See loop.Engine."""
        own = self.state.generator
        made = Generator(self.config, 0, averaged(own, self.state.generator_ema) if average else own)
        return made.standing(self.standing).images if average and self.standing else made.images

    def not_finite(self) -> str | None:
        """See loop.Engine."""
        for path, finite in jax.tree_util.tree_leaves_with_path(jax.device_get(_finite(self.state))):
            if not finite:
                return jax.tree_util.keystr(path, simple=True, separator=".")
        return None

    def save(self, metrics: dict[str, float], unlogged: list[dict[str, float]]) -> None:
        """See loop.Engine."""
        self.checkpoints.save(self.state, self.config, metrics, unlogged)

    def saved(self) -> list[int]:
        """See loop.Engine."""
        self.checkpoints.wait()
        return self.checkpoints.steps()


@jax.jit
def _finite(state: TrainState) -> Any:
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), state)
