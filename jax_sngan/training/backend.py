"""The training loop's half in JAX: the state, the jitted step, the inputs and the checkpoints."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import Inputs, draw_inputs, drawing
from jax_sngan.core.observer import observer
from jax_sngan.core.several_steps import training_steps
from jax_sngan.core.sharding import (
    on_this_process,
    place,
    placed_inputs,
    placed_shapes,
    sharded_inputs,
    sharded_step,
    stacked_inputs,
)
from jax_sngan.core.state import TrainState, create_state, forget_creation, not_finite, state_shapes
from jax_sngan.core.step import Logs, train_step, training_step
from jax_sngan.data.datasets import Dataset
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.memory import MemoryCheckpoints
from jax_sngan.runs.sample import Generator, averaged
from jax_sngan.system.allocator import MANY, return_at_once
from jax_sngan.system.compilation_cache import Program, told_by_source_lines
from jax_sngan.system.machine import peak_memory
from jax_sngan.training.loop import Make, Numbers, Progress


class JaxBackend:
    """A run's state and what the loop does with it (loop.Backend)."""

    state: TrainState

    def __init__(
        self,
        config: TrainConfig,
        gan: GAN,
        data: Dataset,
        checkpoints: Checkpoints | MemoryCheckpoints,
        mesh: Mesh | None = None,
        *,
        gan_name: str | None = None,
        split: bool = False,
        dispatch: int = 1,
        watch_all: bool = False,
        own_lines: bool = False,
        origin: dict[str, Any] | None = None,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        """
        Args:
          config: the training's: steps, batch size, seed. gan: what is trained; gan_name: what it is called by where it
            is not the config's own.
          mesh: devices that share each batch; None: one device. split: sharding.place's.
          dispatch: steps in one program, at most.
          watch_all: whether observe tells each layer's norms and D's scores too.
          own_lines: whether `text` has to name source files as they are here. A program of the cache on the disk has
            those of where and when it was compiled, since the cache takes programs that differ in nothing else for one.
          origin: provenance.provenance(), for the checkpoints.
          compiler_options: XLA's, of the steps and of the pictures.
        """
        self.config, self.gan, self.gan_name, self.data, self.checkpoints = config, gan, gan_name, data, checkpoints
        self.mesh, self.split = mesh, split
        self.dispatch, self.origin, self._options = dispatch, origin or {}, dict(compiler_options or {})
        self._logs: list[tuple[int, Logs]] = []  # on the device, oldest first: (steps, their logs)
        self._drawn: tuple[Any, ...] | None = None  # by compile, for the steps that follow it
        self._last: Inputs | None = None  # of the last step, where all is watched
        self._watch_all, self._own_lines = watch_all, own_lines
        self._waited = 0.0  # seconds since used() was called
        own = drawing(gan, config)
        self._inputs: Callable[[Dataset, int, int], Inputs] = (
            partial(draw_inputs, own) if mesh is None else sharded_inputs(mesh, own)
        )
        like = placed_inputs(mesh, own)
        self._inputs_like = like if dispatch == 1 else stacked_inputs(like, dispatch)
        self._stacked = jax.jit(_stacked, out_shardings=jax.tree.map(lambda a: a.sharding, self._inputs_like))
        self._program: Any = None  # jitted, of one step or of several
        self._compiled: Future[Program]  # that, compiled

    def begin(self, start: int | None) -> Progress:
        """The state of a checkpoint, or a fresh one; and the program that trains it, where steps are left."""
        return_at_once(True)
        shapes = state_shapes(self.gan)
        if start is not None or self.mesh is not None:  # else bound to no device, which is another program to jax
            shapes = placed_shapes(self.mesh, shapes, self.split)
        if start is None or start < self.config.steps:
            self._begin_to_compile(shapes)
        if start is not None:
            return self.restore(start)
        self.state = place(self.mesh, create_state(self.gan, self.config.seed), self.split)
        return Progress()

    def _begin_to_compile(self, shapes: TrainState) -> None:
        """Has XLA compile the program in a thread, beside what else is made before the first step.

        It is traced in this thread, whose settings of jax hold. A GPU's compiler tries programs on the device and
        takes the fastest: there nothing may run beside it.
        """
        if self.mesh is None:
            self._program = _program(self.gan, self.dispatch, tuple(self._options.items()))
        else:
            steps = partial(training_step if self.dispatch == 1 else training_steps, self.gan)
            self._program = sharded_step(self.mesh, steps, shapes, self.split, self._options)
        if self._own_lines:
            jax.clear_caches()  # an earlier run of this process may have taken the program from the disk
        lowered = self._program.lower(shapes, self._inputs_like, *[np.int32(0)] * (self.dispatch > 1))

        def compiled() -> Program:
            with told_by_source_lines(self._own_lines):
                return Program(self._program, lowered)

        threads = ThreadPoolExecutor(1, "compile")
        self._compiled = threads.submit(compiled)
        threads.shutdown(wait=jax.default_backend() != "cpu")

    def compile(self, step: int, count: int, rollbacks: int) -> None:
        """See loop.Backend. The jitted function finds the program that `begin` began to make."""
        self._drawn = self._draw(step, count, rollbacks)
        self._compiled.result()

    def text(self) -> str:
        """Of the compiled program of one step or of several."""
        return str(self._compiled.result().compiled.as_text())

    def _draw(self, step: int, count: int, rollbacks: int) -> tuple[Any, ...]:
        """What the program takes beside the state."""
        began = time.monotonic()
        inputs = [self._inputs(self.data, k, rollbacks) for k in range(step, step + count)]
        self._waited += time.monotonic() - began
        self._last = inputs[-1] if self._watch_all else None
        if self.dispatch == 1:
            return (inputs[0],)
        return self._stacked(inputs + [inputs[-1]] * (self.dispatch - count)), np.int32(count)

    def train(self, step: int, count: int, rollbacks: int) -> None:
        """Dispatches the steps and waits for those before: the host stays one ahead, and the bar tells the truth."""
        drawn, self._drawn = self._drawn or self._draw(step, count, rollbacks), None
        self.state, logs = self._program(self.state, *drawn)
        if self._logs:
            jax.block_until_ready(self._logs[-1])
        self._logs.append((count, logs))

    def started(self) -> None:
        """See loop.Backend. What made the state goes, and a step that was compiled is loaded anew, which is smaller.

        On a CPU alone, whose memory the programs are in; and for batches of MANY pixels, whose programs are large.
        """
        height, width, _ = self.gan.image_shape
        if jax.default_backend() == "cpu" and self.mesh is None and self.config.batch_size * height * width >= MANY:
            forget_creation()
            program = self._compiled.result()
            if program.load_anew():
                self._program = program.compiled
        return_at_once(False)

    def collect(self) -> list[Numbers]:
        """See loop.Backend."""
        logs, self._logs = jax.device_get(self._logs), []
        if self.dispatch == 1:
            return [numbers for _, numbers in logs]
        return [{name: a[i] for name, a in numbers.items()} for count, numbers in logs for i in range(count)]

    def generator(self, average: bool, standing: int = 0) -> Make:
        """See loop.Backend; standing: latents of batch statistics taken anew, 0: the stored ones."""
        own, mean = on_this_process(self.mesh, (self.state.generator, self.state.generator_ema))
        made = Generator(self.gan, 0, averaged(own, mean) if average else own, self._options)
        return made.standing(standing).images if standing else made.images

    def observe(self, *, singular_values: bool) -> dict[str, float | np.ndarray]:
        """See loop.Backend."""
        program = _observer(self.gan, singular_values, self.mesh, self.split, tuple(self._options.items()))
        found = jax.device_get(program(self.state, self._last))
        return {name: float(value) if value.ndim == 0 else value for name, value in found.items()}

    def used(self) -> dict[str, float]:
        """See loop.Backend."""
        waited, self._waited = self._waited, 0.0
        on_device = jax.local_devices()[0].memory_stats() or {}
        peak = on_device.get("peak_bytes_in_use")
        return {"memory_mb": peak_memory() if peak is None else peak / 2**20, "data_wait_s": waited}

    def not_finite(self) -> str | None:
        """See loop.Backend."""
        return not_finite(self.state)

    def save(self, progress: Progress, metrics: dict[str, float]) -> None:
        """See loop.Backend."""
        self.checkpoints.save(
            self.state,
            self.config,
            metrics,
            progress.unlogged,
            origin=self.origin,
            rollbacks=progress.rollbacks,
            gan=self.gan_name,
        )

    def restore(self, step: int) -> Progress:
        """See loop.Backend."""
        like = placed_shapes(self.mesh, state_shapes(self.gan), self.split)
        self.state = self.checkpoints.restore(step, like)
        self._logs.clear()
        logged = {name: v for name, v in self.checkpoints.metrics(step).items() if name != "best_metric"}
        return Progress(step, self.checkpoints.rollbacks(step), logged, self.checkpoints.unlogged(step))


@lru_cache(maxsize=16)
def _program(gan: GAN, dispatch: int, options: tuple[tuple[str, Any], ...]) -> Any:
    if dispatch == 1 and not options:
        return train_step(gan)
    steps = partial(training_step if dispatch == 1 else training_steps, gan)
    return jax.jit(steps, donate_argnums=0, compiler_options=dict(options) or None)


@lru_cache(maxsize=16)
def _observer(
    gan: GAN, singular_values: bool, mesh: Mesh | None, split: bool, options: tuple[tuple[str, Any], ...]
) -> Any:
    return observer(gan, singular_values=singular_values, mesh=mesh, split=split, options=dict(options))


def _stacked(inputs: list[Inputs]) -> Inputs:
    return jax.tree.map(lambda *x: jnp.stack(x), *inputs)
