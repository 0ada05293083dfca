"""Rung 4, losses: the penalties of whole discriminators, twice through each layer and its spectral norm."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import torch

import torch_ref.models.network
from jax_sngan.config.schema import SpectralNormConfig
from jax_sngan.interop import torch_layout
from jax_sngan.models.network import build
from parity_tests.compare import assert_close
from parity_tests.configs import model
from parity_tests.penalty_cases import draw, of_ours, of_torch
from parity_tests.tolerances import NETWORK_F32, NETWORK_F64
from parity_tests.trees import QUICK_COMPILE, assert_agree, assert_same, load_module, random_variables
from torch_ref.nn.spectral_norm import held, spectral_state

CNN = model("standard_cnn", 28, 1, 0)
U_FIRST = SpectralNormConfig(order="u_first", warmup=15)
DISCRIMINATORS = [
    (CNN, NETWORK_F64),
    (dataclasses.replace(CNN, dtype="float32"), NETWORK_F32),
    (model("resnet", 28, 1, 0, spectral_norm=U_FIRST), NETWORK_F64),
    (model("mlp", 4, 3, 0, discriminator_norm="layer", spectral_norm=SpectralNormConfig(target=2.0)), NETWORK_F64),
]


@pytest.mark.parametrize(
    ("config", "tolerance"), DISCRIMINATORS, ids=[f"{c.architecture}-{c.dtype}" for c, _ in DISCRIMINATORS]
)
def test_of_a_discriminator(config, tolerance):
    """In a training pass that holds u and v."""
    variables = random_variables(config, "discriminator", np.random.default_rng(3))
    arrays = draw(config.dtype, config.image_size, config.channels)
    network = build(config).discriminator
    # The resnet's take long to compile.
    names = ["r1"] if config.architecture == "resnet" else ["two-sided, target 0.3", "r1", "dragan"]

    def every(params: Any) -> Any:
        def score(p: Any, x: Any) -> Any:
            y, after = network.apply(variables._replace(params=p), x, train=True, hold=True)
            # Read where no derivative is taken: the pass gives back what it was given.
            return y, after.spectral

        found = {
            n: jax.value_and_grad(lambda p, n=n: of_ours(n, lambda x: score(p, x)[0], arrays))(params) for n in names
        }
        return found, score(params, arrays["real"])[1]

    found, after = jax.jit(every, compiler_options=QUICK_COMPILE)(variables.params)
    assert_same(after, variables.spectral)

    module = torch_ref.models.network.build(config).discriminator
    load_module(module, torch_layout.variables_to_torch(config, "discriminator", variables))
    before = spectral_state(module)
    entries = torch_layout.network_entries(config, "discriminator").params
    for name in names:
        module.zero_grad()
        with held(module):
            expected = of_torch(name, module, arrays)
            expected.backward()
        value, gradients = found[name]
        assert_close(value, expected, tolerance, name)
        # The last bias is in no gradient; torch gives it none.
        theirs = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}
        assert_agree(torch_layout.tree_to_torch(entries, gradients), theirs, tolerance)
        assert sum(p.grad is None for p in module.parameters()) <= 1
    assert all(torch.equal(a, spectral_state(module)[n]) for n, a in before.items())
