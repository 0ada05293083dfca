"""Rung 1, operations: penalties on D's gradient and their gradients in D's parameters, to second order."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.models
from jax_sngan import convert, penalties
from jax_sngan.config import SpectralNormConfig
from jax_sngan.models import build
from parity_tests.compare import assert_close, relative_error, to_numpy
from parity_tests.configs import model
from parity_tests.tolerances import NETWORK_F32, NETWORK_F64, OPS_F32, OPS_F64
from parity_tests.trees import QUICK_COMPILE, assert_agree, assert_same, load_module, random_variables
from torch_ref import penalties as torch_penalties
from torch_ref.nn.spectral_norm import held, spectral_state

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", OPS_F64), ("float32", OPS_F32)])
# name -> (function, arrays that it takes, options)
PENALTIES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "two-sided": ("gradient_penalty", ("real", "fake", "mix"), {}),
    "two-sided, target 0.3": ("gradient_penalty", ("real", "fake", "mix"), {"target": 0.3}),
    # Between the norms at the points: some are punished, some are not.
    "one-sided": ("gradient_penalty", ("real", "fake", "mix"), {"target": 0.65, "sides": "one"}),
    "r1": ("r1", ("real",), {}),
    "dragan": ("dragan", ("real", "noise", "mix"), {}),
    "dragan, one-sided": ("dragan", ("real", "noise", "mix"), {"target": 0.65, "sides": "one"}),
}
N, SIDE, CHANNELS = 4, 3, 2


def draw(dtype: str, side: int = SIDE, channels: int = CHANNELS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (N, side, side, channels)
    arrays = {
        "real": np.tanh(rng.normal(size=shape)),
        "fake": np.tanh(rng.normal(size=shape)),
        "noise": rng.uniform(size=shape),
        "mix": np.array([0.0, 1 - 2.0**-23, 0.25, 0.7]),  # both ends among them
    }
    return {name: a.astype(dtype) for name, a in arrays.items()}


def of_ours(name: str, score: Any, arrays: dict[str, Any]) -> Any:
    function, takes, options = PENALTIES[name]
    return getattr(penalties, function)(score, *(arrays[a] for a in takes), **options)


def of_torch(name: str, score: Any, arrays: dict[str, np.ndarray]) -> torch.Tensor:
    function, takes, options = PENALTIES[name]
    tensors = [
        torch.from_numpy(np.ascontiguousarray(a.transpose(0, 3, 1, 2)) if a.ndim == 4 else a)
        for a in (arrays[a] for a in takes)
    ]
    value: torch.Tensor = getattr(torch_penalties, function)(score, *tensors, **options)
    return value


def in_both(name: str, score: Any, torch_score: Any, params: dict[str, np.ndarray], arrays: dict[str, Any]) -> Any:
    """(value, gradients) of ours and of torch's; score(params, x), and for torch x is [n, h, w, c] too."""
    ours = jax.jit(
        jax.value_and_grad(lambda p: of_ours(name, lambda x: score(p, x), arrays)), compiler_options=QUICK_COMPILE
    )(params)
    leaves = {k: torch.from_numpy(p.copy()).requires_grad_() for k, p in params.items()}
    value = of_torch(name, lambda x: torch_score(leaves, x.permute(0, 2, 3, 1)), arrays)
    gradients = torch.autograd.grad(value, list(leaves.values()))
    return ours, (value, dict(zip(leaves, gradients, strict=True)))


# A small function ---------------------------------------------------------------------------------------------------


def small(params: Any, x: Any) -> Any:
    return jnp.tanh(x.reshape(len(x), -1) @ params["hidden"]) @ params["score"]


def torch_small(params: Any, x: Any) -> Any:
    return torch.tanh(x.flatten(1) @ params["hidden"]) @ params["score"]


@DTYPES
@pytest.mark.parametrize("name", PENALTIES)
def test_of_a_small_function(name, dtype, tolerance):
    rng = np.random.default_rng(1)
    size = SIDE * SIDE * CHANNELS
    params = {"hidden": rng.normal(size=(size, 5)) / 3, "score": rng.normal(size=5) / 2}
    params = {k: p.astype(dtype) for k, p in params.items()}
    arrays = draw(dtype)
    (value, gradients), (expected, expected_gradients) = in_both(name, small, torch_small, params, arrays)
    assert_close(value, expected, tolerance, "value")
    for k in params:
        assert_close(gradients[k], expected_gradients[k], tolerance, k)
    if "one-sided" in name:  # its bend is between the points
        function, takes, options = PENALTIES[name]
        two = getattr(penalties, function)(
            lambda x: small(params, x), *(arrays[a] for a in takes), **options | {"sides": "two"}
        )
        assert 0 < float(value) < float(two)


