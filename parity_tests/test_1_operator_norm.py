"""Rung 1, operations: the operator norm of a convolution and its gradient."""

import jax
import numpy as np
import pytest

from jax_sngan.nn import operator_norm
from parity_tests.compare import assert_close
from parity_tests.tolerances import OPS_F32, OPS_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE
from torch_ref.nn import operator_norm as torch_operator_norm

# h, w, c_in, c_out, k, stride, padding
CASES = [
    (5, 6, 3, 4, 3, 1, 1),
    (4, 4, 1, 1, 1, 1, 0),
    (6, 4, 2, 3, 4, 2, 1),
    (5, 7, 3, 2, 3, 2, 1),  # the bound's map is rounded up
    (2, 3, 2, 2, 4, 1, 1),  # a kernel larger than the map
    (6, 6, 2, 2, 4, 3, 1),
]


def draw(case, dtype):
    h, w, c_in, c_out, k, stride, padding = case
    return np.random.default_rng(sum(case)).normal(size=(k, k, c_in, c_out)).astype(dtype)


def both(name, kernel, *arguments):
    """Value and gradient by JAX, and by torch, the gradients in one layout."""
    f = getattr(operator_norm, name)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda k: f(k, *arguments)), compiler_options=QUICK_COMPILE
    )(kernel)  # fmt: skip
    leaf = tensor(kernel).permute(3, 2, 0, 1).clone().requires_grad_()
    expected = getattr(torch_operator_norm, name)(leaf, *arguments)
    expected.backward()
    assert leaf.grad is not None
    return (value, gradient), (expected, leaf.grad.permute(2, 3, 1, 0))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", OPS_F64), ("float32", OPS_F32)])
def test_bound_and_its_gradient(case, dtype, tolerance):
    h, w, _, _, _, stride, padding = case
    ours, theirs = both("operator_norm_bound", draw(case, dtype), (h, w), stride, padding)
    for a, b, what in zip(ours, theirs, ("value", "gradient"), strict=True):
        assert_close(a, b, tolerance, f"{what} of {case}")


@pytest.mark.parametrize("case", [c for c in CASES if not (c[0] % c[5] or c[1] % c[5])], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", OPS_F64), ("float32", OPS_F32)])
def test_circular_and_its_gradient(case, dtype, tolerance):
    h, w, _, _, _, stride, _ = case
    ours, theirs = both("circular_operator_norm", draw(case, dtype), (h, w), stride)
    for a, b, what in zip(ours, theirs, ("value", "gradient"), strict=True):
        assert_close(a, b, tolerance, f"{what} of {case}")


def test_both_refuse_a_size_that_the_stride_does_not_divide():
    kernel = draw(CASES[3], "float64")
    with pytest.raises(ValueError, match="multiple of stride 2, got 5 x 7"):
        operator_norm.circular_operator_norm(kernel, (5, 7), 2)
    with pytest.raises(ValueError, match="multiple of stride 2, got 5 x 7"):
        torch_operator_norm.circular_operator_norm(tensor(kernel), (5, 7), 2)
