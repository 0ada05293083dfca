"""Rung 1, products of bfloat16 with a result in float32: torch's of the same factors, and what comes back."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_sngan.nn.finer import conv_in, matmul
from parity_tests.compare import Tolerance, assert_close
from parity_tests.test_1_ops import _compiled, _orders, _torch_conv, _torch_orders
from parity_tests.tolerances import OPS_F32
from parity_tests.torch_device import tensor

# Second derivatives are of gradients that are themselves rounded: each of the two orders rounds what comes back to
# 8 bits (2^-9), each product its result, and the curve between them once.
GRADIENTS = Tolerance(0.015, "4 x 0.0036, the largest measured: two to eight roundings of bfloat16, 2^-9 each")

CASES = {
    "matmul": (lambda x, k: matmul(x, k, jnp.dtype("float32")), lambda x, k: x @ k, (6, 40), (40, 5)),
    "3x3": (
        lambda x, k: conv_in(x, k, 1, 1, jnp.dtype("float32")),
        lambda x, k: _torch_conv(x, k, 1, 1),
        (2, 5, 4, 9),
        (3, 3, 9, 3),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_to_the_second_derivative(case):
    ours, theirs, *shapes = CASES[case]
    rng = np.random.default_rng(3)
    x, k = (jnp.asarray(rng.normal(size=s) / s[-2] ** 0.5, "bfloat16").astype("float32") for s in shapes)
    coarse = [a.astype("bfloat16") for a in (x, k)]
    value = _compiled(ours, "float32")(*coarse)
    # The sum is float32's: with a result of bfloat16 it would be off by 2^-9.
    assert_close(value, theirs(*(tensor(np.array(a)) for a in (x, k))), OPS_F32, "value")

    def of_float32(x, k):
        return ours(x.astype("bfloat16"), k.astype("bfloat16"))

    found = _orders(of_float32, np.asarray(x), np.asarray(k))
    expected = _torch_orders(theirs, np.array(x), np.array(k))
    for name, a, b in zip(("value", "of x", "of k", "second, of x", "second, of k"), found, expected, strict=True):
        assert_close(a, b, GRADIENTS, name)
