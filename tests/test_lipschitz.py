"""Certificates of discriminators: lower never passes upper, and both are right where the truth is known."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_sngan.config.schema import ModelConfig, SpectralNormConfig
from jax_sngan.data import datasets
from jax_sngan.lipschitz.certificate import certificate, certify, zero_padded_operator_norm
from jax_sngan.models.network import build
from jax_sngan.nn.activations import leaky_relu
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.conv import conv
from jax_sngan.nn.layers import Conv, Embedding, Linear, normal

FLOAT64 = jnp.dtype("float64")


def config_of(architecture="standard_cnn", classes=0, width=4, warmup=2, **options):
    return ModelConfig(
        architecture=architecture,
        image_size=32 if architecture == "resnet" else 28,
        channels=1,
        num_classes=classes,
        discriminator_width=width,
        generator_width=4,
        latent_size=8,
        spectral_norm=SpectralNormConfig(warmup=warmup),
        **options,
    )


@functools.cache
def discriminator(config, seed=0):
    """Variables of a random discriminator whose activations are not all of one sign."""
    variables = jax.jit(build(config).discriminator.init)(jax.random.key(seed))
    rng = np.random.default_rng(seed)

    def drawn(path, a):
        return jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype) if path[-1].key == "bias" else a

    return variables._replace(params=jax.tree_util.tree_map_with_path(drawn, variables.params))


def images(config, n=6, seed=0):
    """Real images in [-1, 1], and noise."""
    size = config.image_size
    real = (
        datasets.load_data("fashion", image_size=size, channels=config.channels).images[:n].astype(np.float32) / 127.5
        - 1
    )
    return real, np.random.default_rng(seed).uniform(-1, 1, real.shape).astype(np.float32)


# A discriminator whose Lipschitz constant is known, of a kind that lipschitz/certificate.py does not know of itself.


class Chain(nnx.Module):
    """Layers one after another, with an activation between."""

    def __init__(self, layers, activation):
        self.steps, self.activation = nnx.List(layers), activation

    def __call__(self, x, labels=None, *, train):
        for i, layer in enumerate(self.steps):
            if isinstance(layer, Linear):
                x = x.reshape(len(x), -1)
            x = layer(x, train=train)
            if i < len(self.steps) - 1:
                x = self.activation(x)
        return x[:, 0]


class Bounded(Chain):
    """That says how its bound is found, as anybody's network may (models/architecture.py)."""

    def slope(self, walk, conditional):
        factor = np.ones(3)
        for i, layer in enumerate(self.steps):
            factor = factor * (walk.norm(layer) if isinstance(layer, BatchNorm) else walk.layer(f"steps.{i}", layer))
        return factor


def linear(n, m, seed, spectral_norm=None):
    return Linear(n, m, init=normal(0.5), dtype=FLOAT64, rngs=nnx.Rngs(seed), spectral_norm=spectral_norm)


def identity(x):
    return x


# The order of the bounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "classes", "warmup", "seed", "options"),
    [
        ("standard_cnn", 0, 2, 0, {}),
        ("standard_cnn", 3, 0, 1, {}),  # without a warm-up sigma is far too small
        ("standard_cnn", 0, 2, 4, {"discriminator_norm": "batch"}),
        ("resnet", 0, 2, 2, {}),
        ("resnet", 3, 2, 3, {"discriminator_norm": "layer", "shortcut_input": "activated"}),
        ("mlp", 0, 2, 5, {"discriminator_norm": "layer", "depth": 2}),
    ],
)
def test_lower_never_passes_upper(architecture, classes, warmup, seed, options):
    config = config_of(architecture, classes, warmup=warmup, **options)
    variables = discriminator(config, seed)
    real, fake = images(config)
    labels = np.arange(len(real)) % classes if classes else None
    found = certificate(config, variables, real, fake, labels=labels, steps=8, starts=3)
    assert 0 < found.lower <= found.upper_estimate <= found.upper
    assert found.upper < 3 * found.upper_estimate
    for layer in found.layers:
        assert layer.operator_norm <= layer.operator_bound * (1 + 1e-12), layer
        assert layer.sigma is not None
        assert layer.sigma <= layer.reshaped_sigma * (1 + 1e-6)  # u^T W v of float32 unit vectors
    # More search finds no less than the images themselves, and here more.
    given = max(found.largest[name] for name in ("real", "fake", "interpolated"))
    assert found.lower == max(given, found.largest["ascent"]) > given
    # All that was seen is in the histogram.
    assert {name: sum(c) for name, c in found.counts.items()} == dict.fromkeys(("real", "fake", "interpolated"), 6)
    assert found.edges[0] == 0
    assert found.edges[-1] == pytest.approx(given)
    assert json.loads(json.dumps(found.to_dict()))["lower"] == found.lower


