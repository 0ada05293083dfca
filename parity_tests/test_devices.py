"""The reference beside itself on another device: steps, pictures and checkpoints; and that no tensor is left behind.

Without `--torch-device` the other device is a GPU that is not there (emulated_gpu.py), in a process of its own.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.losses import LOSSES
from jax_sngan.interop import torch_layout
from jax_sngan.runs.provenance import provenance
from jax_sngan.system.errors import UserError
from jax_sngan.training.loop import Progress
from parity_tests.compare import EXACT
from parity_tests.configs import BASE
from parity_tests.processes import ROOT
from parity_tests.test_5_update import CASES
from parity_tests.tolerances import UPDATE_F64
from parity_tests.trees import assert_agree, biases_before_batch_norm, random_state
from torch_ref.core.inputs import from_numpy
from torch_ref.core.state import dump
from torch_ref.runs.checkpoint import Checkpoints
from torch_ref.system import machine
from torch_ref.training.trainer import TorchBackend

# One of each kind of the ladder's own tests, so that all of its helpers are seen on the device.
OF_THE_LADDER = [
    "test_1_noise.py::test_published_numbers_of_threefry",
    "test_1_ops.py::test_spectral_functions_are_torch_refs",
    "test_1_penalties.py::test_of_a_small_function[r1-float64-1e-10]",
    "test_4_losses.py::test_loss_and_gradients",
    "test_5_update.py::test_one_step_in_float64[mlp]",
]


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    found = torch.get_default_device()
    if found.type == "cpu":
        pytest.skip("the other device is the CPU; test_on_a_gpu_that_is_not_there runs this one")
    return found


def arrays_of(config: TrainConfig, step: int) -> dict[str, Any]:
    """A step's inputs, as torch_ref.core.inputs.from_numpy takes them."""
    m, rounds, batch = config.model, config.n_dis, config.batch_size
    rng = np.random.default_rng(step)

    def labels(*shape: int) -> np.ndarray | None:
        return rng.integers(0, m.num_classes, shape) if m.num_classes else None

    return {
        "real_images": rng.integers(0, 256, (rounds, batch, m.channels, m.image_size, m.image_size), np.uint8),
        "d_latents": rng.normal(size=(rounds, batch, m.latent_size)).astype(m.dtype),
        "g_latents": rng.normal(size=(config.generator_batch, m.latent_size)).astype(m.dtype),
        "real_labels": labels(rounds, batch),
        "d_labels": labels(rounds, batch),
        "g_labels": labels(config.generator_batch),
        "d_keys": rng.integers(0, 2**32, (rounds, 2), np.uint32) if config.needs_keys else None,
        "g_key": rng.integers(0, 2**32, 2, np.uint32) if config.needs_keys else None,
    }


def backend(config: TrainConfig, on: torch.device, folder: Path, start: int | None = None) -> TorchBackend:
    made = TorchBackend(
        config,
        Checkpoints(folder),
        provenance("torch", None, str(on)),
        draw=lambda step, _: from_numpy(arrays_of(config, step), on),
        device=on,
    )
    made.begin(start, lambda: torch_layout.to_torch(config, random_state(config)))
    return made


def found(of: TorchBackend) -> dict[str, np.ndarray]:
    """All that a run shows of itself after its steps."""
    logs = {f"logs.{i}.{name}": a for i, entry in enumerate(of.collect()) for name, a in entry.items()}
    m = of.config.model
    labels, latents = np.arange(3) if m.num_classes else None, np.ones((3, m.latent_size), m.dtype)
    grid = np.random.default_rng(9).normal(size=(4, m.latent_size)).astype(m.dtype)
    own = {"images": of.generator(True)(grid, None), "raw images": of.generator(False)(latents, labels)}
    return dump(of.state) | logs | {name: a.astype(np.float64) for name, a in own.items()}


@pytest.mark.parametrize("case", [case for case in CASES if case not in LOSSES or case == "hinge"])
def test_both_devices_train_alike(case: str, device: torch.device, tmp_path: Path) -> None:
    config = replace(BASE, CASES[case])
    here, there = (backend(config, d, tmp_path / d.type) for d in (torch.device("cpu"), device))
    for one in (here, there):
        one.train(one.state.step, 1, 0)
    states = [there.state.generator.state_dict(), there.state.discriminator.state_dict(), there.state.generator_ema]
    assert {t.device for state in states for t in state.values()} == {device}
    assert there.not_finite() is None
    ours, theirs = found(there), found(here)
    for name in ("images", "raw images"):  # a value on the edge between two levels may round either way
        assert np.abs(ours.pop(name) - theirs.pop(name)).max() <= 1
    assert_agree(ours, theirs, UPDATE_F64, biases_before_batch_norm(config.model, ours))


@pytest.mark.parametrize("case", ["two D updates", "generator first"])
def test_a_checkpoint_goes_from_device_to_device(case: str, device: torch.device, tmp_path: Path) -> None:
    config, cpu = replace(BASE, CASES[case]), torch.device("cpu")
    first = backend(config, device, tmp_path)
    first.train(0, 1, 0)
    first.save(Progress(first.state.step), {})
    back = backend(config, cpu, tmp_path, start=first.state.step)
    again = backend(config, device, tmp_path, start=first.state.step)
    expected = dump(first.state)
    assert all(t.device.type == "cpu" for t in back.state.generator.state_dict().values())
    for other in (back, again):
        assert_agree(dump(other.state), expected, EXACT)


def test_a_mix_of_devices_is_seen(device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3) + torch.ones(3, device="cpu")
    with pytest.raises((RuntimeError, TypeError), match="numpy"):
        torch.ones(3).numpy()


def test_on_a_gpu_that_is_not_there() -> None:
    """This file's tests, and some of the ladder's, with the reference on it."""
    tests = [f"parity_tests/{name}" for name in ("test_devices.py", *OF_THE_LADDER)]
    options = ["-q", "-x", "-p", "no:cacheprovider", "--torch-device=emulated", "-k", "not gpu_that_is_not_there"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout, done.stdout[-300:]


def test_devices_by_name() -> None:
    assert machine.device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert machine.device("auto") == torch.device("cpu")
        for name in ("cuda", "cuda:3"):
            with pytest.raises(UserError, match=rf"device must be one that .* sees, cpu; got {name}"):
                machine.device(name)
