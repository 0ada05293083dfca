"""The stages that JAX does: `python -m jax_sngan.accelerator_check.stages STAGE OPTIONS RESULT`, options as JSON.

A stage writes what it has found so far whenever that is more.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax_sngan.accelerator_check import carried
from jax_sngan.accelerator_check.measured import chip_of, estimate, mfu
from jax_sngan.benchmark.jax_side import RandomImages
from jax_sngan.benchmark.jax_side import probe as benchmark_probe
from jax_sngan.benchmark.runner import Plan, machine, measure
from jax_sngan.benchmark.workloads import ARITHMETICS, workloads
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.core.inputs import draw_inputs
from jax_sngan.core.sharding import make_mesh, place, sharded_inputs, sharded_step
from jax_sngan.core.state import create_state
from jax_sngan.core.step import train_step, training_step
from jax_sngan.runs.log import repeatable_lines
from jax_sngan.system.files import write_json
from jax_sngan.training.trainer import train

TINY = {"batch_size": 4, "model.generator_width": 2, "model.discriminator_width": 2, "model.latent_size": 4}
LOSSES = ("d_loss", "g_loss", "d_real", "d_fake")  # what two steps are compared by
# Of one step in float32, from one state and one batch: as rung 5's UPDATE_F32.
MESH = 4e-5
# Of two steps after a resume, of which a GPU's sums may come in another order.
RESUMED = 1e-3

Write = Callable[[dict[str, Any]], None]


def probe(options: dict[str, Any], write: Write) -> None:
    """What this machine is, and what it lacks."""
    probed = benchmark_probe()
    device = jax.devices()[0]
    chip = chip_of(device.device_kind)
    stats = device.memory_stats() or {}
    write(
        {
            "machine": machine(probed),
            "devices": probed["devices"],
            "gflops": probed["gflops"],
            "memory_mb": stats["bytes_limit"] / 2**20 if "bytes_limit" in stats else None,
            "chip": chip.name if chip else None,
            "chip_source": chip.source if chip else "no facts of this device (jax_sngan/accelerators/targets.py)",
            "without": carried.missing(),
        }
    )


def benchmark(options: dict[str, Any], write: Write) -> None:
    """One work in one arithmetic, as the command `benchmark` has it."""
    arithmetic = options["arithmetic"]
    plan = Plan(
        options["repetitions"], options["peak"], options["kinds"], arithmetic, changes=TINY if options["quick"] else {}
    )
    row = measure(workloads()[options["work"]], plan)
    device = row["devices"]["jax"]
    write({"row": row | {"mfu": mfu(device, arithmetic, row["gflop"], row["jax_s"])}, "passed": True})


def compiled(options: dict[str, Any], write: Write) -> None:
    """The time of each workload's step by its compiled program, TF32 where there is such a thing."""
    found: dict[str, Any] = {}
    for name in options["workloads"]:
        config = replace(workloads()[name].config, ARITHMETICS["tf32"] | (TINY if options["quick"] else {}))
        state, inputs = create_state(config), draw_inputs(config, RandomImages(config), 0)
        step = train_step(config).lower(state, inputs).compile()  # type: ignore[attr-defined]
        found[name] = estimate(step.as_text() or "", jax.devices()[0].device_kind)
        write({"workloads": found})


def mesh(options: dict[str, Any], write: Write) -> None:
    """A step on a mesh of one device beside the step without a mesh."""
    config = _config(options)
    data = RandomImages(config)
    on = make_mesh("data=1", config)
    assert on is not None
    _, alone = train_step(config)(create_state(config), draw_inputs(config, data, 0))
    state = place(on, create_state(config), False)
    step = sharded_step(on, partial(training_step, config, mesh=on), state, False)
    _, meshed = step(state, sharded_inputs(on, config)(data, 0, 0))
    error = max(_apart(np.asarray(meshed[name]), np.asarray(alone[name])) for name in LOSSES)
    write({"error": error, "tolerance": MESH, "of": "the losses and mean scores of a step", "passed": error <= MESH})


def resume(options: dict[str, Any], write: Write) -> None:
    """A run that is cut off after its first checkpoint and goes on, beside the whole run."""
    config, folder = _config(options), Path(options["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    whole, cut = folder / "whole", folder / "cut"
    every = RunConfig(log_every=1, sample_every=0, checkpoint_every=2, deterministic=True)
    train(config, replace(every, {"workdir": str(whole)}))
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / str(config.steps))
    train(config, replace(every, {"workdir": str(cut), "resume": "must"}))
    a, b = (repeatable_lines(workdir / "metrics.jsonl") for workdir in (whole, cut))
    error = max(_apart(np.asarray(b[-1][name]), np.asarray(a[-1][name])) for name in LOSSES)
    passed = len(a) == len(b) == config.steps and error <= RESUMED
    told = {"error": error, "tolerance": RESUMED, "of": "the losses and mean scores at the end", "to_the_bit": a == b}
    write(told | {"passed": passed})


def _config(options: dict[str, Any]) -> TrainConfig:
    changes = {"steps": 4, "precision": "highest"} | (TINY if options["quick"] else {})
    return replace(preset("sngan"), changes)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max|b|; infinite where something is not finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.max(np.abs(a.astype(np.float64) - b)) / max(float(np.max(np.abs(b))), 1e-300))


STAGES = {stage.__name__: stage for stage in (probe, benchmark, compiled, mesh, resume)}


def main() -> None:
    """One stage."""
    name, options, result = sys.argv[1:4]
    STAGES[name](json.loads(options), partial(write_json, result))


if __name__ == "__main__":
    main()