@pytest.mark.parametrize("architecture", ["standard_cnn", "resnet"])
def test_the_bound_without_spectral_norm(architecture):
    config = config_of(architecture, classes=3, warmup=0, dtype="float64")
    module = build(config).discriminator.module(discriminator(config))
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, Conv | Linear | Embedding):
            layer.norm = None
    real, fake = images(config, n=3)
    found = certify(module, real, fake, labels=np.arange(3), steps=4, starts=3)
    assert all(layer.sigma is None for layer in found.layers)
    assert 0 < found.lower <= found.upper_estimate <= found.upper


def test_slopes_between_any_two_images_are_below_upper():
    config = config_of("resnet", 3)
    variables = discriminator(config, 3)
    real, fake = images(config)
    found = certificate(config, variables, real, fake, labels=np.zeros(6, int), steps=0, starts=3)
    assert "ascent" not in found.largest
    score = jax.jit(build(config).discriminator.apply, static_argnames="train")
    x, y = jnp.asarray(real), jnp.asarray(fake)
    for label in range(3):  # the bound is for every class
        labels = jnp.full(6, label)
        a, b = (score(variables, images, labels, train=False)[0] for images in (x, y))
        slopes = np.abs(a - b) / np.linalg.norm(np.asarray(x - y).reshape(6, -1), axis=1)
        assert (slopes <= found.upper).all()


# Where the truth is known -------------------------------------------------------------------------------------------


def test_bounds_of_a_linear_network_meet():
    layers = [linear(12, 7, 0), linear(7, 5, 1), linear(5, 1, 2)]
    product = np.linalg.multi_dot([layer.kernel[...] for layer in layers])
    # One layer alone: the bound is its norm.
    real, fake = np.random.default_rng(0).uniform(-1, 1, (2, 6, 2, 2, 3))
    one = Bounded([linear(12, 1, 0)], identity)
    found = certify(one, real, fake, steps=3, starts=2, box=None)
    truth = np.linalg.norm(one.steps[0].kernel[...])
    assert found.lower == pytest.approx(truth, rel=1e-12)
    assert truth <= found.upper <= truth * (1 + 1e-8)
    # Several: the gradient is exact, the product of the norms is above it.
    several = certify(Bounded(layers, identity), real, fake, steps=3, starts=2, box=None)
    assert several.lower == pytest.approx(np.linalg.norm(product), rel=1e-12)
    norms = np.prod([np.linalg.norm(layer.kernel[...], 2) for layer in layers])
    assert several.upper == pytest.approx(norms, rel=1e-8)
    assert several.lower < several.upper
    # Matrices that share their singular vectors: the product is the norm.
    axis = np.random.default_rng(1).normal(size=(12, 1))
    layers[0].kernel[...] = jnp.asarray(axis @ np.ones((1, 7)))
    layers[1].kernel[...] = jnp.ones((7, 5))
    layers[2].kernel[...] = jnp.ones((5, 1))
    tight = certify(Bounded(layers, identity), real, fake, steps=0)
    assert tight.lower == pytest.approx(tight.upper, rel=1e-8)


@pytest.mark.parametrize("architecture", ["standard_cnn", "resnet"])
def test_bounds_meet_where_all_is_positive(architecture):
    """Positive weights keep positive images off the kinks, and no window reaches over the border: a constant image is
    what every layer stretches most, so each factor of the bound is attained."""
    config = config_of(architecture, classes=3, warmup=0, dtype="float64")
    module = build(config).discriminator.module(discriminator(config))
    rng = np.random.default_rng(0)
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, Conv | Linear | Embedding):
            kernel = np.full(layer.kernel.shape, rng.uniform(0.5, 2))
            if isinstance(layer, Conv) and kernel.shape[0] > 1:
                used = slice(1, 1 + layer.stride)  # the centre, or 2x2 at stride 2
                inside = np.zeros_like(kernel)
                inside[used, used] = kernel[used, used]
                kernel = inside
            if isinstance(layer, Embedding):
                kernel *= np.array([[1.0], [3.0], [2.0]])
            layer.kernel[...], layer.norm = jnp.asarray(kernel), None
            if layer.bias is not None:
                layer.bias[...] = jnp.abs(layer.bias[...])
    shape = (2, config.image_size, config.image_size, 1)
    ones = np.ones(2, int)
    found = certify(module, np.full(shape, 0.5), np.full(shape, 0.7), labels=ones, steps=0, starts=3)
    assert found.lower == pytest.approx(found.upper, rel=1e-8)
    assert found.lower == pytest.approx(found.upper_estimate, rel=1e-8)
    below = certify(module, np.full(shape, 0.5), np.full(shape, 0.7), labels=0 * ones, steps=0, starts=3)
    assert below.upper == found.upper > 1.1 * below.lower  # of another class


