"""With cpu_kernels switched off every layer has forward derivatives; its results are what they are with them on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jax_sngan as sn
from jax_sngan.nn import cpu_kernels
from jax_sngan.nn.sums import spread_features, sum_to_features

MAP, FEATURES = (2, 4, 4, 2), (3, 4)
OPERATOR = sn.nn.SpectralNormOptions(form="operator")
NORM = partial(sn.nn.BatchNorm, dtype=jnp.float64)


def given(**options):
    """Made anew for each layer: a process that has computed as it imported this file may not fork (reach.Server)."""
    return {"dtype": jnp.float64, "rngs": nnx.Rngs(0), **options}


def normed(form=True):
    return given(spectral_norm=form)


# what is made, the shape of its input
LAYERS = {
    "Linear": (lambda: sn.nn.Linear(4, 3, **normed()), FEATURES),
    "Linear, operator": (lambda: sn.nn.Linear(4, 3, **normed(OPERATOR)), FEATURES),
    "Conv": (lambda: sn.nn.Conv(2, 3, 3, padding=1, **normed()), MAP),
    "Conv, operator": (lambda: sn.nn.Conv(2, 3, 3, padding=1, **normed(OPERATOR)), MAP),
    "Conv, 1x1": (lambda: sn.nn.Conv(2, 3, 1, **normed()), MAP),
    "Conv, any window": (lambda: sn.nn.Conv(2, 4, (3, 2), padding="SAME", groups=2, dilation=2, **normed()), MAP),
    "ConvTranspose": (lambda: sn.nn.ConvTranspose(2, 3, 4, stride=2, padding=1, **normed()), MAP),
    "ConvTranspose, any window": (lambda: sn.nn.ConvTranspose(2, 3, (3, 2), stride=2, padding="SAME", **normed()), MAP),
    "BatchNorm": (partial(sn.nn.BatchNorm, 2, dtype=jnp.float64), MAP),
    "LayerNorm": (partial(sn.nn.LayerNorm, 2, dtype=jnp.float64), MAP),
    "GeneratorBlock": (lambda: sn.nn.GeneratorBlock(2, 2, norm=NORM, **normed()), MAP),
    "DiscriminatorBlock": (lambda: sn.nn.DiscriminatorBlock(2, 2, True, **normed()), MAP),
    "FirstDiscriminatorBlock": (lambda: sn.nn.FirstDiscriminatorBlock(2, 2, **normed()), MAP),
    "wrapped": (
        lambda: sn.nn.SpectralNorm(nnx.Linear(4, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1)),
        FEATURES,
    ),
}


def pure(layer: nnx.Module):
    """A training pass as a function of (parameters, x), of a smooth result."""
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    rest = nnx.to_pure_dict(rest)
    params = nnx.to_pure_dict(params)

    def energy(params, x):
        module = nnx.merge(graph, params, rest)
        y = module(x, None, train=True) if isinstance(module, sn.nn.GeneratorBlock) else module(x, train=True)
        return jnp.sum(jnp.sin(y))

    return energy, params


@pytest.mark.parametrize("name", LAYERS)
def test_jvp_and_hessian(name):
    make, shape = LAYERS[name]
    energy, params = pure(make())
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape))
    ways = [jnp.asarray(rng.normal(size=shape)) for _ in range(2)]
    along = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
    value, (of_params, of_x) = jax.value_and_grad(energy, (0, 1))(params, x)
    second = jax.grad(lambda x: jnp.sum(jax.grad(energy, 1)(params, x) * ways[0]))(x)
    with cpu_kernels.enabled(False):
        plain, slope = jax.jvp(energy, (params, x), (along, ways[0]))
        hessian = jax.hessian(lambda s, t: energy(params, x + s * ways[0] + t * ways[1]), (0, 1))(0.0, 0.0)
        by_rows = jax.jacfwd(jax.grad(energy, 1), 1)(params, x) if x.size < 20 else None
    np.testing.assert_allclose(plain, value, rtol=1e-12)
    expected = jnp.sum(of_x * ways[0]) + sum(
        jnp.sum(a * b) for a, b in zip(jax.tree.leaves(of_params), jax.tree.leaves(along), strict=True)
    )
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
    np.testing.assert_allclose(hessian[0][1], jnp.sum(second * ways[1]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(hessian[0][0], jnp.sum(second * ways[0]), rtol=1e-9, atol=1e-12)
    if by_rows is not None:
        np.testing.assert_allclose(jnp.tensordot(by_rows, ways[0], x.ndim), second, rtol=1e-9, atol=1e-12)


def test_sums_to_features_and_back():
    x = np.random.default_rng(0).normal(size=MAP)
    for on in (True, False):
        with cpu_kernels.enabled(on):
            total = sum_to_features(jnp.asarray(x))
            np.testing.assert_allclose(total, x.sum((0, 1, 2)), rtol=1e-12)
            np.testing.assert_array_equal(spread_features(total, MAP), np.broadcast_to(total, MAP))


def test_of_bfloat16_too():
    layer = sn.nn.Conv(2, 3, 3, compute_dtype=jnp.bfloat16, result_dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=MAP), jnp.float32)
    on = layer(x)
    with cpu_kernels.enabled(False):
        off, slope = jax.jvp(layer, (x,), (x,))
    assert off.dtype == slope.dtype == jnp.float32
    np.testing.assert_allclose(on, off, rtol=1e-5, atol=1e-6)


def test_the_passes_of_a_step():
    layer = sn.nn.Linear(4, 3, **normed())
    energy, params = pure(layer)
    graph, state = nnx.split(layer)
    state = nnx.to_pure_dict(state)

    def held(kernel):
        module = nnx.merge(graph, state | {"kernel": kernel})
        sn.nn.iterate(module)
        sn.nn.hold(module)
        return jnp.sum(jnp.sin(module(jnp.ones(FEATURES), train=True)))

    along = jnp.ones_like(params["kernel"])
    with cpu_kernels.enabled(False):
        _, slope = jax.jvp(held, (params["kernel"],), (along,))
    np.testing.assert_allclose(slope, jnp.sum(jax.grad(held)(params["kernel"])), rtol=1e-10)


def test_the_switch():
    assert cpu_kernels.is_enabled()
    with cpu_kernels.enabled(False):
        with cpu_kernels.enabled(True):
            assert cpu_kernels.is_enabled()
        assert not cpu_kernels.is_enabled()
    assert cpu_kernels.is_enabled()
    before = cpu_kernels.enabled(False)
    assert not cpu_kernels.is_enabled()
    with before:
        assert not cpu_kernels.is_enabled()
    assert cpu_kernels.is_enabled()
    layer, x = sn.nn.Conv(2, 3, 3, **given()), jnp.ones(MAP)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(layer, (x,), (x,))
