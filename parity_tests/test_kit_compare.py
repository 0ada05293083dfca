"""parity_kit.compare beside its search for mistakes: what it leaves alone, what it refuses, what it prints."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import parity_kit
from jax_sngan.config.schema import ModelConfig
from jax_sngan.models import mlp
from jax_sngan.system.errors import UserError
from parity_tests.porting_networks import MLP, Generator, ResNet, TorchGenerator, TorchMLP, TorchResNet
from torch_ref.models import mlp as torch_mlp

Z = np.random.default_rng(0).normal(size=(4, 6))


pytestmark = pytest.mark.usefixtures("as_strangers_have_it")


def test_neither_module_is_changed():
    theirs, ours = TorchGenerator(), Generator(nnx.Rngs(0))
    before = {n: a.clone() for n, a in theirs.state_dict().items()}, nnx.to_pure_dict(nnx.state(ours))
    parity_kit.compare(theirs, ours, Z, passes=1)
    assert all(torch.equal(a, before[0][n]) for n, a in theirs.state_dict().items())
    after = nnx.to_pure_dict(nnx.state(ours))
    jax.tree.map(np.testing.assert_array_equal, before[1], after)
    assert ours.fc.kernel[...].dtype == jnp.float32


def test_a_module_that_has_run_with_spectral_norm_is_compared_too():
    theirs = TorchResNet()
    x, y = np.random.default_rng(1).normal(size=(4, 8, 8, 3)), np.array([0, 1, 1, 0])
    theirs(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))  # leaves a weight that is no leaf, which deepcopy refuses
    assert parity_kit.compare(theirs, ResNet(nnx.Rngs(0)), (x, y)).passed
    assert parity_kit.compare(theirs, ResNet(nnx.Rngs(0)), {"x": x, "y": y}, passes=1).passed


def test_the_projects_own_layers_and_networks():
    config = ModelConfig(architecture="mlp", image_size=4, channels=3, latent_size=6, generator_width=8,
                         discriminator_width=8, dtype="float64")  # fmt: skip
    made = parity_kit.compare(torch_mlp.Generator(config), mlp.Generator(config, nnx.Rngs(0)), Z)
    assert made.passed, made
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 3))
    report = parity_kit.compare(torch_mlp.Discriminator(config), mlp.Discriminator(config, nnx.Rngs(0)), x)
    assert report.passed, report
    assert any(row.what == "hidden.0.u after it" for row in report.rows)


def test_another_float32_is_told_beside_torchs_own_noise():
    """flax's variance in one pass loses digits where the mean is large, which no comparison in float64 shows."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.bn(x)

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.bn = nnx.BatchNorm(3, momentum=0.9, epsilon=1e-5, rngs=rngs)

        def __call__(self, x):
            return self.bn(x)

    x = 1e3 + np.random.default_rng(0).normal(size=(16, 3))
    report = parity_kit.compare(Net(), Port(nnx.Rngs(0)), x, passes=1)
    ours, theirs = report.float32["output"]
    assert ours > 20 * theirs
    assert report.first_difference.kind.startswith("biased variance")


def test_dropout_is_switched_off_and_said():
    class Port(MLP):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.drop(super().__call__(x))

    class Net(TorchMLP):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(super().forward(x))

    report = parity_kit.compare(Net(), Port(nnx.Rngs(0)), np.random.default_rng(0).normal(size=(4, 4, 4, 2)), passes=1)
    assert report.passed, report
    assert "dropout is switched off in both" in str(report)


def test_layers_of_one_shape_are_matched_in_the_order_of_their_making_not_of_their_names():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

        def forward(self, x):
            return self.main(x)

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.z, self.a = nnx.Linear(6, 6, rngs=rngs), nnx.Linear(6, 6, rngs=rngs)

        def __call__(self, x):
            return self.a(jnp.tanh(self.z(x)))

    assert parity_kit.compare(Net(), Port(nnx.Rngs(0)), Z, passes=1).passed
    swapped = parity_kit.compare(Net(), Port(nnx.Rngs(0)), Z, passes=1, names={"main.0": "a", "main.2": "z"})
    assert not swapped.passed


def test_what_is_printed_and_written():
    report = parity_kit.compare(TorchGenerator(), Generator(nnx.Rngs(0), "biased running variance"), Z, passes=1)
    text = str(report)
    assert "first difference: bn1 (torch: main.0), pass 1, training" in text
    assert "FAIL" in text.splitlines()[-1]
    written = json.loads(report.dumps())
    assert written["passed"] is False
    assert written["first_difference"]["layer"] == "bn1"
    assert written["worst"] == report.worst > report.tolerance


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passes": 0}, ["passes must be at least 1, got 0"]),
        ({"names": {"main.77": "bn1"}}, ["names", "main.77", "bn1"]),
        ({"nnx_module": MLP(nnx.Rngs(0))}, ["do not fit the nnx module", "missing ", "first.weight"]),
    ],
    ids=["passes", "names", "weights"],
)
def test_what_is_refused(change, words):
    arguments = {"torch_module": TorchGenerator(), "nnx_module": Generator(nnx.Rngs(0)), "inputs": Z} | change
    with pytest.raises(UserError) as error:
        parity_kit.compare(**arguments)
    assert all(word in str(error.value) for word in words), error.value
