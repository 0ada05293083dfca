"""Rung 2, convolutions of any window: rectangular, dilated, in groups, padded by name, to the second derivative."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import parity_kit
import torch_ref.nn.layers
from jax_sngan.config.spectral_norm import SpectralNormConfig
from jax_sngan.nn.layers import Conv, ConvTranspose
from jax_sngan.nn.spectral_norm import SpectralStat
from parity_tests.compare import assert_close, to_numpy
from parity_tests.tolerances import LAYER_F64
from parity_tests.torch_device import tensor
from torch_ref.nn.layers import normal as torch_normal

SIZE = (2, 7, 6)  # images, rows, columns
# kind, channels in and out, kernel, options
CASES = [
    (Conv, (4, 6), (3, 2), {}),
    (Conv, (4, 6), 3, {"stride": (2, 1), "padding": (1, 0)}),
    (Conv, (4, 6), (3, 2), {"padding": (2, 1), "dilation": (1, 2)}),
    (Conv, (4, 6), 3, {"padding": 1, "groups": 2}),
    (Conv, (4, 4), (2, 3), {"groups": 4, "padding": "SAME", "bias": False}),
    (Conv, (4, 6), 3, {"padding": "SAME"}),
    (Conv, (4, 6), 4, {"padding": "SAME", "stride": 2}),
    (Conv, (4, 6), (4, 2), {"padding": "SAME", "stride": (2, 3), "dilation": (2, 1)}),
    (Conv, (4, 6), 3, {"padding": "VALID", "stride": 2}),
    (ConvTranspose, (4, 6), (3, 2), {}),
    (ConvTranspose, (4, 6), 4, {"stride": (2, 1), "padding": (1, 2), "bias": False}),
    (ConvTranspose, (4, 6), (2, 3), {"stride": 2, "padding": (0, 1), "dilation": (3, 1)}),
    (ConvTranspose, (4, 6), 4, {"stride": 2, "padding": "SAME"}),
    (ConvTranspose, (4, 6), 3, {"stride": 2, "padding": "SAME"}),
    (ConvTranspose, (4, 6), (2, 5), {"stride": (3, 2), "padding": "SAME", "dilation": (1, 2)}),
    (ConvTranspose, (4, 6), (2, 4), {"stride": 3, "padding": "VALID"}),
]


def name(case: Any) -> str:
    kind, sizes, k, options = case
    return f"{kind.__name__}{sizes}k{k}{options}".replace(" ", "").replace("'", "")


def pair(case: Any, spectral_norm: bool) -> tuple[nnx.Module, torch.nn.Module]:
    kind, sizes, k, options = case
    ours = kind(*sizes, k, **options, spectral_norm=spectral_norm, dtype=jnp.float64, rngs=nnx.Rngs(3))
    norm = SpectralNormConfig() if spectral_norm else None
    twin = getattr(torch_ref.nn.layers, kind.__name__)
    torch.manual_seed(3)
    theirs = twin(*sizes, k, **options, spectral_norm=norm, init=torch_normal(0.5), dtype=torch.float64)
    if theirs.bias is not None:
        torch.nn.init.normal_(theirs.bias)
    parity_kit.load_state_dict(ours, theirs.state_dict())
    return ours, theirs


def from_torch(weight: torch.Tensor) -> np.ndarray:
    return to_numpy(weight).transpose(2, 3, 1, 0)


def ours_of(graph: Any, rest: Any, train: bool, kernel: Any, x: Any) -> Any:
    """y, u after the pass; gradients of an energy in kernel and x; of a penalty on the latter, in both."""

    def energy(kernel, x):
        module = nnx.merge(graph, rest | {"kernel": kernel})
        y = module(x, train=train)
        return jnp.sum(jnp.sin(y)), (y, nnx.to_pure_dict(nnx.state(module, SpectralStat)))

    def penalty(kernel, x):
        return jnp.sum(jax.grad(energy, 1, has_aux=True)(kernel, x)[0] ** 3)

    (_, (y, spectral)), first = jax.value_and_grad(energy, (0, 1), has_aux=True)(kernel, x)
    return y, spectral, first, jax.grad(penalty, (0, 1))(kernel, x)


@pytest.mark.parametrize("spectral_norm", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("case", CASES, ids=name)
def test_window(case, spectral_norm):
    ours, theirs = pair(case, spectral_norm)
    x = np.random.default_rng(1).normal(size=(*SIZE, case[1][0]))
    graph, state = nnx.split(ours)
    rest = nnx.to_pure_dict(state)
    run = jax.jit(partial(ours_of, graph), static_argnums=1)
    for train in (True, False) if spectral_norm else (True,):
        y, spectral, first, second = run(rest, train, rest["kernel"], x)
        rest |= spectral
        weight = theirs.weight_orig if spectral_norm else theirs.weight
        t = tensor(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
        expected = theirs.train(train)(t)
        assert_close(y, expected.permute(0, 2, 3, 1), LAYER_F64, "y")
        found = torch.autograd.grad(expected.sin().sum(), (weight, t), create_graph=True)
        assert_close(first[0], from_torch(found[0]), LAYER_F64, "gradient of the kernel")
        assert_close(first[1], to_numpy(found[1]).transpose(0, 2, 3, 1), LAYER_F64, "gradient of x")
        again = torch.autograd.grad(found[1].pow(3).sum(), (weight, t))
        assert_close(second[0], from_torch(again[0]), LAYER_F64, "second, of the kernel")
        assert_close(second[1], to_numpy(again[1]).transpose(0, 2, 3, 1), LAYER_F64, "second, of x")
        if spectral_norm:
            assert_close(spectral["norm"]["u"], theirs.weight_u, LAYER_F64, "u")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((3, 5, (3, 0), {}), "k must be"),
        ((3, 5, 3, {"stride": 0}), "stride must be"),
        ((3, 5, 3, {"padding": -1}), "padding must be"),
        ((3, 5, 3, {"padding": "same"}), "padding must be"),
        ((3, 5, 3, {"dilation": (1, 2, 3)}), "dilation must be"),
    ],
)
@pytest.mark.parametrize("kind", [Conv, ConvTranspose])
def test_what_is_no_window_is_one_line(kind, arguments, words):
    *sizes, options = arguments
    with pytest.raises(ValueError, match=words) as caught:
        kind(*sizes, **options, rngs=nnx.Rngs(0))
    assert "\n" not in str(caught.value)


def test_groups_that_do_not_divide_are_one_line():
    with pytest.raises(ValueError, match="groups must divide 4 channels in and 5 out, got 2"):
        Conv(4, 5, 3, groups=2, rngs=nnx.Rngs(0))
