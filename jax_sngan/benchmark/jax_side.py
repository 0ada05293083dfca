"""JAX's side of the benchmark: `python -m jax_sngan.benchmark.jax_side WORK FOLDER`.

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

from jax_sngan.accelerators.cost import flops_of_compiled
from jax_sngan.benchmark.server import Prepared, serve
from jax_sngan.benchmark.workloads import ARITHMETICS, Workload, workloads
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core import flops
from jax_sngan.core.gan import gan
from jax_sngan.core.inputs import Inputs, draw_inputs, input_shapes
from jax_sngan.core.state import TrainState, create_state, forget_creation
from jax_sngan.core.step import passes, train_step
from jax_sngan.interop import torch_layout
from jax_sngan.models.network import build
from jax_sngan.runs.sample import CHUNK, generate
from jax_sngan.system.allocator import MANY, keep_freed_memory, return_at_once
from jax_sngan.system.compilation_cache import Program


class RandomImages:
    """As many as an epoch of CIFAR-10 has, of noise: speed does not depend on what is in them."""

    def __init__(self, config: TrainConfig):
        m = config.model
        self.images = np.random.default_rng(0).integers(
            0, 256, (2048, m.image_size, m.image_size, m.channels), np.uint8
        )
        self.labels = np.arange(2048, dtype=np.int32) % max(m.num_classes, 1)


def prepare(work: Workload, folder: Path) -> Prepared:
    """Writes the folder, compiles, and measures what the host and the power iterations take."""
    config, side = work.config, work.config.model.image_size
    keep_freed_memory((CHUNK if work.images else config.batch_size) * side**2)
    return_at_once(True)
    state, data = create_state(config), RandomImages(config)
    inputs = draw_inputs(config, data, 0)
    np.savez(folder / "state.npz", **torch_layout.to_torch(config, jax.device_get(state)))  # type: ignore[arg-type]
    given = {name: a for name, a in torch_layout.inputs_to_torch(jax.device_get(inputs)).items() if a is not None}
    np.savez(folder / "inputs.npz", **given)  # type: ignore[arg-type]
    told, repeat = _sampling(work, state) if work.images else _training(config, state, inputs, data)
    device = jax.devices()[0]
    return_at_once(False)
    told |= {"platform": device.platform, "device": device.device_kind}
    return Prepared(told, repeat, None if device.platform == "cpu" else _device_peak)


def _device_peak() -> float | None:
    """MiB that the device's memory held at the peak since this process began, compiling included."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in stats else None


def _training(
    config: TrainConfig, state: TrainState, inputs: Inputs, data: RandomImages
) -> tuple[dict[str, Any], Callable[[int], None]]:
    started = time.perf_counter()
    jitted: Any = train_step(config)
    step = Program(jitted, jitted.lower(state, inputs))
    compiled_in = time.perf_counter() - started
    # Of a function that is gone afterwards: jax keeps what it traced as long as the function is there.
    traced = flops.count(lambda *given: jitted(*given), _shapes(state), input_shapes(config)) / 1e9
    # On other platforms convolutions are calls of a library, which do not say what they multiply.
    on_cpu = jax.default_backend() == "cpu"
    told: dict[str, Any] = {
        "compile_s": compiled_in,
        "gflop": flops_of_compiled(step.compiled.as_text() or "") / 1e9 if on_cpu else traced,
        "gflop_traced": traced,
        "compiled_mb": _compiled_mb(step.compiled),
    }
    kept = {"state": state}

    def repeat(count: int) -> None:
        for _ in range(count):
            kept["state"], logs = step.compiled(kept["state"], inputs)
        jax.block_until_ready((kept["state"], logs))
        if "losses" not in told:
            told["losses"] = {name: np.asarray(a, float).ravel().tolist() for name, a in logs.items()}

    repeat(1)
    started = time.perf_counter()
    repeat(1)
    seconds = time.perf_counter() - started
    told["power_iteration_share"] = _seconds(_power_iterations(config, kept["state"])) / seconds
    told["host_share"] = _seconds(partial(draw_inputs, config, data, 1)) / seconds
    if on_cpu and config.batch_size * config.model.image_size**2 >= MANY:  # as training.backend does after its first
        forget_creation()
        step.load_anew()
    return told, repeat


def _compiled_mb(step: Any) -> float | None:
    """MiB of arguments and work space, as the compiler says it."""
    m = step.memory_analysis()
    return None if m is None else (m.argument_size_in_bytes + m.temp_size_in_bytes) / 2**20


def _power_iterations(config: TrainConfig, state: TrainState) -> Callable[[], None]:
    """All those of a training step, alone."""
    networks = build(config.model)

    @jax.jit
    def all_of_them(state: TrainState) -> Any:
        generator, discriminator = state.generator, state.discriminator
        for _ in range(config.n_dis + 1):
            generator = networks.generator.iterate(generator)
        for _ in range(config.n_dis * passes(gan(config)) + 1):
            discriminator = networks.discriminator.iterate(discriminator)
        return generator.spectral, discriminator.spectral

    return lambda: jax.block_until_ready(all_of_them(state))


def _sampling(work: Workload, state: TrainState) -> tuple[dict[str, Any], Callable[[int], None]]:
    m = work.config.model
    latents = np.random.default_rng(0).normal(size=(work.images, m.latent_size)).astype(m.dtype)
    network = build(m).generator

    def batch(variables: Any, z: Any) -> Any:
        return network.apply(variables, z, None, train=False)[0]

    shape = jax.ShapeDtypeStruct((CHUNK, m.latent_size), jnp.dtype(m.dtype))
    started = time.perf_counter()
    compiled = jax.jit(batch).lower(state.generator, shape).compile()
    compiled_in = time.perf_counter() - started
    on_cpu = jax.default_backend() == "cpu"
    of_a_batch = flops_of_compiled(compiled.as_text() or "") if on_cpu else flops.count(batch, state.generator, shape)
    told = {"compile_s": compiled_in, "gflop": of_a_batch * work.images / CHUNK / 1e9}

    def repeat(count: int) -> None:
        for _ in range(count):
            made = [
                generate(work.config, state.generator, latents[i : i + CHUNK], None)
                for i in range(0, work.images, CHUNK)
            ]
            np.concatenate([np.asarray(a) for a in made])

    repeat(1)
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


def matmul_gflops(arithmetic: str, size: int) -> float:
    """What a product of two matrices reaches in an arithmetic (benchmark_plan): the peak that shares are of."""
    dtype = jnp.bfloat16 if arithmetic == "bfloat16" else jnp.float32
    a = jnp.ones((size, size), dtype)
    f = jax.jit(partial(jnp.matmul, precision=ARITHMETICS[arithmetic]["precision"]))
    return 2 * size**3 / min(_seconds(lambda: f(a, a)) for _ in range(5)) / 1e9


def probe() -> dict[str, Any]:
    """What jax computes on here, and how fast that multiplies matrices."""
    device = jax.devices()[0]
    size = 2048 if device.platform == "cpu" else 8192
    kinds = ("float32",) if device.platform == "cpu" else ARITHMETICS
    found = {name: matmul_gflops(name, size) for name in kinds}
    return {"platform": device.platform, "device": device.device_kind, "devices": len(jax.devices()), "gflops": found}


def main() -> None:
    """Serves one workload, or prints the probe."""
    if sys.argv[1] == "probe":
        print(json.dumps(probe()))
        return
    name, folder, changes = sys.argv[1:4]
    work = workloads()[name]
    serve(lambda: prepare(work._replace(config=replace(work.config, json.loads(changes))), Path(folder)))


if __name__ == "__main__":
    main()
