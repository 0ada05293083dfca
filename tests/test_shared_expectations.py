"""What both frameworks are given alike, and so cannot be seen by comparing them: held by literal expectations."""

import math

import jax
import numpy as np
import pytest

from jax_sngan.config.schema import ModelConfig, OptimizerConfig, TrainConfig, replace
from jax_sngan.core.inputs import draw_inputs
from jax_sngan.core.optim import learning_rate
from jax_sngan.core.penalties import Penalty, draw
from jax_sngan.core.pixels import to_uint8
from jax_sngan.data import datasets
from jax_sngan.models.network import ARCHITECTURES, build
from jax_sngan.nn.normalization import normalization

SMALL = {"latent_size": 8, "generator_width": 4, "discriminator_width": 4, "dtype": "float64"}


def paths(tree, prefix=()):
    for name, branch in tree.items():
        yield from paths(branch, (*prefix, name)) if isinstance(branch, dict) else [".".join((*prefix, name))]


def normalised(config, network):
    """The layers that have a u, by name."""
    variables = jax.eval_shape(lambda: getattr(build(config), network).init(jax.random.key(0)))
    return sorted(p.removesuffix(".u").removesuffix(".norm") for p in paths(variables.spectral) if p.endswith(".u"))


CNN_D = sorted([*(f"convs.{i}" for i in range(7)), "score"])
RESNET_D = sorted(
    [
        *(f"blocks.{i}.{c}" for i in range(4) for c in ("conv1", "conv2")),
        "blocks.0.shortcut",
        "blocks.1.shortcut",
        "score",
    ]
)
RESNET_G = sorted(
    [*(f"blocks.{i}.{c}" for i in range(3) for c in ("conv1", "conv2", "shortcut")), "project", "to_image"]
)
NAMES = {
    ("standard_cnn", "discriminator", 0): ([], CNN_D),
    ("standard_cnn", "both", 0): (sorted(["project", "deconvs.0", "deconvs.1", "deconvs.2", "to_image"]), CNN_D),
    ("standard_cnn", "discriminator", 3): ([], sorted([*CNN_D, "embed"])),
    ("resnet", "discriminator", 0): ([], RESNET_D),
    ("resnet", "both", 3): (RESNET_G, sorted([*RESNET_D, "embed"])),
    ("resnet", "none", 3): ([], []),
    ("mlp", "both", 0): (
        ["hidden.0", "hidden.1", "hidden.2", "to_image"],
        ["hidden.0", "hidden.1", "hidden.2", "score"],
    ),
}


@pytest.mark.parametrize("case", NAMES, ids=str)
def test_which_layers_are_normalised(case):
    architecture, networks, classes = case
    config = replace(
        ModelConfig(architecture=architecture, num_classes=classes, **SMALL), {"spectral_norm.networks": networks}
    )
    for network, expected in zip(("generator", "discriminator"), NAMES[case], strict=True):
        assert normalised(config, network) == expected, network


def spread(architecture, network, *path):
    """The root mean square of a kernel's entries over eight fresh networks of width 32, and its shape."""
    config = ModelConfig(architecture=architecture, latent_size=64, generator_width=32, discriminator_width=32)
    init = jax.jit(lambda key: getattr(build(config), network).init(key).params)
    kernels = []
    for seed in range(8):
        tree = init(jax.random.key(seed))
        for name in path:
            tree = tree[name]
        kernels.append(np.asarray(tree["kernel"], np.float64))
    return math.sqrt(np.mean(np.square(kernels))), kernels[0].shape


def glorot(fan_in, fan_out, gain=1.0):
    """The standard deviation of U(-a, a) with a = gain sqrt(6 / (in + out))."""
    return gain * math.sqrt(2 / (fan_in + fan_out))


SPREADS = {  # (architecture, network, path): (standard deviation, shape)
    ("resnet", "generator", "blocks", "0", "conv1"): (glorot(9 * 32, 9 * 32, math.sqrt(2)), (3, 3, 32, 32)),
    ("resnet", "generator", "blocks", "0", "shortcut"): (glorot(32, 32), (1, 1, 32, 32)),
    ("resnet", "generator", "to_image"): (glorot(9 * 32, 9 * 3), (3, 3, 32, 3)),
    ("resnet", "discriminator", "blocks", "1", "conv2"): (glorot(9 * 32, 9 * 32, math.sqrt(2)), (3, 3, 32, 32)),
    ("resnet", "generator", "project"): (glorot(64, 512), (64, 512)),
    ("mlp", "discriminator", "hidden", "1"): (glorot(32, 32, math.sqrt(2)), (32, 32)),
}


@pytest.mark.parametrize("case", SPREADS, ids="-".join)
def test_shapes_and_initial_spreads_by_formula(case):
    found, shape = spread(*case)
    expected, expected_shape = SPREADS[case]
    assert shape == expected_shape
    numbers = 8 * math.prod(shape)
    # A uniform number's square has a standard deviation of 0.894 of its mean: five times that of the mean's root.
    assert abs(found / expected - 1) < 5 * 0.447 / math.sqrt(numbers)


