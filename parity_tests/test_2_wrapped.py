"""Rung 2, SpectralNorm around flax's own layers: torch's two spectral norms around torch's, call after call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.utils import parametrizations

import parity_kit
from jax_sngan.nn.spectral_norm import SpectralNorm, init_tree, normalize_tree
from jax_sngan.nn.spectral_options import SpectralNormOptions
from parity_kit.locate import Layouts
from parity_tests.compare import assert_close, to_numpy
from parity_tests.tolerances import LAYER_F64
from parity_tests.torch_device import tensor

F64 = {"param_dtype": jnp.float64, "dtype": jnp.float64}
LAST_FIRST = (-1, 1)  # how inputs are turned: channels


class Case(NamedTuple):
    """The same layer in both frameworks."""

    ours: Callable[[nnx.Rngs], nnx.Module]
    theirs: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]  # of x, features last
    dim: int = 0  # where torch's matrix [out, rest] has its outputs


CASES = {
    "1-d, dilated": Case(
        lambda rngs: nnx.Conv(4, 5, (3,), kernel_dilation=2, padding="VALID", rngs=rngs, **F64),
        lambda: torch.nn.Conv1d(4, 5, 3, dilation=2, dtype=torch.float64),
        (2, 9, 4),
    ),
    "2-d, rectangular, strided, in groups": Case(
        lambda rngs: nnx.Conv(4, 6, (3, 2), strides=(2, 1), padding="VALID", feature_group_count=2, rngs=rngs, **F64),
        lambda: torch.nn.Conv2d(4, 6, (3, 2), (2, 1), groups=2, dtype=torch.float64),
        (2, 7, 6, 4),
    ),
    "3-d": Case(
        lambda rngs: nnx.Conv(2, 3, (2, 3, 1), padding="VALID", rngs=rngs, **F64),
        lambda: torch.nn.Conv3d(2, 3, (2, 3, 1), dtype=torch.float64),
        (1, 4, 5, 3, 2),
    ),
    "transposed": Case(
        lambda rngs: nnx.ConvTranspose(4, 5, (4, 3), strides=(2, 2), padding="VALID", rngs=rngs, **F64),
        lambda: torch.nn.ConvTranspose2d(4, 5, (4, 3), 2, dtype=torch.float64),
        (2, 3, 3, 4),
        dim=1,
    ),
    "transposed, with torch's kernel": Case(
        lambda rngs: nnx.ConvTranspose(
            5, 5, (4, 3), strides=(2, 2), padding="VALID", transpose_kernel=True, rngs=rngs, **F64
        ),
        lambda: torch.nn.ConvTranspose2d(5, 5, (4, 3), 2, dtype=torch.float64),
        (2, 3, 3, 5),
        dim=1,
    ),
    "linear": Case(
        lambda rngs: nnx.Linear(4, 6, rngs=rngs, **F64),
        lambda: torch.nn.Linear(4, 6, dtype=torch.float64),
        (3, 4),
    ),
    "embedding": Case(
        lambda rngs: nnx.Embed(5, 3, rngs=rngs, **F64),
        lambda: torch.nn.Embedding(5, 3, dtype=torch.float64),
        (4,),
    ),
}


def variable(layer: nnx.Module) -> nnx.Variable:
    return layer.embedding if isinstance(layer, nnx.Embed) else layer.kernel


def torchs_norm(layer: torch.nn.Module, order: str, dim: int) -> tuple[torch.nn.Module, Callable[[], Any]]:
    """torch's spectral norm on the layer; and its weight, u and v."""
    if order == "v_first":
        torch.nn.utils.spectral_norm(layer, dim=dim)
        return layer, lambda: (layer.weight_orig, layer.weight_u, layer.weight_v)
    parametrizations.spectral_norm(layer, dim=dim)
    weights = layer.parametrizations.weight
    return layer, lambda: (weights.original, weights[0]._u, weights[0]._v)


