"""Rung 1, spectral norms of many matrices at once: what torch computes of each, to the second derivative."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import Array

from jax_sngan.nn import sums
from jax_sngan.nn.batched_spectral_norm import divide, estimate_sigmas, power_iterations, stacks
from parity_tests.accelerators import accelerator_forms
from parity_tests.compare import assert_close
from parity_tests.test_1_ops import DTYPES, _assert_orders_close, _compiled, _orders, _torch_orders
from parity_tests.tolerances import OPS_F64
from parity_tests.torch_device import tensor
from torch_ref.nn import spectral_norm as torch_spectral_norm

FORMS = pytest.mark.parametrize("platform", ["cpu", "accelerator"])
# [out, rest]: the largest is neither first nor last, and two are larger one way each.
SHAPES = [(5, 7), (9, 8), (7, 5), (1, 6), (6, 1), (1, 1), (3, 30), (9, 8)]


def taking(platform: str) -> contextlib.AbstractContextManager[None]:
    return accelerator_forms() if platform == "accelerator" else contextlib.nullcontext()


def _draw(dtype: str = "float64") -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(11)
    arrays = [(rng.normal(size=s), rng.normal(size=s[0]), rng.normal(size=s[1])) for s in SHAPES]
    return tuple([a.astype(dtype) for a in kind] for kind in zip(*arrays, strict=True))  # type: ignore[return-value]


# iterations, order, eps, eps_form
OPTIONS = [
    (1, "v_first", 1e-12, "max"),
    (3, "u_first", 1e-12, "max"),
    (0, "v_first", 0.5, "max"),
    (1, "u_first", 5.0, "max"),  # so large that it is the norm of most
    (2, "v_first", 0.5, "add"),
]


@FORMS
@DTYPES
def test_each_is_torch_refs(platform, dtype, tolerance):
    matrices, us, vs = _draw(dtype)
    options = [dict(zip(("iterations", "order", "eps", "eps_form"), one, strict=True)) for one in OPTIONS]

    def ours(matrices, us, vs):
        moved = [power_iterations(matrices, us, vs, **one) for one in options]
        return [(*vectors, estimate_sigmas(matrices, *vectors)) for vectors in moved]

    with taking(platform):
        found = _compiled(ours, dtype)(matrices, us, vs)
    for one, results in zip(options, found, strict=True):
        for i, (arrays, ours_of_it) in enumerate(
            zip(zip(matrices, us, vs, strict=True), zip(*results, strict=True), strict=True)
        ):
            w, u, v = (tensor(a) for a in arrays)
            u, v = torch_spectral_norm.power_iteration(w, u, v, **one)
            expected = {"u": u, "v": v}
            if one["iterations"]:  # from there on its terms agree in sign; between random vectors they cancel
                expected["sigma"] = torch_spectral_norm.estimate_sigma(w, u, v)
            for (name, b), a in zip(expected.items(), ours_of_it, strict=False):
                assert_close(a, b, tolerance, f"{name} of {SHAPES[i]}, {one}")


@FORMS
def test_one_iteration_is_torchs_own_layer(platform):
    def ours(matrices, us, vs):
        found = power_iterations(matrices, us, vs)
        return found, divide(matrices, estimate_sigmas(matrices, *found))

    matrices, us, vs = _draw()
    with taking(platform):
        found, normalised = _compiled(ours, "float64")(matrices, us, vs)
    for i, (w, u) in enumerate(zip(matrices, us, strict=True)):
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(tensor(w))
        torch.nn.utils.spectral_norm(layer)
        layer.weight_u.copy_(tensor(u))
        layer(torch.zeros(1, w.shape[1], dtype=torch.float64))
        for name, a, b in (
            ("u", found[0][i], layer.weight_u),
            ("v", found[1][i], layer.weight_v),
            ("W / sigma", normalised[i], layer.weight),
        ):
            assert_close(a, b, OPS_F64, f"{name} {i}")


@FORMS
def test_division_by_sigma_to_the_second_derivative(platform):
    """Of two kernels of one stack, the smaller in front; u and v are constants."""
    shapes = ((2, 2, 3, 4), (3, 3, 4, 5))
    rng = np.random.default_rng(5)
    kernels = [rng.normal(size=s) for s in shapes]
    us, vs = [rng.normal(size=s[-1]) for s in shapes], [rng.normal(size=np.prod(s[:-1])) for s in shapes]

    def ours(*kernels: Array) -> Array:
        matrices = [k.reshape(-1, k.shape[-1]).T for k in kernels]
        sigmas = estimate_sigmas(matrices, us, vs)
        return jnp.concatenate([k.ravel() for k in divide(list(kernels), [s / 1.5 for s in sigmas])])

    def theirs(*kernels: torch.Tensor) -> torch.Tensor:
        found = []
        for kernel, u, v in zip(kernels, us, vs, strict=True):
            matrix = kernel.reshape(-1, kernel.shape[-1]).T
            sigma = torch_spectral_norm.estimate_sigma(matrix, tensor(u), tensor(v))
            found.append((kernel / (sigma / 1.5)).ravel())
        return torch.cat(found)

    with taking(platform):
        _assert_orders_close(_orders(ours, *kernels), _torch_orders(theirs, *kernels), OPS_F64)


@FORMS
def test_sums_over_features_to_the_second_derivative(platform):
    rng = np.random.default_rng(6)
    x, p = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=5)

    def ours(x: Array, p: Array) -> Array:
        return sums.sum_to_features(x * sums.spread_features(p, x.shape)) * p

    with taking(platform):
        _assert_orders_close(_orders(ours, x, p), _torch_orders(lambda x, p: (x * p).sum((0, 1, 2)) * p, x, p), OPS_F64)


def test_the_shapes_share_stacks():
    """Or nothing above would have been filled up with zeros."""
    assert stacks(SHAPES) == [[6, 3, 5], [1, 7, 0, 2, 4]]
    assert stacks([(1024, 2048), (1024, 2048), (512, 9), (512, 512)]) == [[0], [1], [3, 2]]
