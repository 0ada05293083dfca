"""Rung 2, layers in bfloat16 inside of their networks: what each multiplies, and in which type it gives its result."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jax_sngan.config.schema import ModelConfig, replace
from jax_sngan.models.network import build
from jax_sngan.nn.layers import Conv, Embedding, Layer
from parity_kit.layers import modules
from parity_kit.sides import record_nnx
from parity_tests.compare import Tolerance, assert_within, relative_error
from parity_tests.trees import random_variables

SUM = Tolerance(5e-6, "a sum of float32, up to 400 terms; a result of bfloat16 would be 2e-3 off")
LAST = {"generator": ["to_image"], "discriminator": ["score", "embed"]}
NETWORKS = {
    "standard_cnn": {"image_size": 28, "channels": 1, "num_classes": 3},
    "resnet": {"architecture": "resnet", "image_size": 28, "channels": 3, "num_classes": 3},
    "mlp": {"architecture": "mlp", "image_size": 4, "channels": 1},
}


def product(layer: Layer, x: np.ndarray) -> np.ndarray:
    """In float64, of the factors as they are rounded to bfloat16."""
    weight = np.asarray(layer._weight(False, x.shape[1:3]), np.float64)
    bias = 0.0 if layer.bias is None else np.asarray(layer.bias[...], np.float64)
    if isinstance(layer, Embedding):
        return weight[x]
    x = np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float64)
    if not isinstance(layer, Conv):
        return x @ weight + bias
    turned = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), torch.from_numpy(weight.transpose(3, 2, 0, 1).copy())
    return F.conv2d(*turned, padding=1).numpy().transpose(0, 2, 3, 1) + bias


@pytest.mark.parametrize("network", LAST)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_last_layer_alone_gives_float32(architecture, network):
    sizes = {"generator_width": 4, "discriminator_width": 4, "latent_size": 5, "spectral_norm.networks": "both"}
    config = replace(ModelConfig(compute_dtype="bfloat16"), sizes | NETWORKS[architecture])
    rng = np.random.default_rng(0)
    module = getattr(build(config), network).module(random_variables(config, network, rng))
    size = (config.image_size, config.image_size, config.channels)
    x = rng.normal(size=(3, *((5,) if network == "generator" else size))).astype(np.float32)
    labels = np.array([2, 0, 1]) if config.num_classes else None
    layers = {path: part for path, part in modules(module) if isinstance(part, Layer)}
    calls, passed = record_nnx(module, layers, (x, labels), {}, False)
    # A block's up- and down-sampling convolutions are called by another method, which is not watched.
    assert {call.layer for call in calls} >= set(LAST[network]) & set(layers)
    for call in calls:
        last = call.layer in LAST[network]
        assert call.out.dtype == (jnp.float32 if last else jnp.bfloat16), call.layer
        if last:
            expected = product(call.before, np.asarray(call.args[0]))
            assert_within(relative_error(np.asarray(call.out), expected), SUM, call.layer, "float32")
            if call.layer != "embed":
                finer = call.out != call.out.astype(jnp.bfloat16).astype(jnp.float32)
                assert np.mean(finer) > 0.5, "rounded to eight bits"
    assert passed.outputs[0].dtype == np.float32