@pytest.mark.parametrize("order", ["v_first", "u_first"])
@pytest.mark.parametrize("case", CASES)
def test_call_after_call(case, order):
    made = CASES[case]
    rng = np.random.default_rng(5)
    wrapped = SpectralNorm(made.ours(nnx.Rngs(0)), order=order, rngs=nnx.Rngs(1))
    theirs, state = torchs_norm(made.theirs(), order, made.dim)
    loaded = parity_kit.load_state_dict(wrapped, theirs.state_dict())
    layouts, (pair,) = Layouts.of(loaded.pairs), loaded.pairs
    kernel = np.asarray(variable(wrapped.layer)[...])
    for train in (True, True, False, False, True):
        x = rng.integers(0, 5, made.shape) if len(made.shape) == 1 else rng.normal(size=made.shape)
        many = len(made.shape) > 2
        t = tensor(np.moveaxis(x, *LAST_FIRST).copy() if many else x)
        expected = to_numpy(theirs.train(train)(t))
        y = wrapped(jnp.asarray(x), train=train)
        assert_close(y, np.moveaxis(expected, *LAST_FIRST[::-1]) if many else expected, LAYER_F64, "y")
        for name, expected in zip("uv", state()[1:], strict=True):
            assert_close(getattr(wrapped, name)[...], layouts.slot(pair, name, to_numpy(expected)), LAYER_F64, name)
        np.testing.assert_array_equal(variable(wrapped.layer)[...], kernel)


def energies(ours: Any, theirs: torch.nn.Module, weight: torch.Tensor, x: np.ndarray) -> tuple[Any, Any]:
    """Of a gradient penalty: its gradient in the kernel, by both."""
    t = tensor(x).requires_grad_()
    (slope,) = torch.autograd.grad(theirs.train()(t).sin().sum(), t, create_graph=True)
    (expected,) = torch.autograd.grad(slope.pow(3).sum(), weight)

    def penalty(kernel):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(ours(kernel, x))))(jnp.asarray(x)) ** 3)

    return penalty, to_numpy(expected)


def test_double_backward():
    x = np.random.default_rng(0).normal(size=(3, 4))
    wrapped = SpectralNorm(nnx.Linear(4, 6, rngs=nnx.Rngs(0), **F64), rngs=nnx.Rngs(1))
    theirs, state = torchs_norm(torch.nn.Linear(4, 6, dtype=torch.float64), "v_first", 0)
    kernel, bias = (np.array(a[...]) for a in (wrapped.layer.kernel, wrapped.layer.bias))
    u, v = (np.array(a[...]) for a in (wrapped.u, wrapped.v))
    graph, _ = nnx.split(wrapped)

    def ours(kernel, x):
        arrays = {"layer": {"kernel": kernel, "bias": jnp.asarray(bias)}, "u": jnp.asarray(u), "v": jnp.asarray(v)}
        return nnx.merge(graph, arrays)(x, train=True)

    with torch.no_grad():
        for mine, of_torch in zip((kernel.T, u, v), state(), strict=True):
            of_torch.copy_(tensor(mine.copy()))
        theirs.bias.copy_(tensor(bias))
    penalty, expected = energies(ours, theirs, state()[0], x)
    assert_close(jax.jit(jax.grad(penalty))(jnp.asarray(kernel)), expected.T, LAYER_F64)


def test_a_tree_of_linen():
    """init_tree and normalize_tree around flax.linen.Dense: torch's around torch.nn.Linear."""
    dense = flax.linen.Dense(6, param_dtype=jnp.float64)
    params = dense.init(jax.random.key(0), jnp.ones((1, 4)))
    for order in ("v_first", "u_first"):
        options = SpectralNormOptions(order=order)
        stats = init_tree(params, jax.random.key(1), options=options)
        theirs, state = torchs_norm(torch.nn.Linear(4, 6, dtype=torch.float64), order, 0)
        (name,) = stats
        with torch.no_grad():
            for mine, of_torch in zip(
                (params["params"]["kernel"].T, stats[name].u, stats[name].v), state(), strict=True
            ):
                of_torch.copy_(tensor(np.array(mine)))
            theirs.bias.copy_(tensor(np.array(params["params"]["bias"])))
        for train in (True, True, False, True):
            x = np.random.default_rng(0).normal(size=(3, 4))
            weights, stats = normalize_tree(params, stats, train, options)
            assert_close(dense.apply(weights, x), theirs.train(train)(tensor(x)), LAYER_F64, "y")
            assert_close(stats[name].u, state()[1], LAYER_F64, "u")
            assert_close(stats[name].v, state()[2], LAYER_F64, "v")
