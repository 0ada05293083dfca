"""Rung 1, forms that need fewer multiplications: to the second derivative what torch's plain layers compute."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
import pytest

from jax_sngan.nn.conv import conv, conv_transpose
from jax_sngan.nn.cpu_kernels import winograd
from jax_sngan.nn.cpu_kernels.forms import (
    choose_form,
    winograd_conv,
    winograd_input_gradient,
    winograd_kernel_gradient,
)
from jax_sngan.nn.resampled_conv import mean_pooled_conv, upsampled_conv
from parity_tests.accelerators import accelerator_forms
from parity_tests.compare import assert_close
from parity_tests.test_1_ops import (
    DTYPES,
    _assert_orders_close,
    _orders,
    _torch_conv,
    _torch_conv_transpose,
    _torch_input_gradient,
    _torch_kernel_gradient,
    _torch_orders,
)
from parity_tests.tolerances import OPS_F64
from parity_tests.torch_device import tensor
from torch_ref.nn import resample as torch_resample


def _on_channels_last(f, x):
    return f(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _torch_upsampled_conv(x, kernel):
    return _torch_conv(_on_channels_last(torch_resample.upsample_nearest, x), kernel, 1, 1)


def _torch_mean_pooled_conv(x, kernel):
    return _on_channels_last(torch_resample.mean_pool, _torch_conv(x, kernel, 1, 1))


# name: (ours, torch's, shape of x, shape of the kernel); so many channels that fewer multiplications are chosen
CHOSEN = {
    "3x3": (
        partial(conv, stride=1, padding=1),
        partial(_torch_conv, stride=1, padding=1),
        (2, 4, 6, 64),
        (3, 3, 64, 65),
    ),
    "3x3 on a large map": (
        partial(conv, stride=1, padding=1),
        partial(_torch_conv, stride=1, padding=1),
        (1, 10, 10, 64),
        (3, 3, 64, 64),
    ),
    "4x4 stride 2": (
        partial(conv, stride=2, padding=1),
        partial(_torch_conv, stride=2, padding=1),
        (2, 4, 8, 64),
        (4, 4, 64, 128),
    ),
    "transposed": (
        partial(conv_transpose, stride=2, padding=1),
        partial(_torch_conv_transpose, stride=2, padding=1),
        (2, 2, 4, 128),
        (4, 4, 64, 128),
    ),
    "up-sampled, 3x3": (upsampled_conv, _torch_upsampled_conv, (2, 3, 2, 32), (3, 3, 32, 33)),
    "3x3, mean": (mean_pooled_conv, _torch_mean_pooled_conv, (2, 6, 4, 33), (3, 3, 33, 32)),
    # narrower: the plain forms
    "up-sampled, 3x3, narrow": (upsampled_conv, _torch_upsampled_conv, (2, 3, 2, 5), (3, 3, 5, 6)),
    "3x3, mean, narrow": (mean_pooled_conv, _torch_mean_pooled_conv, (2, 6, 4, 5), (3, 3, 5, 6)),
}


def _draw(shape: tuple[int, ...], kernel: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sum(shape))
    fan_in = kernel[0] * kernel[1] * shape[3]
    return rng.normal(size=shape).astype(dtype), (rng.normal(size=kernel) / fan_in**0.5).astype(dtype)


@pytest.mark.parametrize("name", CHOSEN)
def test_to_the_second_derivative(name):
    ours, theirs, *shapes = CHOSEN[name]
    x, kernel = _draw(*shapes, "float64")
    _assert_orders_close(
        _orders(lambda a, b: ours(a, b), x, kernel), _torch_orders(lambda a, b: theirs(a, b), x, kernel), OPS_F64
    )


@DTYPES
@pytest.mark.parametrize("name", [name for name in CHOSEN if "up-sampled" in name or "mean" in name])
def test_as_one_strided_convolution_to_the_second_derivative(name, dtype, tolerance):
    """What an accelerator runs, of any number of channels."""
    ours, theirs, *shapes = CHOSEN[name]
    x, kernel = _draw(*shapes, dtype)
    with accelerator_forms():
        found = _orders(lambda a, b: ours(a, b), x, kernel)
    _assert_orders_close(found, _torch_orders(lambda a, b: theirs(a, b), x, kernel), tolerance)


@pytest.fixture
def image_by_image(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Parts of one image, which no trace made before or after shares."""
    monkeypatch.setattr(winograd, "CHUNK", 1)
    monkeypatch.setattr(winograd, "KERNEL_CHUNK", 1)
    monkeypatch.setattr(winograd.jax, "device_count", lambda: 1)
    jax.clear_caches()
    yield
    jax.clear_caches()


# k, stride: every algorithm, asked for with few channels, whole and image by image
@DTYPES
@pytest.mark.parametrize("at_once", ["whole", "image by image"])
@pytest.mark.parametrize(("k", "stride"), [(3, 1), (4, 2)])
def test_the_three_maps(k, stride, at_once, dtype, tolerance, request):
    if at_once == "image by image":
        request.getfixturevalue("image_by_image")
    x, kernel = _draw((3, 8, 12, 5), (k, k, 5, 4), dtype)
    y = _draw((3, 8 // stride, 12 // stride, 4), (k, k, 5, 4), dtype)[0]
    tx, tk, ty = (tensor(a) for a in (x, kernel, y))
    found = winograd_conv(x, kernel, stride, 1)
    assert_close(found, _torch_conv(tx, tk, stride, 1), tolerance, "conv")
    expected = _torch_input_gradient(ty, tk, (8, 12), stride, 1)
    assert_close(winograd_input_gradient(y, kernel, (8, 12), stride, 1), expected, tolerance, "input gradient")
    expected = _torch_kernel_gradient(tx, ty, k, stride, 1)
    assert_close(winograd_kernel_gradient(x, y, k, stride, 1), expected, tolerance, "kernel gradient")


@DTYPES
@pytest.mark.parametrize("name", ["up-sampled, 3x3", "3x3, mean"])
@pytest.mark.usefixtures("image_by_image")
def test_resampled_image_by_image(name, dtype, tolerance):
    ours, theirs, *shapes = CHOSEN[name]
    x, kernel = _draw(*shapes, dtype)
    assert_close(ours(x, kernel), theirs(tensor(x), tensor(kernel)), tolerance)


def test_the_cases_are_those_with_fewer_multiplications():
    for name, wanted in (("3x3", "conv"), ("4x4 stride 2", "input_gradient"), ("3x3 on a large map", "input_gradient")):
        ours, _, shape, kernel = CHOSEN[name]
        for map_ in (wanted, "kernel_gradient"):
            form = choose_form(map_, shape[1:3], kernel, **ours.keywords, dtype=np.dtype("float64"))
            assert form == "winograd", (name, map_)