def test_batch_norm_in_evaluation_is_its_slope():
    norm = BatchNorm(1, eps=0.0, momentum=0.1, dtype=FLOAT64)
    norm.scale[...], norm.var[...] = jnp.array([-3.0]), jnp.array([4.0])
    module = Bounded([linear(4, 1, 0), norm], identity)
    real, fake = np.random.default_rng(0).uniform(-1, 1, (2, 3, 2, 2, 1))
    found = certify(module, real, fake, steps=0)
    truth = 1.5 * np.linalg.norm(module.steps[0].kernel[...])
    assert found.lower == pytest.approx(truth, rel=1e-12)
    assert found.upper == pytest.approx(truth, rel=1e-8)


def test_the_ascent_finds_the_steep_place():
    # D(x) = leaky ReLU of x_1 - 0.9: slope 0.1 for x_1 < 0.9, and 1 in a corner where no given image is.
    first, second = linear(4, 1, 0), linear(1, 1, 1)
    first.kernel[...] = jnp.array([[1.0], [0.0], [0.0], [0.0]])
    first.bias[...] = jnp.array([-0.9])
    second.kernel[...] = jnp.ones((1, 1))
    module = Bounded([first, second], leaky_relu)
    real, fake = 0.1 * np.random.default_rng(0).uniform(-1, 1, (2, 5, 2, 2, 1))
    assert certify(module, real, fake, steps=0).lower == pytest.approx(0.1)
    found = certify(module, real, fake, steps=50, starts=2)
    assert found.lower == pytest.approx(1.0)
    assert found.upper == pytest.approx(1.0, rel=1e-8)
    # Nothing beyond the box counts.
    assert certify(module, real, fake, steps=50, starts=2, box=(-0.5, 0.5)).lower == pytest.approx(0.1)


def test_a_converged_sigma_is_the_svd():
    config = config_of(warmup=0, dtype="float64")
    module = build(config).discriminator.module(discriminator(config))
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, Conv | Linear):
            matrix, u = np.asarray(layer.kernel_matrix(layer.kernel[...])), np.asarray(layer.norm.u[...])
            for _ in range(3000):
                v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
                u = matrix @ v / np.linalg.norm(matrix @ v)
            layer.norm.u[...], layer.norm.v[...] = jnp.asarray(u), jnp.asarray(v)
    real, fake = images(config, n=2)
    found = certify(module, real, fake, steps=0, starts=3)
    for layer in found.layers:
        assert layer.sigma == pytest.approx(layer.reshaped_sigma, rel=1e-9), layer.name
    assert found.nominal == pytest.approx(1, rel=1e-8)  # each layer's matrix has norm 1: what spectral norm promises
    # The convolutions themselves do not: their norms are larger, and the true bound with them.
    assert found.upper > found.upper_estimate > 2 * found.nominal


def test_reshaped_sigma_is_not_the_norm():
    # A kernel of ones: as a matrix sqrt(9) = 3, as a map of many pixels nearly 9.
    layer = Conv(1, 1, 3, padding=1, init=jax.nn.initializers.ones, dtype=FLOAT64, rngs=nnx.Rngs(0))
    module = Bounded([layer, linear(256, 1, 0)], identity)
    real, fake = np.random.default_rng(0).uniform(-1, 1, (2, 2, 16, 16, 1))
    first = certify(module, real, fake, steps=0).layers[0]
    assert first.reshaped_sigma == pytest.approx(3)
    assert 8.5 < first.operator_norm < first.operator_bound == pytest.approx(9)
    assert (first.name, first.size, first.shape) == ("steps.0", (16, 16), (3, 3, 1, 1))


