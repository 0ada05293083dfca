"""Spectral norm as the training step uses it: compiled once, precise in float32, the same with and without jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_sngan.config.schema import SpectralNormConfig
from jax_sngan.nn.layers import Conv, ConvTranspose, Embedding, Linear, normal
from jax_sngan.nn.operator_norm import circular_operator_norm
from jax_sngan.nn.spectral_norm import SpectralStat, estimate_sigma, power_iteration, spectral_normalize


def start(shape: tuple[int, int], dtype: str, ratio: float = 0.9) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A matrix whose singular values fall by a ratio, and two unit vectors to start from."""
    rng = np.random.default_rng(0)
    left, _, right = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    matrix = (left * (5 * ratio ** np.arange(min(shape)))) @ right
    u, v = (rng.normal(size=n) for n in shape)
    return tuple(jnp.asarray(a, dtype) for a in (matrix, u / np.linalg.norm(u), v / np.linalg.norm(v)))  # type: ignore[return-value]


@pytest.mark.parametrize("order", ["v_first", "u_first"])
def test_float32_sigma_of_a_wide_layer_is_that_of_an_svd(order):
    # [64, 1152] is a 3x3 convolution of 128 channels: sums as long as a layer has them.
    matrix, u, v = start((64, 1152), "float32")
    exact = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)[0]
    iterate = jax.jit(lambda *a: power_iteration(*a, iterations=5, order=order))
    for _ in range(20):
        u, v = iterate(matrix, u, v)
    assert u.dtype == v.dtype == jnp.float32
    assert abs(float(estimate_sigma(matrix, u, v)) / exact - 1) < 1e-6
    normalized = np.asarray(spectral_normalize(matrix, u, v), np.float64)
    assert abs(np.linalg.norm(normalized, 2) - 1) < 1e-6


def test_precision_does_not_follow_the_default():
    # On a GPU or a TPU a matmul may be TF32 or bfloat16 by default: 3 digits of a number that scales every output.
    matrix, u, v = start((4, 6), "float32")
    with jax.default_matmul_precision("bfloat16"):
        jaxpr = jax.make_jaxpr(lambda *a: spectral_normalize(a[0], *power_iteration(*a)))(matrix, u, v)
    precisions = [e.params["precision"] for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert len(precisions) == 3  # W^T u, W v, and W v of sigma
    assert all(p == (jax.lax.Precision.HIGHEST,) * 2 for p in precisions)


def test_a_layer_compiles_once_and_computes_the_same_without_jit():
    layer = Conv(
        3, 5, 3, padding=1, spectral_norm=SpectralNormConfig(), init=normal(0.5), dtype=jnp.dtype("float64"),
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    graph, params, spectral = nnx.split(layer, nnx.Param, SpectralStat)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 5, 3)))
    traces = 0

    @jax.jit
    def training_pass(spectral, x):
        nonlocal traces
        traces += 1
        module = nnx.merge(graph, nnx.to_pure_dict(params), spectral)
        return module(x, train=True), nnx.to_pure_dict(nnx.state(module, SpectralStat))

    carried = nnx.to_pure_dict(spectral)
    for _ in range(3):  # what a pass returns is what the next one takes
        y, carried = training_pass(carried, x)
        np.testing.assert_allclose(y, layer(x, train=True), rtol=1e-12)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
            carried,
            nnx.to_pure_dict(nnx.state(layer, SpectralStat)),
        )
    assert traces == 1


# The norm that a layer ends with -----------------------------------------------------------------------------------


def layer_of(kind, *shape, config, **options):
    return kind(*shape, spectral_norm=config, init=normal(0.5), dtype=jnp.dtype("float64"), rngs=nnx.Rngs(0), **options)


TARGETS = pytest.mark.parametrize("target", [1.0, 3.0])


@TARGETS
@pytest.mark.parametrize("order", ["v_first", "u_first"])
def test_a_matrix_ends_with_its_target(order, target):
    """Read from what layers give for one-hot inputs."""
    config = SpectralNormConfig(order=order, iterations=20, target=target)
    linear = layer_of(Linear, 5, 7, config=config)
    conv = layer_of(Conv, 2, 7, 3, config=config)
    embedding = layer_of(Embedding, 6, 4, config=config)
    inputs = {linear: jnp.eye(5), conv: jnp.eye(18).reshape(18, 3, 3, 2), embedding: jnp.arange(6)}
    for layer, x in inputs.items():
        for _ in range(10):
            y = layer(x, train=True)
        assert np.linalg.norm(y.reshape(len(x), -1), 2) == pytest.approx(target, rel=1e-8), type(layer)
        np.testing.assert_allclose(layer(x, train=False), y, rtol=1e-8, atol=1e-12)


@TARGETS
def test_the_operator_norm_ends_with_its_target(target):
    """No power iteration: a layer has it in its first pass, in training and in evaluation."""
    config = SpectralNormConfig(form="operator", target=target)
    for layer, x in (
        (layer_of(Linear, 5, 7, config=config), jnp.eye(5)),
        (layer_of(Embedding, 6, 4, config=config), jnp.arange(6)),
    ):
        for train in (True, False):
            assert np.linalg.norm(layer(x, train=train), 2) == pytest.approx(target, rel=1e-12)
    # A single pixel's answer, far from the border, is the kernel; numpy transforms it on the map that wraps around.
    side, conv = 6, layer_of(Conv, 2, 3, 3, padding=1, config=config)
    answer = np.asarray(conv(jnp.zeros((2, side, side, 2)).at[jnp.arange(2), 2, 3, jnp.arange(2)].set(1), train=True))
    spectrum = np.fft.fft2(answer, axes=(1, 2)).transpose(1, 2, 0, 3)  # [h, w, in, out]
    assert np.linalg.norm(spectrum, 2, (-2, -1)).max() == pytest.approx(target, rel=1e-12)
    # The same kernel as a matrix has another norm.
    matrix = answer[:, 1:4, 2:5].reshape(-1, 3)
    assert abs(np.linalg.norm(matrix, 2) / target - 1) > 0.05


@TARGETS
@pytest.mark.parametrize("kind", [Conv, ConvTranspose])
def test_the_operator_norm_of_a_stride(kind, target):
    """On the map of the larger side: what a convolution reads and what its transpose gives."""
    options = {"stride": 2, "padding": 1}
    layer = layer_of(kind, 3, 2, 4, config=SpectralNormConfig(form="operator", target=target), **options)
    plain = layer_of(kind, 3, 2, 4, config=None, **options)
    np.testing.assert_array_equal(layer.kernel[...], plain.kernel[...])
    side = 8 if kind is Conv else 4
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, side, side, 3)))
    norm = circular_operator_norm(plain.kernel[...], (8, 8), 2)
    np.testing.assert_allclose(layer(x, train=True), plain(x, train=True) * (target / norm), rtol=1e-12)
