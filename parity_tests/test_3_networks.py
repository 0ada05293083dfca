"""Rung 3, networks: outputs, gradients and what each pass carries on, in two training passes and an evaluation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.models.network
from jax_sngan.config.schema import ModelConfig, SpectralNormConfig
from jax_sngan.interop import torch_layout
from jax_sngan.models.network import build
from parity_tests.configs import model
from parity_tests.tolerances import NETWORK_F32, NETWORK_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE, assert_agree, assert_same, load_module, random_variables

BATCH = 3
U_FIRST = SpectralNormConfig(order="u_first", warmup=15)


# Every size of every network; of every network both channels with and without classes; every option.
MODELS = [
    model("standard_cnn", 28, 1, 0),
    model("standard_cnn", 32, 3, 4),
    model("standard_cnn", 48, 1, 4, score_bias=False, spectral_norm=SpectralNormConfig(iterations=2)),
    model("standard_cnn", 64, 3, 0, spectral_norm=U_FIRST, batch_norm_eps=1e-3, batch_norm_momentum=0.3),
    model("resnet", 32, 1, 4, upsampling="bilinear", score_bias=False),
    model("resnet", 32, 3, 0, shortcut_input="activated", batch_norm_eps=2e-5),
    model("resnet", 48, 3, 4, spectral_norm=U_FIRST),
    model("resnet", 64, 1, 0, upsampling="bilinear"),
    model("resnet", 128, 1, 4, shortcut_input="activated"),
    # The relatives.
    model("mlp", 4, 3, 0, discriminator_norm="batch", depth=2),
    dataclasses.replace(
        model("mlp", 1, 2, 0, output="identity", discriminator_norm="layer", generator_norm="none"),
        discriminator_dropout=0.4,
        spectral_norm=SpectralNormConfig(networks="both"),
    ),
    model(
        "resnet", 28, 1, 4, discriminator_norm="layer", generator_dropout=0.3, discriminator_dropout=0.2,
        spectral_norm=SpectralNormConfig(networks="both", target=2.0),
    ),
    dataclasses.replace(
        model("standard_cnn", 128, 3, 0, discriminator_norm="batch", generator_dropout=0.5),
        generator_width=2,
        discriminator_width=2,
        spectral_norm=SpectralNormConfig(networks="none"),
    ),
    model(
        "standard_cnn", 28, 1, 4, discriminator_dropout=0.3,
        spectral_norm=SpectralNormConfig(networks="both", form="operator", target=1.5),
    ),
]  # fmt: skip
IN_F32 = [MODELS[0], MODELS[4]]
CASES = [(m, NETWORK_F64) for m in MODELS] + [(dataclasses.replace(m, dtype="float32"), NETWORK_F32) for m in IN_F32]


def named(value: Any) -> str | None:
    if isinstance(value, ModelConfig):
        classes = "-classes" if value.num_classes else ""
        exact = "-operator" if value.spectral_norm.form == "operator" else ""
        return f"{value.architecture}-{value.image_size}x{value.channels}{classes}{exact}-{value.dtype}"
    return "" if isinstance(value, float) else None


def draw(config: ModelConfig, network: str, rng: np.random.Generator) -> tuple[Any, Any]:
    """Inputs of three passes, [3, n, ...], and labels [3, n] or None."""
    shape = (config.latent_size,) if network == "generator" else (config.image_size, config.image_size, config.channels)
    x = rng.normal(size=(3, BATCH, *shape)).astype(config.dtype)
    labels = rng.integers(0, config.num_classes, (3, BATCH), np.int32) if config.num_classes else None
    return (np.tanh(x) if network == "discriminator" else x), labels


def keys_of(config: ModelConfig, network: str) -> list[np.ndarray | None]:
    """The dropout's keys of two training passes, and none for the evaluation."""
    if getattr(config, f"{network}_dropout") == 0:
        return [None] * 3
    return [np.array([5, 0xFFFFFFFF], np.uint32), np.array([6, 1], np.uint32), None]


def in_jax(config: ModelConfig, network: str, variables: Any, x: Any, labels: Any, weights: Any) -> dict[str, Any]:
    """Results of a training pass, another, and an evaluation; variables after each; gradients of a sum of all three."""
    net = getattr(build(config), network)

    def passes(params: Any, x: Any) -> Any:
        def number(params: Any, x: Any) -> Any:
            now, ys, after = variables._replace(params=params), [], []
            for i, (train, key) in enumerate(zip((True, True, False), keys_of(config, network), strict=True)):
                own_labels = None if labels is None else labels[i]
                own_key = None if key is None else jnp.asarray(key)
                y, now = net.apply(now, x[i], own_labels, train=train, key=own_key)
                ys.append(y)
                after.append(now)
            total = sum(jnp.sum(jnp.sin(y) * w) for y, w in zip(ys, weights, strict=True))
            return total, (ys, after)

        return jax.grad(number, (0, 1), has_aux=True)(params, x)

    compiled = jax.jit(passes, compiler_options=QUICK_COMPILE)
    (params, inputs), (ys, after) = compiled(variables.params, jnp.asarray(x))
    return {"gradients": params, "input_gradients": inputs, "results": ys, "after": after}