@pytest.mark.parametrize(
    ("size", "c_in", "c_out", "k", "stride", "padding"),
    [
        ((6, 5), 2, 3, 3, 1, 1),
        ((6, 6), 3, 2, 4, 2, 1),
        ((8, 8), 2, 2, 1, 1, 0),  # two singular values in all
        ((8, 8), 1, 3, 1, 1, 0),  # one
        ((2, 2), 1, 1, 4, 2, 1),  # one number comes out
    ],
)
def test_zero_padded_norm_is_that_of_the_dense_matrix(size, c_in, c_out, k, stride, padding):
    kernel = np.random.default_rng(k).normal(size=(k, k, c_in, c_out))
    basis = jnp.eye(size[0] * size[1] * c_in).reshape(-1, *size, c_in)
    matrix = np.asarray(conv(basis, jnp.asarray(kernel), stride, padding)).reshape(len(basis), -1)
    exact = np.linalg.norm(matrix, 2)
    found = zero_padded_operator_norm(kernel, size, stride, padding)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-12)
    assert zero_padded_operator_norm(0 * kernel, size, stride, padding) == 0


def test_each_class_has_its_slope():
    config = config_of(classes=3, warmup=0)
    variables = discriminator(config, 1)
    real, fake = images(config, n=4)
    plain = certificate(config, variables, real, fake, steps=0, starts=3)
    first, second = (
        certificate(config, variables, real, fake, labels=np.full(4, y), steps=0, starts=3) for y in (0, 1)
    )
    assert first.upper == second.upper > plain.upper
    assert len({first.lower, second.lower, plain.lower}) == 3
    assert [layer.name for layer in first.layers][-2:] == ["score", "embed"]
    assert [layer.name for layer in plain.layers][-1] == "score"


def test_float32_variables_where_jax_has_no_float64():
    config = config_of()
    variables = discriminator(config)
    real, fake = images(config, n=3)
    expected = certificate(config, variables, real, fake, steps=2, starts=3)
    with jax.enable_x64(False):
        narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), variables)
        found = certificate(config, narrow, real, fake, steps=2, starts=3)
        assert jnp.ones(1).dtype == jnp.float32  # as it was
    assert found.upper == pytest.approx(expected.upper, rel=1e-12)
    assert found.lower == pytest.approx(expected.lower, rel=1e-12)


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"real": np.zeros((2, 28, 28, 1), np.uint8)}, "real must be floats [n, h, w, c], got uint8"),
        ({"fake": np.zeros((3, 28, 28, 1))}, "real and fake must have one shape"),
        ({"fake": np.full((2, 28, 28, 1), np.nan)}, "fake holds NaN"),
        ({"labels": [0]}, "labels must be 2 integers"),
        ({"labels": [0, 3]}, "labels must be in [0, 3), got 0 to 3"),
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"starts": 0}, "starts must be at least 1, got 0"),
        ({"box": (1.0, -1.0)}, "box must be (least, greatest)"),
    ],
)
def test_refusals(options, words):
    config = config_of(classes=3, warmup=0)
    given = {"real": np.zeros((2, 28, 28, 1)), "fake": np.zeros((2, 28, 28, 1)), "labels": [0, 1]}
    with pytest.raises(ValueError, match=re.escape(words)):
        certificate(config, discriminator(config, 1), **(given | options))


def test_an_unknown_discriminator_is_refused():
    real = np.zeros((2, 2, 2, 1))
    with pytest.raises(ValueError, match=r"no Lipschitz bound is known for .*Chain"):
        certify(Chain([linear(4, 1, 0)], identity), real, real)
    with pytest.raises(ValueError, match="labels were given for a discriminator without classes"):
        certify(Chain([linear(4, 1, 0)], identity), real, real, labels=[0, 0])


def test_fully_connected_layers_multiply():
    config = ModelConfig(
        architecture="mlp",
        image_size=1,
        channels=3,
        discriminator_width=8,
        depth=2,
        spectral_norm=SpectralNormConfig(networks="none"),
    )
    variables = discriminator(config, 1)
    real, fake = np.random.default_rng(0).normal(size=(2, 64, 1, 1, 3))
    found = certificate(config, variables, real, fake, box=None, steps=5)
    kernels = [*(v["kernel"] for v in variables.params["hidden"].values()), variables.params["score"]["kernel"]]
    product = np.prod([np.linalg.norm(np.asarray(k, np.float64), 2) for k in kernels])
    np.testing.assert_allclose([found.nominal, found.upper], product, rtol=1e-6)
    assert 0 < found.lower <= found.upper
