"""Rung 1, operations: the random numbers of an update, drawn by both frameworks from one key and equal to the bit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.core.step
from jax_sngan.config.schema import replace
from jax_sngan.core import pixels as images
from jax_sngan.core import step
from jax_sngan.core.gan import gan
from jax_sngan.nn import rng
from parity_tests.compare import EXACT, assert_close, to_numpy
from parity_tests.configs import BASE
from parity_tests.torch_device import tensor
from torch_ref.core import pixels as torch_images
from torch_ref.nn import rng as torch_noise

KEYS = [(0, 0), (0, 1), (7, 0), (1, 0x80000000), (0xFFFFFFFF, 0xFFFFFFFF), (0x13198A2E, 0x03707344)]
NUMBERS = [*range(rng.DROPOUT_PENALTY + 1), rng.PARTS, rng.PARTS + 1, rng.PARTS + 63, 2**31 - 1]
SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4, 5), (0,), (4097,)]
DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])


def both_keys(key):
    return jnp.asarray(key, jnp.uint32), torch.tensor(key, dtype=torch.int64)


def numbers(key):
    return tuple(int(n) for n in to_numpy(key))


def test_the_uses_have_the_same_numbers():
    names = [name for name in vars(rng) if name.isupper()]
    assert len(names) == 10
    assert {name: getattr(rng, name) for name in names} == {name: getattr(torch_noise, name) for name in names}


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_streams(key):
    ours, theirs = both_keys(key)
    for number in NUMBERS:
        stream = rng.subkey(ours, number)
        assert stream.dtype == jnp.uint32
        assert_close(np.asarray(stream, np.int64), torch_noise.subkey(theirs, number), EXACT, f"stream {number}")
        assert_close(stream, jax.jit(rng.subkey)(ours, jnp.int32(number)), EXACT, f"traced stream {number}")


def test_published_numbers_of_threefry():
    """Random123's known answer for key 0 and counter 0: both frameworks could be wrong alike."""
    ours, theirs = both_keys((0, 0))
    assert numbers(rng.subkey(ours, 0)) == numbers(torch_noise.subkey(theirs, 0)) == (0x6B200159, 0x99BA4EFE)
    # Its third, whose counter has both words: torch_ref's rounds are its own.
    answer = torch_noise._threefry(both_keys(KEYS[5])[1], torch.tensor(0x243F6A88), torch.tensor(0x85A308D3))
    assert tuple(int(x) for x in answer) == (0xC4923A9C, 0x483DF7A0)


def test_no_two_uses_share_a_stream():
    """Of a whole batch, of each of its parts, and of a dropout's layers below a use."""
    key = torch.tensor([3, 4])
    parts = [torch_noise.subkey(key, rng.PARTS + i) for i in range(4)]
    uses = [torch_noise.subkey(k, use) for k in (key, *parts) for use in range(rng.DROPOUT_PENALTY + 1)]
    layers = [torch_noise.subkey(use, i) for use in uses for i in range(3)]
    every = [numbers(k) for k in (key, *parts, *uses, *layers)]
    assert len(set(every)) == len(every) == 1 + 4 + 45 + 135


@DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_uniforms(shape, dtype):
    for key in KEYS:
        ours, theirs = both_keys(key)
        drawn = rng.uniform(ours, shape, jnp.dtype(dtype))
        assert_close(drawn, torch_noise.uniform(theirs, shape, getattr(torch, dtype)), EXACT, f"of key {key}")
        steps = np.asarray(drawn, np.float64) * 2**23
        assert np.all((steps >= 0) & (steps < 2**23) & (steps == np.floor(steps)))


def test_uniforms_are_spread_and_another_keys_are_others():
    drawn = [np.asarray(rng.uniform(both_keys(key)[0], (4096,), jnp.dtype("float64"))) for key in KEYS]
    for a in drawn:
        assert abs(a.mean() - 0.5) < 5 / np.sqrt(12 * 4096)  # five standard deviations of a mean
        assert np.all(np.abs(np.histogram(a, 8, (0, 1))[0] - 512) < 5 * np.sqrt(512))
    for a, b in itertools.combinations(drawn, 2):
        assert np.sum(a == b) <= 2  # two numbers of 23 bits meet once in 8 million


@DTYPES
def test_dequantize(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    r = np.random.default_rng(0).integers(0, 2**23, levels.shape) / 2.0**23
    r.flat[:2], r.flat[-2:] = 0, 1 - 2.0**-23
    r = r.astype(dtype)
    ours = images.dequantize(jnp.asarray(levels), jnp.asarray(r))
    assert_close(ours, torch_images.dequantize(tensor(levels), tensor(r)), EXACT)
    low = levels / 128 - 1  # each level has its own 1/128
    ours = np.asarray(ours, np.float64)
    assert np.all((ours >= low) & (ours <= low + 1 / 128))
    assert ours.flat[0] == -1
    if dtype == "float64":  # float32 has no number between 255 + 1 - 2^-17 and 256
        assert np.all(ours < low + 1 / 128)


@DTYPES
def test_real_images_with_noise(dtype):
    """The noise lies in the order of our maps, [n, h, w, c], in both frameworks."""
    config = replace(BASE, {"dequantize": True, "model.dtype": dtype})
    pixels = np.random.default_rng(1).integers(0, 256, (2, 4, 5, 3), np.uint8)
    ours, theirs = both_keys((5, 6))
    maps = tensor(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    drawn = step.real_images(gan(config), jnp.asarray(pixels), ours)
    assert_close(drawn, torch_ref.core.step.real_images(config, maps, theirs).permute(0, 2, 3, 1), EXACT)
    plain = step.real_images(gan(replace(config, {"dequantize": False})), jnp.asarray(pixels), None)
    assert not np.array_equal(drawn, plain)
    assert not np.array_equal(drawn, step.real_images(gan(config), jnp.asarray(pixels), both_keys((5, 7))[0]))
