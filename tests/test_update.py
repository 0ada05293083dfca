"""What a training step computes where torch has no say: batches in parts, and products in bfloat16."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

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


BFLOAT16 = {
    "standard_cnn, batch": {"model.discriminator_norm": "batch"},
    "mlp, layer": {"model.architecture": "mlp", "model.discriminator_norm": "layer"},
}


@pytest.mark.parametrize("case", BFLOAT16)
def test_bfloat16_is_of_the_products_alone(case: str) -> None:
    options = {"n_dis": 1, "model.spectral_norm.networks": "both", "model.discriminator_dropout": 0.1}
    wide = replace(TINY, options | BFLOAT16[case])
    narrow = replace(wide, {"model.compute_dtype": "bfloat16"})
    state, inputs = create_state(narrow), drawn(narrow)
    jax.tree.map(np.testing.assert_array_equal, state, create_state(wide))
    after, logs = one_step(narrow, state, inputs)
    assert {a.dtype.name for a in jax.tree.leaves((after, logs))} == {"float32", "int32"}

    images, variables = jnp.asarray(Pixels.images, jnp.float32) / 128 - 1, state.discriminator
    passes = [
        build(config.model).discriminator.apply(variables, images, train=True, key=inputs.g_key)
        for config in (narrow, wide)
    ]
    (scores, moved), (exact, expected) = passes
    assert scores.dtype == exact.dtype == jnp.float32
    assert 0 < float(jnp.max(jnp.abs(scores - exact))) < 0.1 * float(jnp.max(jnp.abs(exact)))
    # u and v are of the float32 weights, whatever is done with them.
    jax.tree.map(np.testing.assert_array_equal, moved.spectral, expected.spectral)

    module, twin = (build(config.model).discriminator.module(variables) for config in (narrow, wide))
    layers, twins = ([part for _, part in nnx.iter_modules(m) if isinstance(part, Layer)] for m in (module, twin))
    assert len(layers) == len(twins) == (4 if "mlp" in case else 6)
    for layer, exact_layer in zip(layers, twins, strict=True):
        sigma, expected_sigma = (
            part.norm.divisor(part._matrix(part.kernel[...]), train=False) for part in (layer, exact_layer)
        )
        assert sigma.dtype == layer.kernel.dtype == jnp.float32
        assert float(sigma) == float(expected_sigma)
        score = layer is module.score  # which is float32 to the end
        kind = jnp.float32 if score else jnp.bfloat16
        # The product's operands: the quotient, rounded once.
        np.testing.assert_array_equal(layer._weight(False), (layer.kernel[...] / sigma).astype(kind))
        assert layer._weight(False).dtype == layer.compute_dtype == kind
