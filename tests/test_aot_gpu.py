"""`sngan`'s own step by XLA's CUDA compiler, for one H100 and for eight, without a GPU."""

from pathlib import Path

import pytest
from aot import INPUT_BYTES, NORMALISED, SPLIT_BYTES, STATE_BYTES, Steps, assert_shared, assert_summed, gathered, needs
from aot import SUMMED as SIMPLIFIED

from jax_sngan.config.presets import preset

pytestmark = needs("h100")
DEVICES = 8
# Seven arrays of each batch normalisation, where other compilers see that one of them, the mean of what is left of the
# mean, is nothing: here a mean is one reduction over all axes.
SUMMED = SIMPLIFIED + NORMALISED


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return Steps("h100", tmp_path_factory.mktemp("compiled"))


CASES = [(1, False), (DEVICES, False), (DEVICES, True)]


@pytest.mark.parametrize(("devices", "split"), CASES)
def test_it_compiles_and_the_next_state_takes_this_ones_memory(steps: Steps, devices: int, split: bool) -> None:
    step, told = steps.of(devices, split)
    assert told["donated"] is True
    assert step.memory is not None
    held = STATE_BYTES - (1 - 1 / devices) * SPLIT_BYTES * split
    # All but D's vectors v, which the step writes and does not read (5 kB), and the start of a buffer at 256 bytes.
    assert step.memory.aliased == pytest.approx(held, rel=0.02)


@pytest.mark.parametrize(("devices", "split"), CASES)
def test_memory(steps: Steps, devices: int, split: bool) -> None:
    """Measured: 7.5 + 38.4 MiB on one, 7.4 + 5.3 on eight, 2.6 + 7.0 with the state split; of each device."""
    memory = steps.of(devices, split)[0].memory
    assert memory is not None
    held = STATE_BYTES - (1 - 1 / devices) * SPLIT_BYTES * split
    # Arguments are the state and a device's part of the batch.
    assert memory.arguments == pytest.approx(held + INPUT_BYTES / devices, rel=0.02)
    # Work space: of one device D's maps of 64 real and 64 generated images (13.6 MB) and G's (5.8 MB), once as they are
    # and once as the gradient that flows back; of eight an eighth of it, and both gradients, which each holds whole;
    # with the state split also parameters from before an update: a step tells the norm of their change (core/watch.py).
    alone = 2 * (13.6e6 + 5.8e6) * 1.1
    assert memory.temporary < alone / devices + ((5 if split else 4) * SUMMED if devices > 1 else 0)


def test_devices_sum_gradients_logs_and_moments_and_nothing_else(steps: Steps) -> None:
    """As docs/scaling.md explains; in 14 sums there, here XLA joins two of them."""
    assert_summed(steps, DEVICES, SUMMED)


def test_with_a_split_state_updated_parameters_are_gathered_and_nothing_else(steps: Steps) -> None:
    sums = steps.sums(DEVICES, True)
    assert sums.keys() == {"all-reduce", "all-gather"}
    assert sums["all-reduce"]["bytes"] == 4 * SUMMED
    assert sums["all-gather"]["bytes"] == gathered(DEVICES)


def test_each_device_does_its_share(steps: Steps) -> None:
    assert_shared(steps, DEVICES)


def test_a_split_state_saves_memory(steps: Steps) -> None:
    whole, split = steps.of(DEVICES)[0].memory, steps.of(DEVICES, True)[0].memory
    assert whole is not None
    assert split is not None
    # All but an eighth of the moments and the average; of what is gathered for the update nothing is held beside it.
    assert whole.total - split.total > 0.8 * (1 - 1 / DEVICES) * SPLIT_BYTES


def test_kernels_are_launched_a_few_hundred_times(steps: Steps) -> None:
    # Measured 358 on one and 413 on eight; one that does not fuse, or a loop counted wrong, is another number at once.
    told = steps.of(1)[1]
    assert 100 <= told["kernels"] <= 450
    assert told["seconds"]["estimate"] is None


@pytest.mark.long
def test_a_resnets_step_launches_1300_kernels_at_most(tmp_path: Path) -> None:
    """cifar10_resnet's, five D updates and one of G, with all that `--log-level basic` tells (measured 1,267)."""
    assert Steps("h100", tmp_path, preset("cifar10_resnet")).of(1)[1]["kernels"] <= 1300