# What they are ------------------------------------------------------------------------------------------------------


def linear(params: Any, x: Any) -> Any:
    return x.reshape(len(x), -1) @ params["w"]


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("length", [0.2, 2.0])
def test_of_a_linear_function(name, length):
    """The gradient is w everywhere, so its norm is |w| = length."""
    w = np.random.default_rng(2).normal(size=SIDE * SIDE * CHANNELS)
    w *= length / np.linalg.norm(w)
    both = in_both(name, linear, linear, {"w": w}, draw("float64"))
    options = PENALTIES[name][2]
    excess = length - options.get("target", 1.0)
    if options.get("sides") == "one":
        excess = max(excess, 0)
    expected, gradient = (length**2 / 2, w) if name == "r1" else (excess**2, 2 * excess * w / length)
    for value, gradients in both:
        assert relative_error(value, expected) < 1e-14
        assert relative_error(gradients["w"], gradient) < 1e-14


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_of_a_constant_function(name, dtype):
    """A root has no derivative at 0: both wings take 0, and neither takes infinity times it."""
    w = np.zeros(SIDE * SIDE * CHANNELS, dtype)
    target, sides = (PENALTIES[name][2].get(k, default) for k, default in (("target", 1.0), ("sides", "two")))
    for value, gradients in in_both(name, linear, linear, {"w": w}, draw(dtype)):
        assert to_numpy(value) == pytest.approx(0.0 if name == "r1" or sides == "one" else target**2, rel=1e-6)
        np.testing.assert_array_equal(np.asarray(gradients["w"]), w)


@pytest.mark.parametrize("name", PENALTIES)
def test_where_the_gradient_is_taken(name):
    """Of a |x|^2 / 2 the gradient is a x, so that its norm tells the point; one of these points is 0."""
    arrays = draw("float64")
    arrays["real"][0], arrays["fake"][0], arrays["noise"][0] = 0, 0, 0
    mix = arrays["mix"][:, None, None, None]
    points = {
        "r1": arrays["real"],
        "gradient_penalty": mix * arrays["real"] + (1 - mix) * arrays["fake"],
        "dragan": arrays["real"] + mix * 0.5 * np.sqrt(np.mean((arrays["real"] - arrays["real"].mean()) ** 2))
        * arrays["noise"],
    }  # fmt: skip
    function, _, options = PENALTIES[name]
    a, lengths = 0.4, np.linalg.norm(points[function].reshape(N, -1), axis=1)
    excess = a * lengths - options.get("target", 1.0)
    if options.get("sides") == "one":
        excess = np.maximum(excess, 0)
    expected = (
        (np.mean((a * lengths) ** 2) / 2, np.mean(a * lengths**2))
        if name == "r1"
        else (np.mean(excess**2), np.mean(2 * excess * lengths))
    )

    def quadratic(params: Any, x: Any) -> Any:
        return params["a"] * (x * x).reshape(len(x), -1).sum(1) / 2

    for value, gradients in in_both(name, quadratic, quadratic, {"a": np.array(a)}, arrays):
        assert relative_error(value, expected[0]) < 1e-13
        assert relative_error(gradients["a"], expected[1]) < 1e-13


# A discriminator ----------------------------------------------------------------------------------------------------

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
    """Twice through each layer and its spectral norm, in a training pass that holds u and v."""
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

    module = torch_ref.models.build(config).discriminator
    load_module(module, convert.variables_to_torch(config, "discriminator", variables))
    before = spectral_state(module)
    entries = convert.network_entries(config, "discriminator").params
    for name in names:
        module.zero_grad()
        with held(module):
            expected = of_torch(name, module, arrays)
            expected.backward()
        value, gradients = found[name]
        assert_close(value, expected, tolerance, name)
        # The last bias is in no gradient; torch gives it none.
        theirs = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}
        assert_agree(convert.tree_to_torch(entries, gradients), theirs, tolerance)
        assert sum(p.grad is None for p in module.parameters()) <= 1
    assert all(torch.equal(a, spectral_state(module)[n]) for n, a in before.items())
