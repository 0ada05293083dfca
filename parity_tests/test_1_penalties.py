"""Rung 1, operations: penalties on D's gradient and their gradients in D's parameters, to second order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_sngan.core import penalties
from parity_tests.compare import assert_close, relative_error, to_numpy
from parity_tests.penalty_cases import CHANNELS, PENALTIES, SIDE, N, draw, of_ours, of_torch
from parity_tests.tolerances import OPS_F32, OPS_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", OPS_F64), ("float32", OPS_F32)])


def in_both(name: str, score: Any, torch_score: Any, params: dict[str, np.ndarray], arrays: dict[str, Any]) -> Any:
    """(value, gradients) of ours and of torch's; score(params, x), and for torch x is [n, h, w, c] too."""
    ours = jax.jit(
        jax.value_and_grad(lambda p: of_ours(name, lambda x: score(p, x), arrays)), compiler_options=QUICK_COMPILE
    )(params)
    leaves = {k: tensor(p.copy()).requires_grad_() for k, p in params.items()}
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
    """A root has no derivative at 0: both frameworks take 0, and neither takes infinity times it."""
    w = np.zeros(SIDE * SIDE * CHANNELS, dtype)
    target, sides = (PENALTIES[name][2].get(k, default) for k, default in (("target", 1.0), ("sides", "two")))
    for value, gradients in in_both(name, linear, linear, {"w": w}, draw(dtype)):
        assert to_numpy(value) == pytest.approx(0.0 if name == "r1" or sides == "one" else target**2, rel=1e-6)
        np.testing.assert_array_equal(to_numpy(gradients["w"]), w)


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
