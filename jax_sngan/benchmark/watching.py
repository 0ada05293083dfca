"""What it costs that a step tells more than its losses: both programs in one process, a step of each in turn."""

import time
from collections.abc import Mapping
from typing import Any

import jax
from tqdm import tqdm

from jax_sngan.benchmark.jax_side import RandomImages
from jax_sngan.benchmark.paired import verdict
from jax_sngan.benchmark.workloads import ARITHMETICS, Workload
from jax_sngan.config.schema import replace
from jax_sngan.core.gan import as_gan
from jax_sngan.core.inputs import Inputs, draw_inputs
from jax_sngan.core.state import TrainState, create_state
from jax_sngan.core.step import Logs, training_step
from jax_sngan.system.allocator import keep_freed_memory

TOLD = ("d_loss", "g_loss", "d_real", "d_fake")  # all that a step told before it was watched


def measure(work: Workload, pairs: int, changes: Mapping[str, Any], arithmetic: str) -> dict[str, Any]:
    """One row: "now" is the step as it is, "then" one of which TOLD alone is asked, so that XLA leaves out the rest.

    Who is first changes from pair to pair.
    """
    keep_freed_memory()
    config = replace(work.config, {**ARITHMETICS[arithmetic], **changes})
    gan, inputs = as_gan(config), draw_inputs(config, RandomImages(config), 0)

    def whole(state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
        return training_step(gan, state, inputs)

    def bare(state: TrainState, inputs: Inputs) -> tuple[TrainState, Logs]:
        state, logs = training_step(gan, state, inputs)
        return state, {name: logs[name] for name in TOLD}

    programs, states = {}, {}
    for name, step in {"now": whole, "then": bare}.items():
        states[name] = create_state(config)
        programs[name] = jax.jit(step, donate_argnums=0).lower(states[name], inputs).compile()

    def once(name: str) -> float:
        started = time.perf_counter()
        states[name], logs = programs[name](states[name], inputs)
        jax.block_until_ready((states[name], logs))
        return time.perf_counter() - started

    seconds: dict[str, list[float]] = {"now": [], "then": []}
    for number in tqdm(range(-1, pairs), desc=work.name, leave=False, disable=None):
        for name in sorted(seconds, reverse=number % 2 == 1):
            took = once(name)
            if number >= 0:  # the first of each touches its memory
                seconds[name].append(took)
    return {"work": work.name, "arithmetic": arithmetic} | verdict(seconds["now"], seconds["then"])
