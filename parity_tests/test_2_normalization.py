"""Rung 2, layers: layer normalisation and dropout, and which normalisation a config asks for."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import torch_ref.models.options
import torch_ref.nn.batch_norm
import torch_ref.nn.layer_norm
import torch_ref.nn.normalization
from jax_sngan.models.options import normalization
from jax_sngan.nn import rng as noise
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.dropout import dropout, keys_of_layers
from jax_sngan.nn.layer_norm import LayerNorm
from jax_sngan.nn.normalization import NoNorm
from parity_tests.compare import EXACT, assert_close, to_numpy
from parity_tests.configs import model
from parity_tests.tolerances import LAYER_F32, LAYER_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE
from torch_ref.nn import dropout as torch_dropout

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", LAYER_F64), ("float32", LAYER_F32)])
SHAPES = pytest.mark.parametrize("shape", [(3, 4, 5, 6), (4, 7), (1, 3, 3, 1)], ids=str)
KEY = np.array([11, 0xFFFFFFF0], np.uint32)
TORCH_KEY = tensor(KEY.astype(np.int64))


def features_first(x: np.ndarray) -> torch.Tensor:
    return tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def features_last(x: torch.Tensor) -> torch.Tensor:
    return torch.movedim(x, 1, -1)


def waves(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Fixed weights that turn an array into one number; positive, so that a bias' gradient does not cancel."""
    return (1 + 0.5 * np.cos(np.arange(math.prod(shape)))).reshape(shape).astype(dtype)


# Layer normalisation ------------------------------------------------------------------------------------------------


def layer_norm(scale: Any, bias: Any) -> Any:
    """x -> y of a LayerNorm that has these two."""
    norm = LayerNorm(len(scale), dtype=scale.dtype)
    norm.scale[...], norm.bias[...] = scale, bias
    return lambda x, train=True: norm(x, train=train)


@DTYPES
@SHAPES
def test_layer_norm(shape, dtype, tolerance):
    rng = np.random.default_rng(sum(shape))
    x = rng.normal(3.0, 2.0, shape).astype(dtype)
    scale, bias = (rng.normal(mean, 0.3, shape[-1]).astype(dtype) for mean in (1, 0))

    def energy(x: Any, scale: Any, bias: Any) -> Any:
        y = layer_norm(scale, bias)(x)
        return jnp.sum(jnp.sin(y) * waves(y.shape, dtype)), y

    options = QUICK_COMPILE if dtype == "float64" else None
    gradients, y = jax.jit(jax.grad(energy, (0, 1, 2), has_aux=True), compiler_options=options)(
        *(jnp.asarray(a) for a in (x, scale, bias))
    )
    module = torch_ref.nn.layer_norm.LayerNorm(shape[-1], dtype=getattr(torch, dtype))
    with torch.no_grad():
        module.weight.copy_(tensor(scale))
        module.bias.copy_(tensor(bias))
    leaf = features_first(x).requires_grad_()
    expected = module(leaf)
    (torch.sin(expected) * features_first(waves(shape, dtype))).sum().backward()
    assert_close(y, features_last(expected), tolerance, "result")
    theirs = (features_last(leaf.grad), module.weight.grad, module.bias.grad)  # type: ignore[arg-type]
    for a, b, what in zip(gradients, theirs, ("x", "scale", "bias"), strict=True):
        assert_close(a, b, tolerance, f"gradient of {what}")

    # Ba et al. 2016, eq. 4, an image at a time.
    wide = x.astype(np.float64).reshape(len(x), -1)
    normal = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    assert_close(y, (normal.reshape(shape) * scale + bias).astype(dtype), tolerance, "the formula")


def test_layer_norm_of_an_image_alone():
    """No image sees another, no pass differs from another, and nothing is carried."""
    rng = np.random.default_rng(0)
    x, norm = jnp.asarray(rng.normal(size=(3, 2, 2, 4))), layer_norm(jnp.ones(4), jnp.zeros(4))
    np.testing.assert_allclose(norm(x)[1:2], norm(x[1:2]), rtol=1e-14)
    np.testing.assert_array_equal(norm(x), norm(x, train=False))
    assert not nnx.to_pure_dict(nnx.state(LayerNorm(4, dtype=jnp.dtype("float64")), nnx.BatchStat))


def test_layer_norm_of_a_constant_image():
    x = np.full((2, 3, 3, 4), 5.0)
    scale, bias = np.ones(4), np.arange(4.0)
    y, gradient = jax.value_and_grad(lambda x: jnp.sum(layer_norm(jnp.asarray(scale), jnp.asarray(bias))(x)))(
        jnp.asarray(x)
    )
    assert float(y) == 2 * 9 * 6
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