@pytest.fixture(scope="module")
def drawn():
    """The inputs of thirty steps with classes and keys."""
    config = replace(
        TrainConfig(batch_size=16, n_dis=3, seed=4, dequantize=True, generator_batch_multiplier=2),
        {"model.image_size": 28, "model.channels": 1, "model.latent_size": 4, "model.num_classes": 10},
    )
    data = datasets.load_data("fashion", image_size=28, channels=1)
    return [jax.tree.map(np.asarray, draw_inputs(config, data, step)) for step in range(30)]


@pytest.mark.parametrize("name", ["d_labels", "g_labels", "real_labels"])
def test_every_class_is_drawn_as_often(drawn, name):
    labels = np.concatenate([getattr(i, name).reshape(-1) for i in drawn])
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10
    chi = float(np.sum((counts - len(labels) / 10) ** 2) / (len(labels) / 10))
    assert chi < 33.7  # nine degrees of freedom: once in ten thousand


def test_labels_of_generated_images_are_no_copies_of_one_another(drawn):
    for i in drawn:
        assert not np.array_equal(i.d_labels[0], i.d_labels[1])
        assert not np.array_equal(i.d_labels, i.real_labels)
        assert not np.array_equal(i.g_labels[:16], i.d_labels[-1])


def test_no_two_updates_share_a_key(drawn):
    keys = [tuple(k) for i in drawn for k in (*i.d_keys, i.g_key)]
    assert len(set(keys)) == len(keys) == 30 * 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_layer_is_what_a_latent_meets(architecture):
    size = 1 if architecture == "mlp" else 32
    config = ModelConfig(
        architecture=architecture, image_size=size, latent_size=7, generator_width=4, discriminator_width=4, depth=2
    )
    generator = build(config).generator
    assert generator.module(generator.init(jax.random.key(0))).first_layer.kernel.shape[0] == 7


def test_pixels_are_rounded_and_cut_off_at_both_ends():
    floats = np.array([-3.0, -1.0, -0.999, -0.995, 0.0, 0.5, 1.0, 1.7])
    assert np.asarray(to_uint8(floats)).tolist() == [0, 0, 0, 1, 128, 191, 255, 255]


def test_a_norm_without_options_has_torchs():
    norm = normalization("batch", 3)
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_rate_that_falls_in_one_step(schedule):
    config = OptimizerConfig(learning_rate=0.5, schedule=schedule, decay_start=9)
    rates = [float(learning_rate(config, jax.numpy.asarray(step), 10)) for step in (0, 9, 10)]
    assert rates == pytest.approx([0.5, 0.5, 0.0], abs=1e-12)


def test_a_penaltys_draws_have_streams_that_nothing_else_has():
    asked = []

    def subkey(stream):
        asked.append(stream)
        return np.array([0, stream], np.uint32)

    penalty = Penalty(lambda *_: 0.0, draws=lambda shape: {f"draw {i}": shape[:1] for i in range(9)})
    drawn = draw(penalty, np.zeros((5, 2, 2, 1), np.float32), subkey)
    assert asked == [1, 2, *range(9, 16)]  # 5 to 8 are dropout's, 16 on are those of a batch's parts
    assert len({tuple(np.asarray(a).tolist()) for a in drawn.values()}) == 9


@pytest.mark.parametrize("architecture", ["standard_cnn", "resnet"])
@pytest.mark.parametrize("classes", [0, 3])
def test_more_than_a_batch_is_evaluated_as_image_by_image(architecture, classes):
    """Neither a sample nor a score depends on what else is evaluated with it."""
    jax.config.update("jax_enable_x64", True)
    networks = build(ModelConfig(architecture=architecture, image_size=28, channels=1, num_classes=classes, **SMALL))
    draw = np.random.default_rng(0)
    latents = draw.normal(size=(70, 8))
    labels = draw.integers(3, size=70).astype(np.int32) if classes else None
    g, d = (network.init(jax.random.key(i)) for i, network in enumerate(networks))
    g = g._replace(batch=jax.tree.map(lambda a: a + draw.uniform(0.1, 0.5, a.shape), g.batch))
    made = jax.jit(lambda z, y: networks.generator.apply(g, z, y, train=False)[0])
    scored = jax.jit(lambda x, y: networks.discriminator.apply(d, x, y, train=False)[0])
    images = made(latents, labels)
    scores = scored(images, labels)
    for i in (0, 1, 63, 64, 69):
        own = None if labels is None else labels[i : i + 1]
        np.testing.assert_allclose(made(latents[i : i + 1], own)[0], images[i], rtol=0, atol=1e-12)
        np.testing.assert_allclose(scored(images[i : i + 1], own)[0], scores[i], rtol=1e-12, atol=0)
