"""Training in JAX: data, state and jitted steps, put into the loop."""

import math
from contextlib import AbstractContextManager, ExitStack, nullcontext
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
from jax_sngan.checkpoint_steps import choose_start
from jax_sngan.compilation_cache import use_compilation_cache
from jax_sngan.config import RunConfig, TrainConfig, to_dict
from jax_sngan.data import Dataset
from jax_sngan.errors import UserError
from jax_sngan.evaluate import TrainingEvaluation
from jax_sngan.inputs import Inputs, draw_inputs, input_shapes, sample_latents, step_rows
from jax_sngan.lock import hold
from jax_sngan.loop import Loop, Make, Result, describe_resume, describe_start
from jax_sngan.models import allow_dtype
from jax_sngan.provenance import check, provenance
from jax_sngan.run_log import RunLog
from jax_sngan.sample import Generator, averaged
from jax_sngan.sharding import make_mesh, place, sharded_step, split_inputs
from jax_sngan.state import TrainState, create_state
from jax_sngan.streams import StreamedImages
from jax_sngan.update import Logs, train_step, training_step, training_steps
from jax_sngan.workdir import check_start, prepare, run_folder, sweep, writing


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
    data = data_sets.load(
        config.data, image_size=m.image_size, channels=m.channels, data_dir=run.data_dir, stream=run.stream
    )
    if config.flip and not data.flip:
        raise UserError(f"flip must be false for {data.name}: a mirrored image is no longer of the data")
    if m.num_classes and len(data.classes) != m.num_classes:
        raise UserError(f"model.num_classes must be {len(data.classes)} for {data.name}, got {m.num_classes}")
    return data


def reading_ahead(config: TrainConfig, run: RunConfig, data: Dataset) -> AbstractContextManager[None]:
    """Within the block workers decode the images of the steps to come, where data are streamed."""
    if not isinstance(data.images, StreamedImages):
        return nullcontext()
    return data.images.reading_ahead(partial(step_rows, config, len(data)), config.steps, run.stream_workers)


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
    devices = jax.devices() if mesh is None else mesh.devices.flatten()
    used = f"{1 if mesh is None else len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    origin = provenance("jax", data.identity(), used)
    evaluation = TrainingEvaluation(config, run) if run.evaluate_every else None
    sampling = f"python scripts/sample.py {workdir} --grid grid.png"
    with ExitStack() as stack:
        lock = stack.enter_context(hold(workdir))
        check_start(workdir, config, run.resume)  # again: a run may have ended here since
        stack.enter_context(writing(workdir))
        sweep(workdir)
        checkpoints = stack.enter_context(Checkpoints(workdir, run.keep_checkpoints))
        start, notes = choose_start(checkpoints, run.step)
        if start is not None:
            notes += check(checkpoints.origin(start), origin, f"the checkpoint of step {start} in {workdir}")
        prepare(workdir, config, sampling)
        engine = JaxEngine(
            config,
            data,
            checkpoints,
            mesh,
            sampling,
            start,
            origin,
            standing=run.standing_statistics,
            split=run.shard_state,
            dispatch=run.dispatch,
        )
        if engine.start >= config.steps:
            return Result(engine.start, {}, None, 0, engine.sampling)
        parameters = (count(engine.state.generator.params), count(engine.state.discriminator.params))
        describe_start(config, workdir, data.summary(), parameters, used, engine.start)
        describe_resume(workdir, start, notes)
        stack.enter_context(reading_ahead(config, run, data))
        log = stack.enter_context(RunLog(workdir, engine.start, config.steps, config.n_dis * config.batch_size))
        return Loop(config, run, workdir, log, engine, lock, evaluation).run_all()


class JaxEngine:
    """State, jitted step and checkpoints (loop.Engine)."""

    before_first = "compiling the training step (kept for the next start) …"

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        checkpoints: Checkpoints,
        mesh: Mesh | None,
        sampling: str,
        start: int | None,
        origin: dict[str, Any],
        *,
        standing: int = 0,
        split: bool = False,
        dispatch: int = 1,
    ):
        """start: the checkpoint to go on from; None: a fresh state. origin: provenance.provenance(). standing: latents
        of the averaged generator's batch statistics in evaluations; 0: the stored ones. split: sharding.place's.
        dispatch: steps in one program, at most."""
        self.config, self.data, self.checkpoints, self.mesh = config, data, checkpoints, mesh
        self.sampling, self.origin, self.standing, self.split = sampling, origin, standing, split
        self.state: TrainState
        self.dispatch = dispatch
        self._logs: list[tuple[int, Logs]] = []  # on the device, oldest first: (steps, their logs)
        if start is None:
            self.state = place(mesh, create_state(config), split)
            self.start, self.rollbacks = 0, 0
            self.unlogged: list[dict[str, float]] = []
        else:
            self.start, self.rollbacks = start, self.restore(start)
        if dispatch > 1:
            together = partial(training_steps, config)
            self._train_steps = (
                jax.jit(together, donate_argnums=0) if mesh is None else sharded_step(mesh, together, self.state, split)
            )
        else:
            self._train_step = (
                train_step(config)
                if mesh is None
                else sharded_step(mesh, partial(training_step, config), self.state, split)
            )

    def restore(self, step: int) -> int:
        """See loop.Engine."""
        like = shapes(partial(create_state, self.config))
        self.state = place(self.mesh, self.checkpoints.restore(step, like), self.split)
        self.unlogged = self.checkpoints.unlogged(step)
        self._logs.clear()
        return self.checkpoints.rollbacks(step)

    def steps(self, k: int, count: int) -> None:
        """Dispatches the steps and waits for those before: the host stays one ahead, and the bar tells the truth."""
        inputs = [self._inputs(step) for step in range(k, k + count)]
        if self.dispatch == 1:
            self.state, logs = self._train_step(self.state, inputs[0])
        else:
            padded = inputs + [inputs[-1]] * (self.dispatch - count)
            self.state, logs = self._train_steps(self.state, _stacked(padded), np.int32(count))
        if self._logs:
            jax.block_until_ready(self._logs[-1])
        self._logs.append((count, logs))

    def _inputs(self, step: int) -> Inputs:
        return split_inputs(self.mesh, draw_inputs(self.config, self.data, step, self.rollbacks))

    def collect(self) -> list[dict[str, np.ndarray]]:
        """See loop.Engine."""
        logs, self._logs = jax.device_get(self._logs), []
        if self.dispatch == 1:
            return [entry for _, entry in logs]
        return [{name: a[i] for name, a in entry.items()} for count, entry in logs for i in range(count)]

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
        """See loop.Engine. A gradient that was not finite stays in Adam's mean, which is looked at first."""
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(_finite(self.state)))
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, finite in leaves if not finite]
        for name in sorted(names, key=lambda n: "_opt.mu." not in n):
            return name.replace("_opt.mu.", ".", 1) + "'s gradient" if "_opt.mu." in name else name
        return None

    def save(self, metrics: dict[str, float], unlogged: list[dict[str, float]]) -> None:
        """See loop.Engine."""
        self.checkpoints.save(self.state, self.config, metrics, unlogged, origin=self.origin, rollbacks=self.rollbacks)

    def saved(self) -> list[int]:
        """See loop.Engine."""
        self.checkpoints.wait()
        return self.checkpoints.steps()


@jax.jit
def _stacked(inputs: list[Inputs]) -> Inputs:
    return jax.tree.map(lambda *x: jnp.stack(x), *inputs)


@jax.jit
def _finite(state: TrainState) -> Any:
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), state)
