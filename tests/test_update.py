"""What a training step computes where torch has no say: batches in parts, and products in bfloat16."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import TINY
from jax_sngan import update
from jax_sngan.config import TrainConfig, replace
from jax_sngan.inputs import Inputs, draw_inputs
from jax_sngan.models import build
from jax_sngan.nn.layers import Layer
from jax_sngan.state import TrainState, create_state

WHOLE = 1e-10  # a mean of means is the mean, but for rounding
# Beta 0: Adam's first moment is the gradient itself, so that a step of Adam's, nearly its sign, hides nothing.
BASE = replace(TINY, {"n_dis": 1, "model.dtype": "float64", "model.generator_norm": "none"})
CASES = {
    "separate": {"model.spectral_norm.networks": "both"},
    "joint, r1, two latents an image": {
        "passes": "joint",
        "penalty.kind": "r1",
        "generator_batch_multiplier": 2,
        "model.architecture": "mlp",
        "model.discriminator_norm": "layer",
        "model.spectral_norm.iterations": 2,
        "n_dis": 2,
    },
}


class Pixels:
    """Eight random images."""

    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)
    labels = np.arange(8, dtype=np.int32) % 3


def drawn(config: TrainConfig) -> Inputs:
    return draw_inputs(config, Pixels(), 0)


def one_step(config: TrainConfig, state: TrainState, inputs: Inputs) -> tuple[TrainState, Any]:
    return jax.jit(partial(update.training_step, config))(state, inputs)


def assert_close(a: Any, b: Any) -> None:
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        scale = max(float(jnp.max(jnp.abs(y))), 1e-300)
        assert float(jnp.max(jnp.abs(x - y))) <= WHOLE * scale, jax.tree_util.keystr(path)


@pytest.mark.parametrize("case", CASES)
def test_parts_of_a_batch_give_the_whole_ones_step(case: str) -> None:
    config = replace(BASE, CASES[case])
    state, inputs = create_state(config), drawn(config)
    whole, logs = one_step(config, state, inputs)
    parts, part_logs = one_step(replace(config, {"accumulate": 2}), state, inputs)
    for network in ("generator", "discriminator"):
        a, b = getattr(parts, network), getattr(whole, network)
        jax.tree.map(np.testing.assert_array_equal, a.spectral, b.spectral)  # to the bit: no pass more, no pass less
        before = jax.tree.leaves(getattr(state, network).spectral)
        assert all(np.any(x != y) for x, y in zip(before, jax.tree.leaves(b.spectral), strict=True) if x.size > 1)
        assert_close(a.params, b.params)
        assert_close(getattr(parts, f"{network}_opt").mu, getattr(whole, f"{network}_opt").mu)
        assert_close(getattr(parts, f"{network}_opt").nu, getattr(whole, f"{network}_opt").nu)
        assert int(getattr(parts, f"{network}_opt").count) == (config.n_dis if network == "discriminator" else 1)
    assert_close(parts.generator_ema, whole.generator_ema)
    assert_close(part_logs, logs)


def test_batch_normalisation_does_tie_a_batch_together() -> None:
    """Why the promise above has its condition: each part has statistics of its own, and each moves the running ones."""
    config = replace(BASE, {"model.generator_norm": "batch", "model.architecture": "mlp"})
    state, inputs = create_state(config), drawn(config)
    whole, _ = one_step(config, state, inputs)
    parts, _ = one_step(replace(config, {"accumulate": 2}), state, inputs)
    apart = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), parts.generator_opt.mu, whole.generator_opt.mu)
    assert max(jax.tree.leaves(apart)) > 1e-4
    jax.tree.map(np.testing.assert_array_equal, parts.discriminator.spectral, whole.discriminator.spectral)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_bfloat16_is_of_the_products_alone(norm: str) -> None:
    wide = replace(
        TINY,
        {
            "n_dis": 1,
            "model.spectral_norm.networks": "both",
            "model.discriminator_norm": norm,
            "model.discriminator_dropout": 0.1,
            "model.architecture": "mlp" if norm == "layer" else "standard_cnn",
        },
    )
    narrow = replace(wide, {"model.compute_dtype": "bfloat16"})
    state, inputs = create_state(wide), drawn(wide)
    jax.tree.map(np.testing.assert_array_equal, create_state(narrow), state)
    after, logs = one_step(narrow, state, inputs)
    assert {a.dtype.name for a in jax.tree.leaves((after, logs))} == {"float32", "int32"}
    # u, v and with them sigma are of float32's weights: the first step's, as if nothing were bfloat16.
    expected, _ = one_step(wide, state, inputs)
    jax.tree.map(np.testing.assert_array_equal, after.discriminator.spectral, expected.discriminator.spectral)

    variables, network = state.discriminator, build(narrow.model).discriminator
    module = network.module(variables)
    layers = [part for _, part in jax.tree.leaves(list(iterate(module)), is_leaf=lambda x: isinstance(x, tuple))]
    assert len(layers) == (4 if norm == "layer" else 6)
    for layer in layers:
        matrix = layer._matrix(layer.kernel[...])
        assert layer.norm.divisor(matrix, train=False).dtype == jnp.float32
        last = layer.kernel.shape[-1] == 1  # the score is float32 all the way
        assert layer._weight(False).dtype == (jnp.float32 if last else jnp.bfloat16)
    images = jnp.zeros((2, 28, 28, 1), jnp.float32)
    scores, _ = network.apply(variables, images, train=False)
    assert scores.dtype == jnp.float32
    products = [
        e
        for e in jax.make_jaxpr(lambda x: network.apply(variables, x, train=False)[0])(images).eqns
        if e.primitive.name in ("conv_general_dilated", "dot_general")
    ]
    kinds = {e.outvars[0].aval.dtype.name for e in products if e.outvars[0].aval.ndim > 1}
    assert kinds >= {"bfloat16"}


def iterate(module: Any) -> Any:
    """(path, layer) of every layer."""
    from flax import nnx

    return ((path, part) for path, part in nnx.iter_modules(module) if isinstance(part, Layer))
