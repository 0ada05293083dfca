"""What a step consumes depends on (seed, step) alone; an epoch holds each image once."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from conftest import TINY
from jax_sngan.config.schema import replace
from jax_sngan.core.inputs import draw_inputs, image_order, input_shapes, sample_latents

DATA = types.SimpleNamespace(
    images=np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), np.uint8),
    labels=np.arange(50, dtype=np.int32) % 10,
)


def test_the_same_step_draws_the_same_and_another_draws_another() -> None:
    first, again, other = (draw_inputs(TINY, DATA, k) for k in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        if a is not None:
            np.testing.assert_array_equal(a, b)
            assert not np.array_equal(a, c)


def test_another_seed_draws_another() -> None:
    other = draw_inputs(replace(TINY, {"seed": 1}), DATA, 3)
    assert not np.array_equal(other.d_latents, draw_inputs(TINY, DATA, 3).d_latents)
    assert not np.array_equal(other.real_images, draw_inputs(TINY, DATA, 3).real_images)


def test_each_way_back_draws_others() -> None:
    """What led to numbers that are not finite is not drawn again: other images, latents, labels and keys."""
    config = replace(TINY, {"dequantize": True})
    drawn = [draw_inputs(config, DATA, 3, rollbacks) for rollbacks in (0, 1, 2)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        for name in ("real_images", "d_latents", "g_latents", "d_keys", "g_key"):
            assert not np.array_equal(getattr(drawn[one], name), getattr(drawn[other], name)), name


def test_no_latent_is_used_twice_in_a_step() -> None:
    inputs = draw_inputs(TINY, DATA, 0)
    latents = np.concatenate([inputs.d_latents.reshape(-1, 4), inputs.g_latents])
    assert len(np.unique(latents, axis=0)) == len(latents)


def test_shapes_and_types_are_as_promised() -> None:
    for conditional in (0, 10):
        config = replace(TINY, {"model.num_classes": conditional, "generator_batch_multiplier": 3})
        drawn = jax.tree.map(lambda x: (x.shape, x.dtype), draw_inputs(config, DATA, 0))
        assert drawn == jax.tree.map(lambda x: (x.shape, x.dtype), input_shapes(config))


@pytest.mark.parametrize("count", [7, 50, 120])
def test_each_epoch_holds_each_image_once_in_another_order(count: int) -> None:
    steps = -(-200 // count)
    rows = np.concatenate([image_order(0, k, count, 50) for k in range(steps)])[:200].reshape(4, 50)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(50), (4, 1)))
    assert len(np.unique(rows, axis=0)) == 4


def test_labels_go_with_their_images() -> None:
    inputs = draw_inputs(replace(TINY, {"model.num_classes": 10}), DATA, 2)
    by_image = {DATA.images[i].tobytes(): DATA.labels[i] for i in range(50)}
    flat = np.asarray(inputs.real_images).reshape(-1, 28, 28, 1)
    assert [by_image[image.tobytes()] for image in flat] == np.asarray(inputs.real_labels).ravel().tolist()


def test_flips_mirror_about_half_of_the_images() -> None:
    plain = draw_inputs(dataclasses.replace(TINY, batch_size=25), DATA, 0).real_images
    flipped = draw_inputs(dataclasses.replace(TINY, batch_size=25, flip=True), DATA, 0).real_images
    same = np.all(plain == flipped, axis=(2, 3, 4))
    mirrored = np.all(plain[:, :, :, ::-1] == flipped, axis=(2, 3, 4))
    assert np.all(same ^ mirrored)
    assert 10 < mirrored.sum() < 40


def test_latents_are_standard_normal_and_do_not_depend_on_the_networks_type() -> None:
    wide = dataclasses.replace(TINY, batch_size=500)
    single = draw_inputs(wide, DATA, 0).d_latents
    double = draw_inputs(replace(wide, {"model.dtype": "float64"}), DATA, 0).d_latents
    np.testing.assert_array_equal(np.asarray(single, np.float64), double)
    assert abs(float(single.mean())) < 0.05
    assert abs(float(single.std()) - 1) < 0.05


def test_a_samples_latents_do_not_depend_on_how_many_there_are() -> None:
    np.testing.assert_array_equal(
        sample_latents(5, 10, 4, np.dtype("float32"))[:3], sample_latents(5, 3, 4, np.dtype("float32"))
    )


def test_images_that_the_networks_do_not_take_are_refused() -> None:
    data = types.SimpleNamespace(images=DATA.images[:, :20], labels=DATA.labels)
    with pytest.raises(ValueError, match=r"images must be \[n, 28, 28, 1\], got \[50, 20, 28, 1\]"):
        draw_inputs(TINY, data, 0)
