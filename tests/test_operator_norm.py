"""Operator norms equal the SVD of the dense matrix; the bound for zero padding is one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_sngan.nn.conv import conv
from jax_sngan.nn.layers import Conv
from jax_sngan.nn.operator_norm import circular_operator_norm, operator_norm_bound
from jax_sngan.nn.resample import mean_pool, upsample_bilinear, upsample_nearest
from jax_sngan.nn.spectral_options import SpectralNormOptions

EXACT = 1e-12
# h, w, c_in, c_out, k, stride, padding
CASES = [
    (5, 6, 3, 4, 3, 1, 1),
    (4, 4, 2, 2, 1, 1, 0),
    (6, 4, 2, 3, 4, 2, 1),
    (5, 7, 3, 2, 3, 2, 1),
    (4, 8, 3, 1, 3, 2, 1),
    (2, 3, 2, 2, 4, 1, 2),
    (7, 7, 1, 1, 5, 1, 0),
    (6, 6, 2, 2, 4, 3, 1),
]


def draw(case):
    h, w, c_in, c_out, k, *_ = case
    return np.random.default_rng(sum(case)).normal(size=(k, k, c_in, c_out))


def dense(kernel, size, stride, padding, wraps):
    """The map as a matrix [h' w' c_out, h w c_in], column by column."""
    h, w = size
    c_in = kernel.shape[2]
    pixels = jnp.eye(h * w * c_in).reshape(-1, h, w, c_in)
    if wraps:
        after = kernel.shape[0] - stride  # each window begins within the map
        pixels = jnp.pad(pixels, ((0, 0), (0, max(after, 0)), (0, max(after, 0)), (0, 0)), mode="wrap")
        padding = 0
    y = conv(pixels, jnp.asarray(kernel), stride, padding)
    if wraps:
        y = y[:, : h // stride, : w // stride]
    return np.asarray(y).reshape(h * w * c_in, -1).T


@pytest.mark.parametrize("case", [c for c in CASES if not (c[0] % c[5] or c[1] % c[5])], ids=str)
def test_circular_norm_is_that_of_the_dense_matrix(case):
    h, w, _, _, _, stride, _ = case
    kernel = draw(case)
    matrix = dense(kernel, (h, w), stride, 0, wraps=True)
    assert matrix.shape[0] == h * w // stride**2 * kernel.shape[3]
    expected = np.linalg.norm(matrix, 2)
    assert float(circular_operator_norm(jnp.asarray(kernel), (h, w), stride)) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zero_padded_norm_is_below_its_bound(case):
    h, w, _, _, k, stride, padding = case
    kernel = draw(case)
    exact = np.linalg.norm(dense(kernel, (h, w), stride, padding, wraps=False), 2)
    bound = float(operator_norm_bound(jnp.asarray(kernel), (h, w), stride, padding))
    assert exact <= bound * (1 + EXACT)
    assert bound <= 1.6 * exact  # measured: at most 1.45, on the smallest maps
    if k == 1 and not padding:
        assert bound == pytest.approx(exact, rel=EXACT)


def test_the_bound_needs_the_border():
    # A constant map under a kernel of ones: without room for the border the zeros would be missing, which is above the
    # norm all the same; with stride 1 the bound falls towards the norm as the map grows.
    kernel = np.ones((3, 3, 1, 1))
    gaps = []
    for side in (4, 8, 16):
        exact = np.linalg.norm(dense(kernel, (side, side), 1, 1, wraps=False), 2)
        gaps.append(float(operator_norm_bound(jnp.asarray(kernel), (side, side), 1, 1)) / exact - 1)
    assert 0 < gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 0.03


def test_gradient_equals_a_difference():
    kernel = draw(CASES[2])
    direction = np.random.default_rng(0).normal(size=kernel.shape)

    def norm(t):
        return circular_operator_norm(jnp.asarray(kernel) + t * jnp.asarray(direction), (6, 4), 2)

    step = 1e-5
    difference = (norm(step) - norm(-step)) / (2 * step)
    assert float(jax.jit(jax.grad(norm))(0.0)) == pytest.approx(float(difference), rel=1e-8)


def test_another_norm_than_that_of_the_reshaped_kernel():
    # One tap: the map is that tap's matrix. Equal taps: a constant map adds all nine, the matrix only their squares.
    one = np.zeros((3, 3, 2, 2))
    one[1, 1] = [[3.0, 0.0], [0.0, 1.0]]
    for kernel, reshaped, operator in ((one, 3.0, 3.0), (np.ones((3, 3, 1, 1)), 3.0, 9.0)):
        assert np.linalg.norm(kernel.reshape(-1, kernel.shape[3]), 2) == pytest.approx(reshaped)
        norm = circular_operator_norm(jnp.asarray(kernel), (8, 8))
        assert float(norm) == pytest.approx(operator)


def test_float32_stays_float32():
    kernel = jnp.asarray(draw(CASES[0]), jnp.float32)
    norm = jax.jit(circular_operator_norm, static_argnums=(1, 2))(kernel, (5, 6), 1)
    assert norm.dtype == jnp.float32
    exact = circular_operator_norm(kernel.astype(jnp.float64), (5, 6), 1)
    assert float(norm) == pytest.approx(float(exact), rel=1e-6)


def test_a_size_that_the_stride_does_not_divide():
    with pytest.raises(ValueError, match="size must be a multiple of stride 2, got 5 x 7"):
        circular_operator_norm(jnp.asarray(draw(CASES[3])), (5, 7), 2)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_a_layer_beside_a_change_of_size_has_the_norm_of_the_size_that_it_works_at(upsampling):
    options = SpectralNormOptions(form="operator")
    layer = Conv(2, 3, 3, padding=1, spectral_norm=options, dtype=jnp.float64, rngs=nnx.Rngs(23))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 10, 2)))
    larger = upsample_nearest(x) if upsampling == "nearest" else upsample_bilinear(x)
    for image in (x, larger):
        np.testing.assert_allclose(layer.mean_pooled(image), mean_pool(layer(image)), rtol=EXACT, atol=EXACT)
    np.testing.assert_allclose(layer.of_upsampled(x, upsampling), layer(larger), rtol=EXACT, atol=EXACT)
    # That norm depends on the size, so one of another size would be seen.
    sizes = [(4, 10), (8, 20), (8, 4), (8, 30), (20, 20)]
    of_sizes = [np.asarray(layer(jnp.ones((1, *size, 2)))[0, 1, 1]) for size in sizes]
    assert all(not np.allclose(a, b, rtol=1e-4) for a, b in itertools.combinations(of_sizes, 2))
