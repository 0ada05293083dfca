"""Training in JAX: data, state and jitted steps, put into the loop."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_sngan.config.arithmetic import compiler_options
from jax_sngan.config.schema import RunConfig, TrainConfig, to_dict
from jax_sngan.core import flops
from jax_sngan.core.inputs import Inputs, draw_inputs, input_shapes, sample_latents, step_rows
from jax_sngan.core.sharding import (
    check_split,
    make_mesh,
    on_this_process,
    own_columns,
    place,
    placed_shapes,
    sharded_inputs,
    sharded_step,
)
from jax_sngan.core.state import TrainState, create_state
from jax_sngan.core.step import Logs, train_step, training_step, training_steps
from jax_sngan.data import datasets as data_sets
from jax_sngan.data.datasets import Dataset
from jax_sngan.data.streaming import StreamedImages
from jax_sngan.models.network import allow_dtype
from jax_sngan.runs.checkpoint import Checkpoints, shapes
from jax_sngan.runs.log import NoLog, RunLog, last_logged
from jax_sngan.runs.provenance import check, provenance
from jax_sngan.runs.sample import Generator, averaged
from jax_sngan.runs.selection import choose_start
from jax_sngan.runs.workdir import check_start, prepare, run_folder, sample_command, take, writing
from jax_sngan.system import processes
from jax_sngan.system.allocator import keep_freed_memory
from jax_sngan.system.compilation_cache import use_compilation_cache
from jax_sngan.system.errors import UserError
from jax_sngan.system.lock import Lock, LockedElsewhere, locked
from jax_sngan.training.evaluation import TrainingEvaluation
from jax_sngan.training.loop import Loop, Make, Result, Scores, TrainingDiverged, describe_resume, describe_start


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
    data = data_sets.load_data(
        config.data, image_size=m.image_size, channels=m.channels, data_dir=run.data_dir, stream=run.stream
    )
    if config.flip and not data.flip:
        raise UserError(f"flip must be false for {data.name}: a mirrored image is no longer of the data")
    if m.num_classes and len(data.classes) != m.num_classes:
        raise UserError(f"model.num_classes must be {len(data.classes)} for {data.name}, got {m.num_classes}")
    return data


def reading_ahead(
    config: TrainConfig, run: RunConfig, data: Dataset, mesh: Mesh | None
) -> AbstractContextManager[None]:
    """Within the block workers decode this process's images of the steps to come, where data are streamed."""
    if not isinstance(data.images, StreamedImages):
        return nullcontext()
    plan = partial(step_rows, config, len(data), columns=own_columns(mesh, config))
    return data.images.reading_ahead(plan, config.steps, run.stream_workers)


def train(config: TrainConfig, run: RunConfig) -> Result:
    """Trains config's networks, from the newest checkpoint of the workdir if it has one.

    In one of several processes (system/processes.py) this is called in all of them.

    Raises:
      UserError: a wrong option, data that can't be had, a workdir that holds another run.
      TrainingDiverged: a number is no longer finite.
    """
    if run.device != "auto":
        raise UserError(
            f"device is for train_torch.py, got {run.device}; JAX takes the first platform that it finds, or that of "
            "the environment: JAX_PLATFORMS=cpu or JAX_PLATFORMS=cuda"
        )
    workdir = run_folder(config, run)
    processes.join(run.coordinator, run.num_processes, run.process_id)
    with processes.ends_alone(TrainingDiverged):
        return _train(config, run, workdir)


def _train(config: TrainConfig, run: RunConfig, workdir: Path) -> Result:
    processes.first_does(lambda: check_start(workdir, config, run.resume))
    allow_dtype(config.model)
    use_compilation_cache()
    keep_freed_memory()
    mesh = make_mesh(run.mesh, config)
    if mesh is not None and run.shard_state:
        check_split(mesh, shapes(partial(create_state, config)))
    data = processes.first_goes_ahead(lambda: load_data(config, run))
    devices = jax.devices() if mesh is None else mesh.devices.flatten()
    platform = devices[0].platform
    used = f"{1 if mesh is None else len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    if processes.count() > 1:
        used += f" in {processes.count()} processes"
    origin = provenance("jax", data.identity(), used)
    evaluate = evaluated_by_first(config, run) if run.evaluate_every else None
    sampling = sample_command(workdir)
    with ExitStack() as stack:
        lock: Lock = LockedElsewhere()

        def begin() -> None:
            nonlocal lock
            lock = stack.enter_context(locked(workdir))
            check_start(workdir, config, run.resume)  # again: a run may have ended here since
            take(workdir)

        processes.first_does(begin)
        if not workdir.is_dir():
            raise UserError(f"workdir {workdir} is not there: all processes of a run must see the one folder")
        stack.enter_context(writing(workdir))
        checkpoints = stack.enter_context(Checkpoints(workdir, run.keep_checkpoints))
        stack.enter_context(processes.ends_alone(TrainingDiverged))  # or closing them would wait for the others
        start, notes = choose_start(checkpoints, run.step)
        if start is not None:
            notes += check(checkpoints.origin(start), origin, f"the checkpoint of step {start} in {workdir}")
        notes += processes.first_does(lambda: prepare(workdir, config, sampling))
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
            compiler_options=compiler_options(run.deterministic, platform),
        )
        if engine.start >= config.steps:
            return Result(engine.start, {}, None, 0, engine.sampling, processes.is_first())
        log: RunLog = NoLog()
        if processes.is_first():
            parameters = (count(engine.state.generator.params), count(engine.state.discriminator.params))
            describe_start(
                config,
                workdir,
                data.summary(),
                parameters,
                used,
                engine.start,
                platform=platform,
                deterministic=run.deterministic,
            )
            begun = (workdir / "metrics.jsonl").exists()
            log = RunLog(workdir, engine.start, config.steps, config.n_dis * config.batch_size, engine.logged)
            describe_resume(workdir, start, [*notes, *log.notes], begun)
        stack.enter_context(reading_ahead(config, run, data, mesh))
        stack.enter_context(log)
        agree = processes.Agreement(mesh)
        return Loop(
            config, run, workdir, log, engine, lock, evaluate, writes=processes.is_first(), agree=agree
        ).run_all()


