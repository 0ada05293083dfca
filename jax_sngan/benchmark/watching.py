"""What it costs that a step tells more than its losses: both programs in one process, a step of each in turn.

`python -m jax_sngan.benchmark.watching WORK PAIRS ARITHMETIC CHANGES` prints the seconds of one process.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from tqdm import tqdm

from jax_sngan.benchmark.jax_side import RandomImages
from jax_sngan.benchmark.paired import verdict
from jax_sngan.benchmark.runner import ROOT, environment
from jax_sngan.benchmark.workloads import ARITHMETICS, Workload, workloads
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.inputs import Inputs, draw_inputs
from jax_sngan.core.state import TrainState, create_state
from jax_sngan.core.step import Logs, training_step
from jax_sngan.system.allocator import keep_freed_memory

TOLD = ("d_loss", "g_loss", "d_real", "d_fake")  # all that a step told before it was watched
PAIRS_A_PROCESS = 40


def measure(work: Workload, processes: int, changes: Mapping[str, Any], arithmetic: str) -> dict[str, Any]:
    """One row: "now" is the step as it is, "then" one of which TOLD alone is asked, so that XLA leaves out the rest.

    Its seconds are medians, one a process: where a process's memory lies makes one program faster than the other.

    Raises:
      RuntimeError: a process failed.
    """
    seconds: dict[str, list[float]] = {"now": [], "then": []}
    for _ in tqdm(range(processes), desc=work.name, leave=False, disable=None):
        arguments = [work.name, str(PAIRS_A_PROCESS), arithmetic, json.dumps(dict(changes))]
        command = [sys.executable, "-m", "jax_sngan.benchmark.watching", *arguments]
        ran = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
        if ran.returncode:
            why = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
            raise RuntimeError(f"{work.name}: {why[-1]}")
        for name, own in json.loads(ran.stdout).items():
            seconds[name].append(statistics.median(own))
    return {"work": work.name, "arithmetic": arithmetic} | verdict(seconds["now"], seconds["then"])


def in_pairs(config: TrainConfig, pairs: int) -> dict[str, list[float]]:
    """Seconds of a step of each program, "now" and "then"; who is first changes from pair to pair."""
    keep_freed_memory(config.batch_size * config.model.image_size**2)
    gan, inputs = as_gan(config), draw_inputs(config, RandomImages(config), 0)
    programs, states = {}, {}
    steps: dict[str, Callable[..., tuple[TrainState, Logs]]] = {"now": training_step, "then": _bare}
    for name, step in steps.items():
        states[name] = create_state(config)
        programs[name] = jax.jit(partial(step, gan), donate_argnums=0).lower(states[name], inputs).compile()

    def once(name: str) -> float:
        started = time.perf_counter()
        states[name], logs = programs[name](states[name], inputs)
        jax.block_until_ready((states[name], logs))
        return time.perf_counter() - started

    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(-1, pairs):
        for name in sorted(programs, reverse=number % 2 == 1):
            took = once(name)
            if number >= 0:  # the first of each touches its memory
                seconds[name].append(took)
    return seconds


def _bare(gan: GAN, state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
    state, logs = training_step(gan, state, inputs)
    return state, {name: logs[name] for name in TOLD}


if __name__ == "__main__":
    name, pairs, arithmetic, changes = sys.argv[1:]
    config = replace(workloads()[name].config, {**ARITHMETICS[arithmetic], **json.loads(changes)})
    print(json.dumps(in_pairs(config, int(pairs))))