def test_statistics_of_a_bfloat16_map_are_float32s():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 4, 4, 8)), jnp.bfloat16)
    y = layer_norm(jnp.ones(8, jnp.float32), jnp.zeros(8, jnp.float32))(x)
    module = torch_ref.nn.layer_norm.LayerNorm(8, dtype=torch.float32)
    theirs = module(features_first(np.asarray(x.astype(jnp.float32))).to(torch.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert theirs.dtype == torch.bfloat16
    wide = layer_norm(jnp.ones(8, jnp.float32), jnp.zeros(8, jnp.float32))(x.astype(jnp.float32))
    np.testing.assert_array_equal(y, wide.astype(jnp.bfloat16))  # rounded once, at the end
    # Float32 numbers that differ in their last bit may round to neighbours: 2^-8 of the largest.
    apart = np.abs(np.asarray(y, np.float32) - to_numpy(features_last(theirs).float()))
    assert apart.max() <= 2**-7 * np.abs(np.asarray(wide)).max()
    assert np.mean(apart > 0) < 0.02


# Which --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize(
    ("network", "kind"), [("generator", "batch"), *(("discriminator", k) for k in ("none", "batch", "layer"))]
)
def test_normalization_of_a_config(network, kind, classes, conditional):
    config = model("standard_cnn", 28, 1, classes, **{f"{network}_norm": kind}, batch_norm_eps=0.5)
    ours = normalization(config, network, 6, conditional=conditional)
    theirs = torch_ref.models.options.normalization(config, network, 6, conditional=conditional)
    kinds = {
        "none": (NoNorm, torch_ref.nn.normalization.NoNorm),
        "batch": (BatchNorm, torch_ref.nn.batch_norm.BatchNorm),
        "layer": (LayerNorm, torch_ref.nn.layer_norm.LayerNorm),
    }
    assert (type(ours), type(theirs)) == kinds[kind]
    shapes = sorted(a.shape for a in jax.tree.leaves(nnx.state(ours, nnx.Param)))
    assert shapes == sorted(tuple(p.shape) for p in theirs.parameters())
    by_class = kind == "batch" and conditional and classes
    assert shapes == ([] if kind == "none" else [(5, 6)] * 2 if by_class else [(6,)] * 2)


def test_no_norm_is_nothing():
    x = jnp.arange(3.0)
    assert NoNorm()(x, train=True) is x


# Dropout ------------------------------------------------------------------------------------------------------------


@DTYPES
@SHAPES
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout(rate, shape, dtype, tolerance):
    x = np.random.default_rng(2).normal(size=shape).astype(dtype)

    def energy(x: Any) -> Any:
        y = dropout(x, rate, jnp.asarray(KEY))
        return jnp.sum(jnp.sin(y) * waves(shape, dtype)), y

    gradient, y = jax.grad(energy, has_aux=True)(jnp.asarray(x))
    leaf = features_first(x).requires_grad_()
    expected = torch_dropout.dropout(leaf, rate, TORCH_KEY)
    (torch.sin(expected) * features_first(waves(shape, dtype))).sum().backward()
    assert leaf.grad is not None
    assert_close(y, features_last(expected), tolerance, "result")
    assert_close(gradient, features_last(leaf.grad), tolerance, "gradient")
    kept = np.asarray(noise.uniform(jnp.asarray(KEY), shape, jnp.dtype(dtype)), np.float64) >= rate
    np.testing.assert_array_equal(np.asarray(y) != 0, kept)  # the same entries in both frameworks
    np.testing.assert_array_equal(to_numpy(features_last(expected)) != 0, kept)
    assert_close(y, np.where(kept, x.astype(np.float64) / (1 - rate), 0).astype(dtype), tolerance, "scaled up")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_keeps_its_share(rate, dtype):
    n = 40_000
    ones = torch.ones(200, 200, dtype=getattr(torch, dtype))
    frameworks = (
        dropout(jnp.ones((200, 200), dtype), rate, jnp.asarray(KEY)).astype(jnp.float32),
        to_numpy(torch_dropout.dropout(ones, rate, TORCH_KEY).float()),
    )
    for y in frameworks:
        kept = np.asarray(y) != 0
        # Five standard deviations; bfloat16 compares a number and a rate that are each rounded to 8 bits.
        allowed = 5 * math.sqrt(rate * (1 - rate) / n) + (2**-8 if dtype == "bfloat16" else 0)
        assert abs(kept.mean() - (1 - rate)) < allowed
        assert abs(np.mean(np.asarray(y, np.float64)) - 1) < (allowed + 2**-8) / (1 - rate)  # the mean is kept
    np.testing.assert_array_equal(*frameworks)


def test_dropout_without_a_key_or_a_rate_is_nothing():
    x, t = jnp.ones((2, 3)), torch.ones(2, 3)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jnp.asarray(KEY)) is x
    assert torch_dropout.dropout(t, 0.5, None) is t
    assert torch_dropout.dropout(t, 0.0, TORCH_KEY) is t


def test_every_layer_drops_by_its_own_key():
    ours, theirs = keys_of_layers(jnp.asarray(KEY), 4), torch_dropout.keys_of_layers(TORCH_KEY, 4)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(np.asarray(a, np.int64), b, EXACT)
    for a, b in itertools.combinations(ours, 2):
        assert not np.array_equal(a, b)
    assert keys_of_layers(None, 2) == torch_dropout.keys_of_layers(None, 2) == [None, None]