def in_torch(config: ModelConfig, network: str, flat: Any, x: Any, labels: Any, weights: Any) -> dict[str, Any]:
    """The same by the reference."""
    module = getattr(torch_ref.models.network.build(config), network)
    load_module(module, flat)
    inputs = tensor(x.copy()).requires_grad_()
    total, ys, after = torch.zeros((), dtype=inputs.dtype), [], []
    for i, (train, key) in enumerate(zip((True, True, False), keys_of(config, network), strict=True)):
        module.train(train)
        own_key = None if key is None else tensor(key.astype(np.int64))
        y = module(inputs[i], None if labels is None else tensor(labels[i]), own_key)
        total = total + (torch.sin(y) * tensor(weights[i])).sum()
        ys.append(y.detach())
        after.append({name: t.detach().clone() for name, t in module.state_dict().items()})
    total.backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    return {"gradients": gradients, "input_gradients": inputs.grad, "results": ys, "after": after}


@pytest.mark.parametrize("network", torch_layout.NETWORKS)
@pytest.mark.parametrize(("config", "tolerance"), CASES, ids=named)
def test_passes_agree(config, tolerance, network):
    rng = np.random.default_rng(config.image_size)
    variables = random_variables(config, network, rng)
    x, labels = draw(config, network, rng)
    result = (config.image_size, config.image_size, config.channels) if network == "generator" else ()
    weights = rng.normal(size=(3, BATCH, *result)).astype(config.dtype)
    maps = torch_layout.images_to_torch
    x_torch, weights_torch = (x, maps(weights)) if network == "generator" else (maps(x), weights)

    ours = in_jax(config, network, variables, x, labels, weights)
    reference = in_torch(
        config,
        network,
        torch_layout.variables_to_torch(config, network, variables),
        np.ascontiguousarray(x_torch),
        labels,
        np.ascontiguousarray(weights_torch),
    )

    entries = torch_layout.network_entries(config, network).params
    assert_agree(torch_layout.tree_to_torch(entries, ours["gradients"]), reference["gradients"], tolerance)
    as_torch = maps if network == "discriminator" else np.asarray
    assert_agree(
        {"input": as_torch(np.asarray(ours["input_gradients"]))}, {"input": reference["input_gradients"]}, tolerance
    )
    as_torch = maps if network == "generator" else np.asarray
    for i, (y, expected) in enumerate(zip(ours["results"], reference["results"], strict=True)):
        assert_agree({f"result {i}": as_torch(np.asarray(y))}, {f"result {i}": expected}, tolerance)
        assert_agree(
            torch_layout.variables_to_torch(config, network, ours["after"][i]), reference["after"][i], tolerance
        )

    first, second, evaluated = ours["after"]
    assert_same(evaluated, second)  # evaluation moves nothing
    assert_same(second.params, variables.params)  # no pass changes a stored weight
    for carried in ("spectral", "batch"):
        before, after = (jax.tree.leaves(getattr(v, carried)) for v in (first, second))
        moved = [np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(before, after, strict=True)]
        assert any(moved) or not moved


def test_what_a_pass_carries():
    """By the config; the passes above compare whatever there is."""
    for config in MODELS[9:]:
        for network in torch_layout.NETWORKS:
            entries = torch_layout.network_entries(config, network)
            normed = config.spectral_norm_of(network)
            assert bool(entries.spectral) == (normed is not None and normed.form == "reshaped")
            assert bool(entries.batch) == (getattr(config, f"{network}_norm") == "batch")


@pytest.mark.parametrize("network", torch_layout.NETWORKS)
def test_a_training_pass_with_dropout_needs_its_key(network):
    config = dataclasses.replace(MODELS[9], generator_dropout=0.1, discriminator_dropout=0.1)
    variables = random_variables(config, network, np.random.default_rng(0))
    x = jnp.asarray(draw(config, network, np.random.default_rng(1))[0][0])
    with pytest.raises(ValueError, match=f"a training pass of a {network} with dropout needs a key"):
        getattr(build(config), network).apply(variables, x, train=True)
