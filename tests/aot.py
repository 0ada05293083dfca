"""What the tests of real compilers share: `sngan`'s own step for a target, compiled once, and what it should hold."""

import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from jax_sngan.accelerators import compiled as compiling
from jax_sngan.accelerators.compiled import Compiled, Request, check_installed
from jax_sngan.accelerators.cost import kernels
from jax_sngan.accelerators.hlo import parse
from jax_sngan.accelerators.report import collectives, figures
from jax_sngan.accelerators.targets import target
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import RunConfig, TrainConfig, UserError
from jax_sngan.core.inputs import input_shapes
from jax_sngan.core.sharding import SPLIT, split_spec
from jax_sngan.core.state import state_shapes

CONFIG = preset("sngan")
NORMALISED = 32 + 16  # channels of G's two batch normalisations
LOGS = 10  # d_loss, g_loss; of real and of generated images' scores mean, two moments, accuracy
# Numbers that the devices sum in a step (docs/scaling.md): D's gradient, G's, the logs; and of each channel of a
# batch normalisation mean and variance, in G's pass for D and in its own, and in the latter's gradient.
STATE = state_shapes(CONFIG)


def needs(name: str) -> pytest.MarkDecorator:
    """Skips where the target's compiler is not installed."""
    try:
        check_installed(target(name))
    except UserError as error:
        return pytest.mark.skipif(True, reason=str(error))
    return pytest.mark.skipif(False, reason="")


def numbers(tree: Any) -> int:
    """In a tree of arrays."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def size(tree: Any) -> int:
    """Bytes of a tree of arrays, without what a device pads."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


SUMMED = numbers(STATE.discriminator.params) + numbers(STATE.generator.params) + LOGS + 6 * NORMALISED
STATE_BYTES, INPUT_BYTES = size(STATE), size(input_shapes(CONFIG))
SPLIT_BYTES = sum(size(getattr(STATE, name)) for name in SPLIT)


def gathered(devices: int) -> int:
    """Bytes of the parameters that are updated in parts where the state is split: each is gathered once an update."""
    mesh: Any = SimpleNamespace(size=devices)
    both = jax.tree.leaves((STATE.discriminator.params, STATE.generator.params))
    return size([x for x in both if "data" in split_spec(mesh, x.shape)])


class Steps:
    """The compiled steps of one target: each once, in a process of its own."""

    def __init__(self, name: str, folder: Path, config: TrainConfig = CONFIG):
        self.to, self.folder, self.config = target(name), folder, config
        self._once = cache(self._compiled)

    def of(self, devices: int, split: bool = False) -> tuple[Compiled, dict[str, Any]]:
        """The step and its figures."""
        return self._once(devices, split)

    def _compiled(self, devices: int, split: bool) -> tuple[Compiled, dict[str, Any]]:
        run = RunConfig(mesh=f"data={devices}", shard_state=split) if devices > 1 else RunConfig()
        request: Request = compiling.request_for(self.config, run, self.to, quick=self.to.chip.platform == "tpu")
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("XLA_FLAGS", raising=False)  # conftest's are for programs that run in a test
            step = compiling.compiled(request, print, folder=self.folder)
        assert not step.refused
        return step, figures(request, step)

    def sums(self, devices: int, split: bool = False) -> dict[str, dict[str, float]]:
        """collectives, of bytes."""
        found = collectives(kernels(parse(self.of(devices, split)[0].text)))
        return {name: {"count": of["count"], "bytes": of["mb"] * 2**20} for name, of in found.items()}


def assert_summed(steps: Steps, devices: int, summed: int) -> None:
    """The devices sum so many numbers in at most 14 sums, and exchange nothing else; one alone exchanges nothing."""
    assert steps.sums(1) == {}
    sums = steps.sums(devices)
    assert sums.keys() == {"all-reduce"}
    assert sums["all-reduce"]["bytes"] == 4 * summed
    assert sums["all-reduce"]["count"] <= 14


def assert_shared(steps: Steps, devices: int) -> None:
    """Each device computes its share of one device's products."""
    one, many = steps.of(1)[1], steps.of(devices)[1]
    assert many["gflop"] <= 1.02 / devices * one["gflop"]  # measured 1.000
