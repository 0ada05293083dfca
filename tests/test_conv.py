"""Convolutions: what makes their gradients fast on a CPU is there, and costs neither precision nor another result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from jax_sngan.core import flops
from jax_sngan.nn.conv import conv, conv_transpose
from jax_sngan.nn.resampled_conv import mean_pooled_conv, upsampled_conv

# (function, shape of x, shape of the kernel, stride, padding): each a layer of the two networks, made narrow
LAYERS = {
    "3x3": (conv, (2, 8, 8, 8), (3, 3, 8, 16), 1, 1),
    "4x4 stride 2": (conv, (2, 8, 8, 8), (4, 4, 8, 16), 2, 1),
    "first": (conv, (2, 8, 8, 3), (3, 3, 3, 16), 1, 1),
    "last": (conv, (2, 8, 8, 16), (3, 3, 16, 3), 1, 1),
    "1x1": (conv, (2, 8, 8, 8), (1, 1, 8, 16), 1, 0),
    "transposed": (conv_transpose, (2, 4, 4, 16), (4, 4, 8, 16), 2, 1),
}


def convolutions(jaxpr) -> list:  # type: ignore[no-untyped-def]
    """Every convolution that a CPU runs of a jaxpr, those of inner ones too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            found.append(equation)
        for inner in flops.inner_jaxprs(equation, "cpu"):
            found += convolutions(inner)
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_no_gradient_is_a_convolution_that_xla_runs_slowly(layer):
    # Slow are: one over a map or with a kernel spread with zeros, and one whose kernel is a map (a weight gradient).
    f, x, kernel, stride, padding = LAYERS[layer]

    def energy(x, kernel):
        return jnp.sum(jnp.sin(f(x, kernel, stride, padding)))

    jaxpr = jax.make_jaxpr(jax.grad(energy, (0, 1)))(jnp.ones(x), jnp.ones(kernel))
    found = convolutions(jaxpr.jaxpr)
    assert bool(found) == (layer != "1x1")  # which is a matmul
    for equation in found:
        assert equation.params["lhs_dilation"] == equation.params["rhs_dilation"] == (1, 1)
        assert max(equation.invars[1].aval.shape[:2]) <= kernel[0]


@pytest.mark.parametrize("layer", LAYERS)
def test_in_a_scan_it_is_what_it_is_outside(layer):
    # XLA compiles the body of a loop apart; n_dis updates run in one.
    f, x, kernel, stride, padding = LAYERS[layer]
    rng = np.random.default_rng(0)
    xs, kernel = jnp.asarray(rng.normal(size=(3, *x)), "float32"), jnp.asarray(rng.normal(size=kernel), "float32")

    def update(kernel, x):
        value, gradient = jax.value_and_grad(lambda k: jnp.mean(jnp.sin(f(x, k, stride, padding))))(kernel)
        return kernel - 0.1 * gradient, value

    scanned, values = jax.jit(lambda k, xs: lax.scan(update, k, xs))(kernel, xs)
    step = jax.jit(update)
    for x, value in zip(xs, values, strict=True):
        kernel, expected = step(kernel, x)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scanned, kernel, rtol=1e-5, atol=1e-6)


WIDE = {
    "3x3": (lambda x, kernel: conv(x, kernel, 1, 1), (2, 8, 8, 64), (3, 3, 64, 64)),
    "up-sampled": (upsampled_conv, (2, 8, 8, 32), (3, 3, 32, 32)),
    "mean-pooled": (mean_pooled_conv, (2, 8, 8, 32), (3, 3, 32, 32)),
}


@pytest.mark.parametrize("layer", WIDE)
def test_the_platform_that_is_lowered_for_has_its_form(layer):
    # Whichever machine traces: on a CPU these are products of matrices, elsewhere the one convolution that they are.
    f, *shapes = WIDE[layer]
    traced = jax.jit(f).trace(*(jax.ShapeDtypeStruct(s, "float32") for s in shapes))
    for platform, wanted in (("cpu", (0, True)), ("cuda", (1, False)), ("tpu", (1, False))):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("stablehlo.convolution"), "stablehlo.dot_general" in text) == wanted, platform


def test_a_program_for_several_platforms_has_the_form_of_each():
    f, *shapes = WIDE["3x3"]
    x, kernel = (np.random.default_rng(0).normal(size=s).astype("float32") for s in shapes)
    both = export.export(jax.jit(f), platforms=("cpu", "tpu"))(x, kernel)
    assert "stablehlo.convolution" in both.mlir_module()
    assert "stablehlo.dot_general" in both.mlir_module()
    # The same program on this machine, compiled another time.
    np.testing.assert_allclose(both.call(x, kernel), jax.jit(f)(x, kernel), rtol=0, atol=1e-4)


def test_forward_mode_is_refused():
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: conv(x, jnp.ones((3, 3, 1, 1)), 1, 1), (jnp.ones((1, 4, 4, 1)),), (jnp.ones((1, 4, 4, 1)),))
