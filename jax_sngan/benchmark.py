"""JAX's side of the benchmark: `python -m jax_sngan.benchmark WORK FOLDER`.

The folder is given the first state and the inputs, for torch's side to start from.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan import convert, flops
from jax_sngan.allocator import keep_freed_memory
from jax_sngan.benchmark_plan import Work, works
from jax_sngan.benchmark_side import serve
from jax_sngan.config import TrainConfig, replace
from jax_sngan.inputs import Inputs, draw_inputs, input_shapes
from jax_sngan.models import build
from jax_sngan.sample import CHUNK, generate
from jax_sngan.state import TrainState, create_state
from jax_sngan.update import passes, train_step


class RandomImages:
    """As many as an epoch of CIFAR-10 has, of noise: speed does not depend on what is in them."""

    def __init__(self, config: TrainConfig):
        m = config.model
        self.images = np.random.default_rng(0).integers(
            0, 256, (2048, m.image_size, m.image_size, m.channels), np.uint8
        )
        self.labels = np.arange(2048, dtype=np.int32) % max(m.num_classes, 1)


def prepare(work: Work, folder: Path) -> tuple[dict[str, Any], Callable[[], None]]:
    """Writes the folder, compiles, and returns what to tell and one repetition (benchmark_side.serve)."""
    keep_freed_memory()
    config = work.config
    state, data = create_state(config), RandomImages(config)
    inputs = draw_inputs(config, data, 0)
    np.savez(folder / "state.npz", **convert.to_torch(config, jax.device_get(state)))  # type: ignore[arg-type]
    given = {name: a for name, a in convert.inputs_to_torch(jax.device_get(inputs)).items() if a is not None}
    np.savez(folder / "inputs.npz", **given)  # type: ignore[arg-type]
    return _sampling(work, state) if work.images else _training(config, state, inputs, data)


def _training(
    config: TrainConfig, state: TrainState, inputs: Inputs, data: RandomImages
) -> tuple[dict[str, Any], Callable[[], None]]:
    started = time.perf_counter()
    step = train_step(config).lower(state, inputs).compile()  # type: ignore[attr-defined]
    told: dict[str, Any] = {
        "compile_s": time.perf_counter() - started,
        "gflop": flops.of_compiled(step.as_text() or "") / 1e9,
        "gflop_traced": flops.count(train_step(config), _shapes(state), input_shapes(config)) / 1e9,
    }
    kept = {"state": state}

    def repeat() -> None:
        kept["state"], logs = step(kept["state"], inputs)
        jax.block_until_ready((kept["state"], logs))
        if "losses" not in told:
            told["losses"] = {name: np.asarray(a, float).ravel().tolist() for name, a in logs.items()}

    repeat()
    started = time.perf_counter()
    repeat()
    seconds = time.perf_counter() - started
    told["power_iteration_share"] = _seconds(_power_iterations(config, kept["state"])) / seconds
    told["host_share"] = _seconds(partial(draw_inputs, config, data, 1)) / seconds
    return told, repeat


def _power_iterations(config: TrainConfig, state: TrainState) -> Callable[[], None]:
    """All those of a training step, alone."""
    networks = build(config.model)

    @jax.jit
    def all_of_them(state: TrainState) -> Any:
        generator, discriminator = state.generator, state.discriminator
        for _ in range(config.n_dis + 1):
            generator = networks.generator.iterate(generator)
        for _ in range(config.n_dis * passes(config) + 1):
            discriminator = networks.discriminator.iterate(discriminator)
        return generator.spectral, discriminator.spectral

    return lambda: jax.block_until_ready(all_of_them(state))


def _sampling(work: Work, state: TrainState) -> tuple[dict[str, Any], Callable[[], None]]:
    m = work.config.model
    latents = np.random.default_rng(0).normal(size=(work.images, m.latent_size)).astype(m.dtype)
    network = build(m).generator

    def batch(variables: Any, z: Any) -> Any:
        return network.apply(variables, z, None, train=False)[0]

    shape = jax.ShapeDtypeStruct((CHUNK, m.latent_size), jnp.dtype(m.dtype))
    started = time.perf_counter()
    compiled = jax.jit(batch).lower(state.generator, shape).compile()
    told = {
        "compile_s": time.perf_counter() - started,
        "gflop": flops.of_compiled(compiled.as_text() or "") * work.images / CHUNK / 1e9,
    }

    def repeat() -> None:
        made = [
            generate(work.config, state.generator, latents[i : i + CHUNK], None) for i in range(0, work.images, CHUNK)
        ]
        np.concatenate([np.asarray(a) for a in made])

    repeat()
    return told, repeat


def _seconds(f: Callable[[], Any]) -> float:
    """The better of two, after a first."""
    jax.block_until_ready(f())
    times = []
    for _ in range(2):
        started = time.perf_counter()
        jax.block_until_ready(f())
        times.append(time.perf_counter() - started)
    return min(times)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def matmul_gflops() -> float:
    """What a product of two matrices of 2048 reaches: the peak that shares are of."""
    a = jnp.ones((2048, 2048), jnp.float32)
    f = jax.jit(lambda a: a @ a)
    return 2 * 2048**3 / min(_seconds(lambda: f(a)) for _ in range(5)) / 1e9


def main() -> None:
    """Serves one work, or prints the peak."""
    if sys.argv[1] == "matmul":
        print(json.dumps(matmul_gflops()))
        return
    name, folder, changes = sys.argv[1:4]
    work = works()[name]
    serve(lambda: prepare(work._replace(config=replace(work.config, json.loads(changes))), Path(folder)))


if __name__ == "__main__":
    main()
