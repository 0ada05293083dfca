"""What a training step of one config costs in steps of another: processor time of both, measured in turn."""

import statistics
import time
from collections.abc import Callable

import jax

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.inputs import draw_inputs
from jax_sngan.core.state import create_state
from jax_sngan.core.step import train_step
from jax_sngan.data.datasets import Dataset

TURNS = 7  # of each side; the first of each is warm-up
SECONDS = 0.7  # of a turn, about


def relative_cost(config: TrainConfig, base: TrainConfig, data: Dataset) -> float:
    """Processor time of a step of config over that of a step of base: the median over turns taken one after another.

    Drawing the inputs is part of a step. The ratio is of this number of threads: bind the process to as many cores as
    the answer is for.
    """
    sides = (_stepper(config, data), _stepper(base, data))
    counts = [max(1, round(SECONDS / _timed(side, 2))) for side in sides]
    ratios = []
    for _ in range(TURNS):
        own, other = (_timed(side, count) for side, count in zip(sides, counts, strict=True))
        ratios.append(own / other)
    return statistics.median(ratios[1:])


def _stepper(config: TrainConfig, data: Dataset) -> Callable[[int], None]:
    program, kept = train_step(config), {"state": create_state(config)}

    def steps(count: int) -> None:
        for k in range(count):
            kept["state"], _ = program(kept["state"], draw_inputs(config, data, k))
        jax.block_until_ready(kept["state"])

    steps(1)  # compiles
    return steps


def _timed(steps: Callable[[int], None], count: int) -> float:
    """Processor seconds of one of count steps."""
    started = time.process_time()
    steps(count)
    return (time.process_time() - started) / count
