"""Rung 1, operations: differentiable augmentation and its gradients, against torch and against numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_sngan.config.schema import AugmentConfig
from jax_sngan.core import augment
from jax_sngan.nn import rng as noise
from parity_tests.compare import EXACT, assert_close
from parity_tests.tolerances import OPS_F32, OPS_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE
from torch_ref.core import augment as torch_augment

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", OPS_F64), ("float32", OPS_F32)])
LAST = 1 - 2.0**-23  # the largest number that rng.uniform draws
ENDS = np.array([0.0, 0.25, 0.5, 0.75, LAST])
PAIRS = np.array([(a, b) for a in ENDS for b in ENDS])  # down and right, row and column: every corner among them


def draw(n, side, channels, dtype):
    rng = np.random.default_rng(n + side + channels)
    return rng.uniform(-1, 1, (n, side, side, channels)).astype(dtype)


def to_maps(images):
    return tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def waves(shape, dtype):
    """Fixed weights that turn an array into one number."""
    return np.cos(np.arange(math.prod(shape))).reshape(shape).astype(dtype)


def assert_both(ours, theirs, images, tolerance):
    """Value, and gradient in the images of a curved function of it; ours and theirs: images -> images."""

    def energy(x):
        y = ours(x)
        return jnp.sum(jnp.sin(y) * waves(y.shape, y.dtype.name)), y

    gradient, value = jax.jit(jax.grad(energy, has_aux=True), compiler_options=QUICK_COMPILE)(jnp.asarray(images))
    x = to_maps(images).requires_grad_()
    y = theirs(x)
    (torch.sin(y) * to_maps(waves(images.shape, images.dtype.name))).sum().backward()
    assert x.grad is not None
    assert_close(value, y.permute(0, 2, 3, 1), tolerance, "value")
    assert_close(gradient, x.grad.permute(0, 2, 3, 1), tolerance, "gradient")
    return np.asarray(value)


# By torch ---------------------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "saturation", "contrast"])
def test_colour(name, channels, dtype, tolerance):
    images, r = draw(5, 4, channels, dtype), ENDS.astype(dtype)
    ours, theirs = getattr(augment, name), getattr(torch_augment, name)
    assert_both(lambda x: ours(x, r), lambda x: theirs(x, tensor(r)), images, tolerance)


@DTYPES
@pytest.mark.parametrize(("side", "share"), [(8, 0.125), (5, 0.5), (4, 0.99)])
def test_translate(side, share, dtype, tolerance):
    images, r = draw(25, side, 2, dtype), PAIRS.astype(dtype)
    value = assert_both(
        lambda x: augment.translate(x, jnp.asarray(r), share),
        lambda x: torch_augment.translate(x, tensor(r), share),
        images,
        tolerance,
    )
    most = math.floor(side * share + 0.5)
    for image, moved, (down, right) in zip(images, value, PAIRS, strict=True):
        shift = [math.floor(x * (2 * most + 1)) - most for x in (down, right)]
        np.testing.assert_array_equal(moved, rolled(image, *shift))
    assert most == (1, 3, 4)[(8, 5, 4).index(side)]  # 4: nothing of the image is left at the ends
    np.testing.assert_array_equal(value[0], rolled(images[0], -most, -most))
    np.testing.assert_array_equal(value[-1], rolled(images[-1], most, most))
    np.testing.assert_array_equal(value[12], images[12])  # the middle number moves nothing


def rolled(image, down, right):
    """image [h, w, c] after np.roll, with zeros where it came around."""
    side = len(image)
    padded = np.pad(image, ((side, side), (side, side), (0, 0)))
    return np.roll(padded, (down, right), (0, 1))[side:-side, side:-side]


@DTYPES
@pytest.mark.parametrize(("side", "share", "size"), [(8, 0.5, 4), (8, 0.4, 3), (7, 0.5, 4), (5, 0.99, 5)])
def test_cutout(side, share, size, dtype, tolerance):
    images, r = draw(25, side, 2, dtype), PAIRS.astype(dtype)
    value = assert_both(
        lambda x: augment.cutout(x, jnp.asarray(r), share),
        lambda x: torch_augment.cutout(x, tensor(r), share),
        images,
        tolerance,
    )
    # Zhao et al.'s program draws the centre as a whole number below side + 1 where the size is even, side where odd,
    # and the square begins size // 2 before it.
    centres = side + 1 - size % 2
    for image, cut, pair in zip(images, value, PAIRS, strict=True):
        expected = image.copy()
        top, left = (math.floor(x * centres) - size // 2 for x in pair)
        for i in range(max(top, 0), min(top + size, side)):
            expected[i, max(left, 0) : min(left + size, side)] = 0
        np.testing.assert_array_equal(cut, expected)
    zeros = np.sum(value[..., 0] == 0, (1, 2))
    half = size - size // 2  # of the square's side, at the first pixels; the same at the last ones
    assert zeros[0] == half**2
    assert zeros[-1] == ((size // 2) if size % 2 == 0 else half) ** 2
    assert zeros[12] == size**2  # in the middle all of it is inside


WHOLE = {
    "all": AugmentConfig(colour=True, translation=0.25, cutout=0.5),
    "colour": AugmentConfig(colour=True),
    "translation": AugmentConfig(translation=0.25),
    "cutout": AugmentConfig(cutout=0.5),
    "none": AugmentConfig(),
}


@DTYPES
@pytest.mark.parametrize("case", WHOLE)
def test_the_whole(case, dtype, tolerance):
    config, images = WHOLE[case], draw(6, 8, 3, dtype)
    key, other = jnp.asarray([3, 9], jnp.uint32), jnp.asarray([3, 10], jnp.uint32)
    value = assert_both(
        lambda x: augment.augment(config, x, key),
        lambda x: torch_augment.augment(config, x, torch.tensor([3, 9])),
        images,
        tolerance,
    )
    assert config.any == (case != "none")
    assert np.array_equal(value, images) == (case == "none")
    if config.any:
        assert not np.array_equal(value, augment.augment(config, jnp.asarray(images), other))


# By itself ----------------------------------------------------------------------------------------------------------


def test_the_order_and_the_numbers_that_each_operation_takes():
    images, key = jnp.asarray(draw(6, 8, 3, "float64")), jnp.asarray([3, 9], jnp.uint32)
    r = noise.uniform(key, (6, augment.NUMBERS), images.dtype)
    x = augment.contrast(augment.saturation(augment.brightness(images, r[:, 0]), r[:, 1]), r[:, 2])
    x = augment.cutout(augment.translate(x, r[:, 3:5], 0.25), r[:, 5:7], 0.5)
    assert_close(augment.augment(WHOLE["all"], images, key), x, EXACT)


def test_colours_formulas():
    images, r = draw(5, 4, 3, "float64"), ENDS
    close = {"rtol": 0, "atol": 1e-15}
    np.testing.assert_allclose(augment.brightness(images, r)[3], images[3] + 0.25, **close)
    saturated = np.asarray(augment.saturation(images, r))
    np.testing.assert_allclose(saturated[2], images[2], **close)  # 2 r = 1
    np.testing.assert_allclose(saturated[0], np.repeat(images[0].mean(2, keepdims=True), 3, 2), **close)  # grey
    np.testing.assert_allclose(saturated.mean(3), images.mean(3), **close)
    contrasted = np.asarray(augment.contrast(images, r))
    np.testing.assert_allclose(contrasted[2], images[2], **close)  # r + 1/2 = 1
    np.testing.assert_allclose(contrasted.mean((1, 2, 3)), images.mean((1, 2, 3)), **close)
    np.testing.assert_allclose(contrasted.std((1, 2, 3)), images.std((1, 2, 3)) * (r + 0.5), rtol=1e-14)
