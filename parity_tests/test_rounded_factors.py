"""The emulation of TF32 and bfloat16 factors: which products it rounds, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from parity_tests.rounded_factors import ROUNDINGS, with_rounding

# Half a unit in the last place of each of two factors, 2^-p the last place; three passes leave out a product of 2^-16
# and round two halves of 2^-8 once more. A sum of 64 products of one sign is off by no more than its worst.
LARGEST = {"float32": 1e-6, "bfloat16 in 3 passes": 3 * 2.0**-16, "TF32": 2 * 2.0**-11, "bfloat16": 2 * 2.0**-8}


@pytest.mark.parametrize("name", ROUNDINGS)
@pytest.mark.parametrize("scanned", [False, True])
def test_products_and_their_gradients_are_rounded(name: str, scanned: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.uniform(1, 2, size=(64, 64)), jnp.float32) for _ in "ab")

    def product(a: Array, b: Array) -> Array:
        if not scanned:
            return a @ b
        return lax.scan(lambda carry, row: (carry, row[None] @ b), (), a)[1][:, 0]

    def both(a: Array, b: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(lambda a: jnp.sum(product(a, b) * b))(a)

    with jax.default_matmul_precision("default"):
        value, gradient = jax.jit(with_rounding(both, ROUNDINGS[name]))(a, b)
    wide = [np.asarray(x, np.float64) for x in (a, b)]
    for found, exact in ((value, np.sum(wide[0] @ wide[1] * wide[1])), (gradient, wide[1] @ wide[1].T)):
        off = np.max(np.abs(np.asarray(found, np.float64) / exact - 1))
        assert off < LARGEST[name]
    smaller = {"TF32": 2e-6, "bfloat16": 2e-5, "bfloat16 in 3 passes": 0.0, "float32": 0.0}
    assert off >= smaller[name]  # it is rounded at all


def test_the_highest_precision_is_left_alone() -> None:
    a = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8)), jnp.float32)

    def product(a: Array) -> Array:
        return jnp.matmul(a, a, precision=lax.Precision.HIGHEST)

    np.testing.assert_array_equal(with_rounding(product, ROUNDINGS["bfloat16"])(a), product(a))
