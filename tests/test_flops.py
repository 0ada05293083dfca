"""FLOPs counted from the compiled program are those that a person counts on paper."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jax_sngan.accelerators.cost import flops_of_compiled
from jax_sngan.config.schema import ModelConfig, TrainConfig
from jax_sngan.core import flops
from jax_sngan.core.inputs import input_shapes
from jax_sngan.core.state import state_shapes
from jax_sngan.core.step import training_step
from jax_sngan.nn.conv import conv
from jax_sngan.nn.resampled_conv import mean_pooled_conv, upsampled_conv

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends take lax's forms")


def of(f, *shapes):  # type: ignore[no-untyped-def]
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    return flops_of_compiled(jax.jit(f).lower(*arguments).compile().as_text())


@on_cpu
@pytest.mark.parametrize(
    ("f", "x", "kernel", "direct", "left"),
    [
        (partial(conv, stride=1, padding=1), (2, 8, 8, 8), (3, 3, 8, 8), 2 * 64 * 9 * 64, 1),
        (partial(conv, stride=1, padding=1), (2, 8, 8, 64), (3, 3, 64, 64), 2 * 64 * 9 * 64**2, 16 / 36),
        (partial(conv, stride=2, padding=1), (2, 8, 8, 64), (4, 4, 64, 128), 2 * 16 * 16 * 64 * 128, 9 / 16),
        (upsampled_conv, (2, 4, 4, 32), (3, 3, 32, 32), 2 * 64 * 9 * 32**2, 9 / 36),
        (mean_pooled_conv, (2, 8, 8, 32), (3, 3, 32, 32), 2 * 64 * 9 * 32**2, 9 / 36),
    ],
    ids=["3x3 narrow", "3x3", "4x4 stride 2", "up-sampled", "mean-pooled"],
)
def test_what_the_exact_algebra_leaves(f, x, kernel, direct, left):
    images = x[0]
    assert of(f, x, kernel) == pytest.approx(images * direct * left)


def test_what_is_counted_is_what_the_platform_runs():
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 64), (3, 3, 64, 64))]
    step = partial(conv, stride=1, padding=1)
    direct = 2 * 2 * 64 * 9 * 64**2
    assert flops.count(step, *arguments, platform="cpu") == direct * 16 / 36
    assert flops.count(step, *arguments, platform="tpu") == flops.count(step, *arguments, platform="cuda") == direct
    assert flops.count(step, *arguments) == flops.count(step, *arguments, platform=jax.default_backend())


def test_a_loop_counts_as_often_as_it_runs():
    def f(a, b):
        return jax.lax.scan(lambda c, _: (c @ b, None), a, None, length=7)[0]

    assert of(f, (16, 16), (16, 16)) == 7 * 2 * 16**3


def test_a_training_step_is_within_five_percent_of_the_analytic_count():
    # The standard CNN, layer by layer: multiplications of an image, with two FLOPs each.
    n, w = 16, 8
    model = ModelConfig(image_size=32, channels=3, latent_size=16, generator_width=w, discriminator_width=w)
    config = TrainConfig(name="count", batch_size=n, n_dis=2, model=model)
    project = 16 * (4 * 4 * 8 * w)
    up = sum(
        4 * 4 * (w << i + 1) * (w << i) * (16 >> i) ** 2 for i in range(3)
    )  # taps, channels, pixels of the smaller map
    to_image = 9 * w * 3 * 32**2
    first = 9 * 3 * w * 32**2
    others = sum(9 * (w << i - 1) * (w << i) * (32 >> i) ** 2 for i in (1, 2, 3))
    others += sum(16 * (w << i) ** 2 * (16 >> i) ** 2 for i in range(3)) + 16 * 8 * w
    g, d = project + up + to_image, first + others
    d_update = g + 2 * (3 * d - first)  # real and generated; no gradient of images
    g_update = 3 * g - project + 2 * d  # no gradient of latents, none of D's weights
    expected = 2 * n * (2 * d_update + g_update)
    state = state_shapes(config)
    step = jax.jit(partial(training_step, config)).lower(state, input_shapes(config)).compile()
    assert flops_of_compiled(step.as_text()) == pytest.approx(expected, rel=0.05)