def evaluated_by_first(config: TrainConfig, run: RunConfig) -> Callable[[Callable[[bool], Make]], Scores]:
    """The run's evaluation for the loop: the first process does it, all know the scores.

    Raises:
      UserError: as TrainingEvaluation.
    """
    made: list[TrainingEvaluation] = []
    processes.first_does(lambda: made.append(TrainingEvaluation(config, run)))

    def evaluate(generator: Callable[[bool], Make]) -> Scores:
        both = {average: generator(average) for average in (True, False)}  # all have a part of the average
        return Scores(*processes.first_does(lambda: made[0](both.__getitem__)))

    return evaluate


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
        compiler_options: Mapping[str, Any] | None = None,
    ):
        """start: the checkpoint to go on from; None: a fresh state. origin: provenance.provenance(). standing: latents
        of the averaged generator's batch statistics in evaluations; 0: the stored ones. split: sharding.place's.
        dispatch: steps in one program, at most. compiler_options: XLA's, of the steps and of the pictures."""
        self.config, self.data, self.checkpoints, self.mesh = config, data, checkpoints, mesh
        self.sampling, self.origin, self.standing, self.split = sampling, origin, standing, split
        self.state: TrainState
        self.dispatch, self._options = dispatch, dict(compiler_options or {})
        self._logs: list[tuple[int, Logs]] = []  # on the device, oldest first: (steps, their logs)
        if start is None:
            self.state = place(mesh, create_state(config), split)
            self.start, self.rollbacks, self.logged = 0, 0, 0
            self.unlogged: list[dict[str, float]] = []
        else:
            self.start, self.rollbacks = start, self.restore(start)
        self._inputs: Callable[[Dataset, int, int], Inputs]
        self._drawn: tuple[Any, ...] | None = None  # by compile, for the steps that follow it
        self._train_steps: Any  # jitted, of one step or of several in one program
        steps = partial(training_step if dispatch == 1 else training_steps, config)
        if mesh is None:
            self._inputs = partial(draw_inputs, config)
            alone = dispatch == 1 and not self._options
            self._train_steps = (
                train_step(config)
                if alone
                else jax.jit(steps, donate_argnums=0, compiler_options=self._options or None)
            )
        else:
            self._inputs = sharded_inputs(mesh, config)
            self._train_steps = sharded_step(mesh, steps, self.state, split, self._options)

    def restore(self, step: int) -> int:
        """See loop.Engine."""
        like = placed_shapes(self.mesh, shapes(partial(create_state, self.config)), self.split)
        self.state = self.checkpoints.restore(step, like)
        self.unlogged = self.checkpoints.unlogged(step)
        self.logged = last_logged(step, self.unlogged, self.checkpoints.metrics(step))
        self._logs.clear()
        return self.checkpoints.rollbacks(step)

    def compile(self, k: int, count: int) -> None:
        """See loop.Engine. The jitted function finds the program that is made here."""
        self._drawn = self._draw(k, count)
        self._train_steps.lower(self.state, *self._drawn).compile()

    def _draw(self, k: int, count: int) -> tuple[Any, ...]:
        """What the program takes beside the state."""
        inputs = [self._inputs(self.data, step, self.rollbacks) for step in range(k, k + count)]
        if self.dispatch == 1:
            return (inputs[0],)
        return _stacked(inputs + [inputs[-1]] * (self.dispatch - count)), np.int32(count)

    def steps(self, k: int, count: int) -> None:
        """Dispatches the steps and waits for those before: the host stays one ahead, and the bar tells the truth."""
        drawn, self._drawn = self._drawn or self._draw(k, count), None
        self.state, logs = self._train_steps(self.state, *drawn)
        if self._logs:
            jax.block_until_ready(self._logs[-1])
        self._logs.append((count, logs))

    def collect(self) -> list[dict[str, np.ndarray]]:
        """See loop.Engine."""
        logs, self._logs = jax.device_get(self._logs), []
        if self.dispatch == 1:
            return [entry for _, entry in logs]
        return [{name: a[i] for name, a in entry.items()} for count, entry in logs for i in range(count)]

    def images(self, num: int) -> np.ndarray:
        """See loop.Engine."""
        m = self.config.model
        own, average = on_this_process(self.mesh, (self.state.generator, self.state.generator_ema))
        generator = Generator(self.config, 0, averaged(own, average), self._options)
        return generator.images(sample_latents(self.config.seed, num, m.latent_size, jnp.dtype(m.dtype)))

    def generator(self, average: bool) -> Make:
        """See loop.Engine."""
        own, mean = on_this_process(self.mesh, (self.state.generator, self.state.generator_ema))
        made = Generator(self.config, 0, averaged(own, mean) if average else own, self._options)
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
