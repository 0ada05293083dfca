"""Conversion of whole training states between the frameworks: exact to the bit both ways, else refused."""

import jax
import numpy as np
import pytest

import torch_ref.core.state
import torch_ref.runs.checkpoint
from jax_sngan.config.schema import replace
from jax_sngan.interop import torch_layout
from jax_sngan.system.errors import UserError
from parity_tests.configs import BASE, RESNET, U_FIRST
from parity_tests.trees import assert_same, random_state
from torch_ref.runs.checkpoint import Checkpoint


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.num_classes": 3, "model.image_size": 32, "model.channels": 3},
        {**RESNET, **U_FIRST},
        {
            "model.architecture": "mlp",
            "model.discriminator_norm": "layer",
            "model.spectral_norm.networks": "both",
        },
        {"model.discriminator_norm": "batch", "model.generator_norm": "none", "model.spectral_norm.networks": "none"},
        {**RESNET, "model.image_size": 28, "model.discriminator_norm": "layer", "model.spectral_norm.form": "operator"},
        {"model.image_size": 128, "model.spectral_norm.networks": "both", **U_FIRST},
    ],
    ids=["standard_cnn", "classes", "resnet", "mlp", "normed", "resnet, normed", "128 pixels"],
)
def test_conversion_is_exact_both_ways(changes, tmp_path):
    config = replace(BASE, changes | {"model.dtype": "float32"})
    state = jax.tree.map(np.asarray, random_state(config))
    flat = torch_layout.to_torch(config, state)
    reference = torch_ref.core.state.create_state(config, seed=1)
    torch_ref.core.state.load_state(reference, flat)
    saved = Checkpoint(config, {"d_loss": 0.1}, [{"d_loss": 0.2}], torch_ref.core.state.dump(reference))
    torch_ref.runs.checkpoint.save(tmp_path / "state.pt", saved)
    found = torch_ref.runs.checkpoint.restore(tmp_path / "state.pt")
    assert found[:3] == saved[:3]
    other = torch_ref.core.state.create_state(config, seed=2)
    torch_ref.core.state.load_state(other, found.state)
    assert_same(torch_layout.from_torch(config, torch_ref.core.state.dump(other)), state)


@pytest.mark.parametrize("order", ["v_first", "u_first"])
def test_a_state_that_does_not_fit_is_refused(order):
    config = replace(BASE, U_FIRST if order == "u_first" else {})
    flat = torch_layout.to_torch(config, random_state(config))
    moved = {name.replace("generator.project.bias", "generator.project.offset"): a for name, a in flat.items()}
    moved["discriminator.score.bias"] = np.zeros((2,))
    with pytest.raises(UserError) as error:
        torch_layout.from_torch(config, moved)
    assert "missing generator.project.bias" in str(error.value)
    assert "extra generator.project.offset" in str(error.value)
    assert "misshapen discriminator.score.bias is float64 [2], not float64 [1]" in str(error.value)
    with pytest.raises(ValueError, match=r"missing generator.project.bias; left over generator.project.offset; disc"):
        torch_ref.core.state.load_state(torch_ref.core.state.create_state(config), moved)
    wrong_type = flat | {"generator.norms.0.running_mean": flat["generator.norms.0.running_mean"].astype(np.float32)}
    with pytest.raises(UserError, match=r"generator.norms.0.running_mean is float32"):
        torch_layout.from_torch(config, wrong_type)
