"""Rung 1, operations: convolutions and their gradients of two orders, resampling, spectral norm, Adam, pixels."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from jax import Array

from jax_sngan.config.schema import OptimizerConfig
from jax_sngan.core.optim import adam, adam_direction, average_decay, clip, descend, learning_rate, moving_average
from jax_sngan.core.pixels import to_float, to_uint8
from jax_sngan.nn import conv as conv_file
from jax_sngan.nn.activations import leaky_relu
from jax_sngan.nn.conv import conv, conv_transpose, input_gradient, kernel_gradient
from jax_sngan.nn.cpu_kernels import forms
from jax_sngan.nn.cpu_kernels.forms import (
    columns_kernel_gradient,
    matmul_conv,
    slices_kernel_gradient,
    subpixel_input_gradient,
    summed_conv,
)
from jax_sngan.nn.plain_conv import plain_conv, plain_input_gradient, plain_kernel_gradient
from jax_sngan.nn.resample import mean_pool, upsample_bilinear, upsample_nearest
from jax_sngan.nn.spectral_norm import estimate_sigma, normalize, power_iteration, spectral_normalize
from jax_sngan.nn.sums import spread_features, sum_to_features
from parity_tests.compare import EXACT, Tolerance, assert_close, assert_within
from parity_tests.tolerances import OPS_F32, OPS_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE
from torch_ref.core import optim as torch_optim
from torch_ref.core import pixels as torch_images
from torch_ref.nn import conv as torch_conv
from torch_ref.nn import resample as torch_resample
from torch_ref.nn import spectral_norm as torch_spectral_norm

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", OPS_F64), ("float32", OPS_F32)])

# Convolutions -------------------------------------------------------------------------------------------------------

# n, h, w, c_in, c_out, k, stride, padding. Together they reach every form (test_cases_reach_every_form).
CASES = [
    (2, 8, 6, 6, 5, 3, 1, 1),
    (1, 7, 5, 1, 1, 3, 1, 1),  # one channel, batch 1, odd
    (2, 8, 6, 3, 7, 3, 1, 1),  # few channels in: columns
    (2, 6, 8, 7, 3, 3, 1, 1),  # few channels out: columns of y
    (1, 5, 7, 5, 1, 3, 1, 2),  # the same, with a padding that enlarges the map
    (2, 8, 6, 5, 6, 4, 2, 1),  # sub-pixels
    (1, 8, 6, 6, 5, 3, 2, 1),
    (1, 6, 4, 5, 6, 5, 2, 2),
    (2, 6, 4, 5, 5, 2, 2, 0),
    (1, 2, 2, 5, 6, 4, 2, 1),  # one window
    (2, 9, 6, 5, 6, 3, 3, 0),
    (1, 9, 9, 5, 6, 4, 3, 1),
    (1, 9, 6, 6, 5, 5, 3, 1),
    (2, 8, 6, 1, 6, 4, 2, 1),
    (2, 8, 6, 6, 2, 4, 2, 1),  # few channels out at stride 2
    (2, 7, 9, 5, 6, 3, 2, 1),  # the map is not a multiple of the stride
    (2, 8, 7, 5, 6, 4, 2, 1),  # no window reads its last column
    (1, 6, 8, 5, 6, 1, 1, 0),
    (2, 6, 6, 6, 5, 1, 2, 0),  # a stride longer than the kernel leaves pixels unread
    (1, 5, 6, 6, 5, 1, 1, 1),  # padding as wide as the kernel
    (1, 5, 4, 6, 2, 3, 1, 3),
    (1, 4, 4, 6, 5, 4, 1, 0),
    (2, 4, 5, 5, 6, 4, 1, 1),
    (2, 5, 4, 17, 3, 3, 1, 1),  # many channels to few: sums of each tap's products
    (1, 4, 5, 16, 1, 4, 1, 2),
    (2, 4, 3, 2, 16, 3, 1, 0),  # the same the other way, in the gradient
]
FEW = [CASES[i] for i in (0, 2, 3, 5, 10, 15, 17, 20, 23)]  # for what is slow to compile: one of each form


def _fits(case: tuple[int, ...]) -> bool:
    """Whether the sub-pixel form can be asked for."""
    n, h, w, c_in, c_out, k, stride, padding = case
    return stride > 1 and _out(case) == (h // stride, w // stride) and h % stride == w % stride == 0 and k >= stride


def _name(case: tuple[int, ...]) -> str:
    n, h, w, c_in, c_out, k, stride, padding = case
    return f"{n}x{h}x{w} {c_in}-{c_out} k{k}s{stride}p{padding}"


def _out(case: tuple[int, ...]) -> tuple[int, int]:
    n, h, w, c_in, c_out, k, stride, padding = case
    return (h + 2 * padding - k) // stride + 1, (w + 2 * padding - k) // stride + 1


def _draw(case: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, kernel and y of a case, all random."""
    n, h, w, c_in, c_out, k, stride, padding = case
    rng = np.random.default_rng(sum(case))
    x, kernel, y = (rng.normal(size=s) for s in ((n, h, w, c_in), (k, k, c_in, c_out), (n, *_out(case), c_out)))
    return x.astype(dtype), (kernel / (k * math.sqrt(c_in))).astype(dtype), y.astype(dtype)


def _compiled(f: Callable, dtype: str) -> Callable:
    """f under jit; float32, where rounding is tested, is compiled as it is for users."""
    return jax.jit(f, compiler_options=QUICK_COMPILE if dtype == "float64" else None)


def _waves(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Fixed weights that turn an array into one number."""
    return np.cos(np.arange(math.prod(shape))).reshape(shape).astype(dtype)


ORDERS = ("value", "gradient 0", "gradient 1", "second gradient 0", "second gradient 1")


def _orders(f: Callable, a: np.ndarray, b: np.ndarray) -> list[Array]:
    """f(a, b), the two gradients of a curved function of it, and the two of those gradients' squared norm.

    The last is the pattern of a gradient penalty. Curved, so that second derivatives are not zero.
    """

    def energy(a, b):
        y = f(a, b)
        return jnp.sum(jnp.sin(y) * _waves(y.shape, y.dtype.name)), y

    def squares(a, b):
        (_, y), gradients = jax.value_and_grad(energy, (0, 1), has_aux=True)(a, b)
        return sum(jnp.sum(g * g) for g in gradients), (y, gradients)

    second, (y, gradients) = _compiled(jax.grad(squares, (0, 1), has_aux=True), a.dtype.name)(a, b)
    return [y, *gradients, *second]


def _torch_orders(f: Callable, a: np.ndarray, b: np.ndarray) -> list[torch.Tensor]:
    """`_orders` by torch's own autograd."""
    s, t = (tensor(p).requires_grad_() for p in (a, b))
    y = f(s, t)
    energy = torch.sum(torch.sin(y) * tensor(_waves(tuple(y.shape), a.dtype.name)))
    gradients = torch.autograd.grad(energy, (s, t), create_graph=True)
    second = torch.autograd.grad(sum(torch.sum(g * g) for g in gradients), (s, t))
    return [y, *gradients, *second]


def _assert_orders_close(actual: list, expected: list, tolerance: float) -> None:
    for name, a, b in zip(ORDERS, actual, expected, strict=True):
        assert_close(a, b, tolerance, name)


# torch_ref's maps in our layouts: a permutation is differentiated with the rest.
def _torch_conv(x, kernel, stride, padding):
    return torch_conv.conv(_nchw(x), _oihw(kernel), stride, padding).permute(0, 2, 3, 1)


def _torch_input_gradient(y, kernel, size, stride, padding):
    return torch_conv.input_gradient(_nchw(y), _oihw(kernel), size, stride, padding).permute(0, 2, 3, 1)


def _torch_kernel_gradient(x, y, k, stride, padding):
    return torch_conv.kernel_gradient(_nchw(x), _nchw(y), k, stride, padding).permute(2, 3, 1, 0)


def _torch_conv_transpose(x, kernel, stride, padding):
    return torch_conv.conv_transpose(_nchw(x), _oihw(kernel), stride, padding).permute(0, 2, 3, 1)


def _nchw(x):
    return x.permute(0, 3, 1, 2).contiguous()


def _oihw(kernel):
    return kernel.permute(3, 2, 0, 1).contiguous()  # or torch refuses the second derivative of some


@pytest.mark.parametrize(
    ("case", "dtype", "tolerance"),
    [(c, "float64", OPS_F64) for c in CASES] + [(c, "float32", OPS_F32) for c in FEW],
    ids=lambda p: _name(p) if isinstance(p, tuple) else str(p),
)
def test_the_three_maps_and_their_forms(case, dtype, tolerance):
    # Which form is chosen is a matter of speed, never of the result: each is asked for wherever it is defined.
    *_, k, stride, padding = case
    x, kernel, y = _draw(case, dtype)
    size = x.shape[1:3]
    kernel_forms = (kernel_gradient, plain_kernel_gradient, slices_kernel_gradient, columns_kernel_gradient)
    input_forms = (input_gradient, plain_input_gradient, *([subpixel_input_gradient] if _fits(case) else []))

    def ours(x, kernel, y):
        forward = {f.__name__: f(x, kernel, stride, padding) for f in (conv, plain_conv)}
        if stride == 1:
            forward["summed_conv"] = summed_conv(x, kernel, padding)
        if (k, stride, padding) == (1, 1, 0):
            forward["matmul_conv"] = matmul_conv(x, kernel)
        return (
            forward,
            {f.__name__: f(y, kernel, size, stride, padding) for f in input_forms},
            {f.__name__: f(x, y, k, stride, padding) for f in kernel_forms},
        )

    forward, to_inputs, to_kernels = _compiled(ours, dtype)(x, kernel, y)
    x, kernel, y = (tensor(a) for a in (x, kernel, y))
    for name, a in forward.items():
        assert_close(a, _torch_conv(x, kernel, stride, padding), tolerance, name)
    for name, a in to_inputs.items():
        assert_close(a, _torch_input_gradient(y, kernel, size, stride, padding), tolerance, name)
    for name, a in to_kernels.items():
        assert_close(a, _torch_kernel_gradient(x, y, k, stride, padding), tolerance, name)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_conv_to_the_second_derivative(case):
    *_, stride, padding = case
    x, kernel, _ = _draw(case, "float64")
    _assert_orders_close(
        _orders(lambda a, b: conv(a, b, stride, padding), x, kernel),
        _torch_orders(lambda a, b: _torch_conv(a, b, stride, padding), x, kernel),
        OPS_F64,
    )


@pytest.mark.parametrize("case", [FEW[0], FEW[3]], ids=_name)
def test_conv_to_the_second_derivative_in_float32(case):
    *_, stride, padding = case
    x, kernel, _ = _draw(case, "float32")
    _assert_orders_close(
        _orders(lambda a, b: conv(a, b, stride, padding), x, kernel),
        _torch_orders(lambda a, b: _torch_conv(a, b, stride, padding), x, kernel),
        OPS_F32,
    )


# The choosing functions have derivatives of their own; the forms are differentiated as they are written.
@pytest.mark.parametrize(
    ("case", "form"),
    [(case, input_gradient) for case in FEW]
    + [(case, form) for case in FEW if _fits(case) for form in (plain_input_gradient, subpixel_input_gradient)],
    ids=lambda p: _name(p) if isinstance(p, tuple) else p.__name__,
)
def test_input_gradient_to_the_second_derivative(case, form):
    *_, stride, padding = case
    x, kernel, y = _draw(case, "float64")
    size = x.shape[1:3]
    _assert_orders_close(
        _orders(lambda a, b: form(a, b, size, stride, padding), y, kernel),
        _torch_orders(lambda a, b: _torch_input_gradient(a, b, size, stride, padding), y, kernel),
        OPS_F64,
    )


@pytest.mark.parametrize(
    ("case", "form"),
    [(case, kernel_gradient) for case in FEW]
    + [
        (case, form)
        for case in (FEW[0], FEW[3])
        for form in (plain_kernel_gradient, slices_kernel_gradient, columns_kernel_gradient)
    ],
    ids=lambda p: _name(p) if isinstance(p, tuple) else p.__name__,
)
def test_kernel_gradient_to_the_second_derivative(case, form):
    *_, k, stride, padding = case
    x, _, y = _draw(case, "float64")
    _assert_orders_close(
        _orders(lambda a, b: form(a, b, k, stride, padding), x, y),
        _torch_orders(lambda a, b: _torch_kernel_gradient(a, b, k, stride, padding), x, y),
        OPS_F64,
    )


# n, h, w, c_in, c_out, k, stride, padding, as ConvTranspose counts them
TRANSPOSED = [
    (2, 4, 3, 6, 5, 4, 2, 1),  # the standard CNN's
    (1, 1, 1, 6, 5, 4, 1, 0),  # DCGAN's first
    (2, 3, 5, 5, 1, 4, 2, 1),
    (1, 3, 4, 1, 5, 3, 1, 1),
    (2, 3, 4, 5, 6, 3, 2, 1),  # the result is odd
    (1, 4, 3, 5, 6, 3, 3, 0),
    (1, 3, 4, 5, 6, 2, 3, 0),  # gaps that no tap reaches
    (1, 4, 4, 5, 6, 1, 1, 0),
    (1, 4, 5, 5, 6, 3, 2, 3),  # padding as wide as the kernel: the border is cut away
]


@pytest.mark.parametrize("case", TRANSPOSED, ids=_name)
def test_conv_transpose_to_the_second_derivative(case):
    x, kernel = _draw_transposed(case, "float64")
    *_, stride, padding = case
    _assert_orders_close(
        _orders(lambda a, b: conv_transpose(a, b, stride, padding), x, kernel),
        _torch_orders(lambda a, b: _torch_conv_transpose(a, b, stride, padding), x, kernel),
        OPS_F64,
    )


def test_conv_transpose_in_float32():
    *_, stride, padding = TRANSPOSED[0]
    x, kernel = _draw_transposed(TRANSPOSED[0], "float32")
    expected = _torch_conv_transpose(tensor(x), tensor(kernel), stride, padding)
    assert_close(conv_transpose(x, kernel, stride, padding), expected, OPS_F32)


def _draw_transposed(case: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    n, h, w, c_in, c_out, k, stride, padding = case
    rng = np.random.default_rng(sum(case))
    x, kernel = rng.normal(size=(n, h, w, c_in)), rng.normal(size=(k, k, c_out, c_in)) / (k * math.sqrt(c_in))
    return x.astype(dtype), kernel.astype(dtype)


FORMS = [
    "plain_conv",
    "matmul_conv",
    "summed_conv",
    "plain_input_gradient",
    "subpixel_input_gradient",
    "plain_kernel_gradient",
    "slices_kernel_gradient",
    "columns_kernel_gradient",
]


def _record_forms(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The list to which a form's name is added when it is called."""
    taken: list[str] = []

    def recorded(name, form):
        def call(*args):
            taken.append(name)
            return form(*args)

        return call

    for name in FORMS:
        monkeypatch.setattr(forms, name, recorded(name, getattr(forms, name)))
    return taken


def _pretend(monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    """A CPU's forms everywhere, or those of every other platform."""

    def taken(in_form, form, *arguments):
        return in_form("plain" if plain else form, *arguments)

    monkeypatch.setattr(conv_file, "by_platform", taken)


@pytest.mark.parametrize("cases", [CASES, FEW], ids=["all", "few"])
def test_cases_reach_every_form(cases, monkeypatch):
    taken = _record_forms(monkeypatch)
    _pretend(monkeypatch, plain=False)
    reached = set()
    for *_, c_in, c_out, k, stride, padding in cases:
        x, kernel, y = _draw((*_, c_in, c_out, k, stride, padding), "float64")
        taken.clear()
        jax.eval_shape(partial(conv, stride=stride, padding=padding), x, kernel)
        jax.eval_shape(partial(input_gradient, size=x.shape[1:3], stride=stride, padding=padding), y, kernel)
        jax.eval_shape(partial(kernel_gradient, k=k, stride=stride, padding=padding), x, y)
        if "columns_kernel_gradient" in taken and (c_in > 4 or c_out > 4):  # with few of both it could be either
            taken.append("columns of x" if c_in <= 4 else "columns of y")
        reached |= set(taken)
    assert reached == {*FORMS, "columns of x", "columns of y"} - {"plain_kernel_gradient"}


@pytest.mark.parametrize("case", FEW, ids=_name)
def test_what_other_backends_compute(case, monkeypatch):
    # A GPU or a TPU takes lax's forms. Only the choice is pretended here.
    *_, stride, padding = case
    x, kernel, _ = _draw(case, "float64")
    with monkeypatch.context() as patch:
        taken = _record_forms(patch)
        _pretend(patch, plain=True)
        ours = _orders(lambda a, b: conv(a, b, stride, padding), x, kernel)
    assert set(taken) == {"plain_conv", "plain_input_gradient", "plain_kernel_gradient"}
    _assert_orders_close(ours, _torch_orders(lambda a, b: _torch_conv(a, b, stride, padding), x, kernel), OPS_F64)


# Sums over maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (3, 4, 6, 2), (1, 1, 1, 1)], ids=str)
def test_sums_over_maps_to_the_second_derivative(shape):
    x, p = (np.random.default_rng(i).normal(size=s) for i, s in enumerate([shape, shape[-1:]]))
    axes = tuple(range(len(shape) - 1))

    def ours(x: Array, p: Array) -> Array:
        return jnp.sum(jnp.square(sum_to_features(x * x)) + p**3) + jnp.sum(jnp.sin(x) * spread_features(p * p, shape))

    def theirs(x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return ((x * x).sum(axes).square() + p**3).sum() + (x.sin() * (p * p)).sum()

    def slopes(x: Array, p: Array) -> tuple[Array, Array]:
        return jax.grad(ours, (0, 1))(x, p)

    first, second = _compiled(
        lambda x, p: (slopes(x, p), jax.grad(lambda *a: sum(jnp.sum(jnp.cos(g)) for g in slopes(*a)), (0, 1))(x, p)),
        "float64",
    )(x, p)
    leaves = tuple(tensor(a).requires_grad_() for a in (x, p))
    expected = torch.autograd.grad(theirs(*leaves), leaves, create_graph=True)
    again = torch.autograd.grad(sum(torch.cos(g).sum() for g in expected), leaves)
    for name, a, b in zip(("dx", "dp", "ddx", "ddp"), (*first, *second), (*expected, *again), strict=True):
        assert_close(a, b.detach(), OPS_F64, name)


def test_a_sum_over_maps_rounds_like_its_longest_axis():
    """A long sum of equal numbers, added one after another, is off by 1e-14; bit for bit nothing shows that here."""
    x = np.full((64, 28, 28, 2), 0.1)
    off = np.abs(np.asarray(jax.jit(sum_to_features)(x)) / (0.1 * 64 * 28 * 28) - 1)
    assert off.max() < 2e-15
    plain = np.cumsum(x.reshape(-1, 2), 0)[-1] / (0.1 * 64 * 28 * 28)
    assert np.abs(plain - 1).max() > 1e-13


# Resampling ---------------------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 1, 1, 1), (1, 5, 3, 1), (2, 1, 7, 2), (3, 2, 2, 4)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (upsample_nearest, torch_resample.upsample_nearest),
        (upsample_bilinear, torch_resample.upsample_bilinear),
        (mean_pool, torch_resample.mean_pool),
    ],
    ids=["nearest", "bilinear", "mean"],
)
def test_resampling_and_its_gradient(ours, theirs, shape, dtype, tolerance):
    if ours is mean_pool:  # which halves, so its maps are even
        shape = (shape[0], 2 * shape[1], 2 * shape[2], shape[3])
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    t = tensor(x).requires_grad_()
    weights = _waves(jax.eval_shape(ours, x).shape, dtype)
    y, actual = _compiled(lambda x: (ours(x), jax.vjp(ours, x)[1](weights)[0]), dtype)(x)
    expected = theirs(_nchw(t)).permute(0, 2, 3, 1)
    assert_close(y, expected, tolerance, "value")
    (gradient,) = torch.autograd.grad(torch.sum(expected * tensor(weights)), t)
    assert_close(actual, gradient, tolerance, "gradient")


def test_mean_pool_refuses_odd_maps():
    with pytest.raises(TypeError):
        mean_pool(jnp.ones((1, 3, 4, 2)))


# Spectral norm ------------------------------------------------------------------------------------------------------


def _unit(rng: np.random.Generator, size: int) -> np.ndarray:
    x = rng.normal(size=size)
    return x / np.linalg.norm(x)


def _matrix(shape: tuple[int, int], ratio: float = 0.9) -> np.ndarray:
    """[out, rest] with singular values 3, 3 ratio, 3 ratio^2, ..."""
    rng = np.random.default_rng(sum(shape))
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return (u * (3 * ratio ** np.arange(min(shape)))) @ vt


def _state(shape: tuple[int, int], dtype: str = "float64") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, u and v to start from."""
    rng = np.random.default_rng(7)
    return tuple(a.astype(dtype) for a in (_matrix(shape), _unit(rng, shape[0]), _unit(rng, shape[1])))  # type: ignore[return-value]


SHAPES = [(5, 7), (7, 5), (1, 6), (6, 1), (1, 1)]


@DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("iterations", [1, 3])
def test_power_iteration_is_torchs_spectral_norm(shape, iterations, dtype, tolerance):
    w, u, v = _state(shape, dtype)
    layer = torch.nn.Linear(shape[1], shape[0], bias=False, dtype=tensor(w).dtype)
    with torch.no_grad():
        layer.weight.copy_(tensor(w))
    torch.nn.utils.spectral_norm(layer, n_power_iterations=iterations)
    layer.weight_u.copy_(tensor(u))
    layer.weight_v.copy_(tensor(v))
    layer(torch.zeros(1, shape[1], dtype=layer.weight_orig.dtype))
    u, v = power_iteration(w, u, v, iterations=iterations)
    assert_close(u, layer.weight_u, tolerance, "u")
    assert_close(v, layer.weight_v, tolerance, "v")
    assert_close(spectral_normalize(w, u, v), layer.weight, tolerance, "W / sigma")


@DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_power_iteration_u_first_is_torchs_parametrization(shape, dtype, tolerance):
    w, u, v = _state(shape, dtype)
    layer = torch.nn.Linear(shape[1], shape[0], bias=False, dtype=tensor(w).dtype)
    with torch.no_grad():
        layer.weight.copy_(tensor(w))
    torch.nn.utils.parametrizations.spectral_norm(layer)
    norm = layer.parametrizations.weight[0]
    norm._u.copy_(tensor(u))
    norm._v.copy_(tensor(v))
    expected = layer.weight  # one access, one iteration
    u, v = power_iteration(w, u, v, order="u_first")
    assert_close(u, norm._u, tolerance, "u")
    assert_close(v, norm._v, tolerance, "v")
    assert_close(spectral_normalize(w, u, v), expected, tolerance, "W / sigma")


@DTYPES
@pytest.mark.parametrize("shape", [(32, 48), (48, 32), (1, 9)], ids=str)
@pytest.mark.parametrize("order", ["v_first", "u_first"])
def test_after_100_iterations_sigma_is_that_of_an_svd(shape, order, dtype, tolerance):
    # Convergence goes with the ratio r of the second singular value to the first: sigma's error falls as r^(4 n).
    # Here r = 0.9 and 0.9^400 = 5e-19. A square matrix of random numbers has r near 1 and needs more.
    del tolerance
    w, u, v = _state(shape, dtype)
    exact = np.linalg.svd(w.astype(np.float64), compute_uv=False)[0]
    u, v = power_iteration(w, u, v, iterations=100, order=order)
    converged = Tolerance(
        1e-6, "what float32 rounds in u, v and sigma; nothing is left of 0.9^400, the iteration's error"
    )
    assert_within(abs(float(estimate_sigma(w, u, v)) / exact - 1), converged, "sigma against the SVD", dtype)
    normalized = np.asarray(spectral_normalize(w, u, v), np.float64)
    assert_within(abs(np.linalg.norm(normalized, 2) - 1), converged, "largest singular value of W / sigma", dtype)


def test_the_estimate_grows_towards_sigma_from_below():
    w, u, v = _state((12, 9))
    exact = np.linalg.svd(w, compute_uv=False)[0]
    estimates = []
    for _ in range(60):
        u, v = power_iteration(w, u, v)
        estimates.append(float(estimate_sigma(w, u, v)))
    assert estimates[0] < 0.99 * exact  # or there was nothing to converge
    assert all(b >= a * (1 - 1e-15) for a, b in pairwise(estimates))
    assert estimates[-1] <= exact * (1 + 1e-14)


def test_one_iteration_is_exact_for_rank_one():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=6), rng.normal(size=4)
    u, v = power_iteration(np.outer(a, b), _unit(rng, 6), _unit(rng, 4))
    assert_close(estimate_sigma(np.outer(a, b), u, v), np.linalg.norm(a) * np.linalg.norm(b), OPS_F64)


@pytest.mark.parametrize("eps_form", ["max", "add"])
def test_a_zero_matrix_gives_zero_vectors_and_nan(eps_form):
    # torch divides 0 by a sigma of 0 as well; a guard of our own would be another answer than torch's.
    w, (u, v) = np.zeros((3, 4)), (_unit(np.random.default_rng(3), n) for n in (3, 4))
    u, v = power_iteration(w, u, v, eps_form=eps_form)
    assert not np.any(u)
    assert not np.any(v)
    assert np.isnan(spectral_normalize(w, u, v)).all()


@pytest.mark.parametrize("iterations", [0, 1, 4])
@pytest.mark.parametrize("order", ["v_first", "u_first"])
@pytest.mark.parametrize("eps_form", ["max", "add"])
@pytest.mark.parametrize("eps", [1e-12, 0.5])  # 0.5: large enough to see where eps goes
def test_spectral_functions_are_torch_refs(iterations, order, eps_form, eps):
    w, u, v = _state((5, 7))
    options = dict(iterations=iterations, order=order, eps=eps, eps_form=eps_form)
    ours = power_iteration(w, u, v, **options)
    w_t, u_t, v_t = (tensor(a) for a in (w, u, v))
    theirs = torch_spectral_norm.power_iteration(w_t, u_t, v_t, **options)
    for name, a, b in zip("uv", ours, theirs, strict=True):
        assert_close(a, b, OPS_F64, name)
    assert_close(
        spectral_normalize(w, *ours), torch_spectral_norm.spectral_normalize(w_t, *theirs), OPS_F64, "W / sigma"
    )
    for x in (w[0], np.zeros(4), np.full(3, 1e-13)):
        assert_close(normalize(x, eps, eps_form), torch_spectral_norm.normalize(tensor(x), eps, eps_form), OPS_F64)


def test_gradients_see_u_and_v_as_constants():
    w, u, v = _state((4, 6))
    weights = _waves(w.shape, "float64")

    def moving(w):
        return jnp.sum(weights * spectral_normalize(w, *power_iteration(w, u, v)))

    frozen_u, frozen_v = power_iteration(w, u, v)

    def frozen(w):
        return jnp.sum(weights * spectral_normalize(w, frozen_u, frozen_v))

    gradient = np.asarray(jax.grad(moving)(w))
    own_error = Tolerance(1e-8, "that of the finite differences themselves: h^2 and 1e-16 / h with h = 1e-5")
    assert_close(gradient, _finite_differences(frozen, w), own_error, "gradient")
    # That would not hold of the function as it stands, whose u and v move with W.
    assert np.max(np.abs(gradient - _finite_differences(moving, w))) > 1e-3
    assert not np.any(jax.grad(lambda w: jnp.sum(power_iteration(w, u, v)[0]))(w))
    of_u, of_v = jax.grad(lambda u, v: jnp.sum(weights * spectral_normalize(w, u, v)), (0, 1))(u, v)
    assert not np.any(of_u)
    assert not np.any(of_v)


def _finite_differences(f: Callable, w: np.ndarray, h: float = 1e-5) -> np.ndarray:
    gradient = np.zeros_like(w)
    for i in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[i] = h
        gradient[i] = (float(f(w + step)) - float(f(w - step))) / (2 * h)
    return gradient


# Activations, optimiser, pixels -------------------------------------------------------------------------------------


@DTYPES
def test_leaky_relu_at_zero(dtype, tolerance):
    x = np.array([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0], dtype)
    t = tensor(x).requires_grad_()
    y = F.leaky_relu(t, 0.1)
    (gradient,) = torch.autograd.grad(y.sum(), t)
    assert_close(leaky_relu(x), y, tolerance)
    assert_close(jax.grad(lambda x: jnp.sum(leaky_relu(x)))(jnp.asarray(x)), gradient, EXACT)


@DTYPES
def test_relu_at_zero(dtype, tolerance):
    del tolerance
    x = np.array([-1.0, -0.0, 0.0, 1.0], dtype)
    t = tensor(x).requires_grad_()
    (gradient,) = torch.autograd.grad(F.relu(t).sum(), t)
    assert_close(jax.grad(lambda x: jnp.sum(jax.nn.relu(x)))(jnp.asarray(x)), gradient, EXACT)


ADAMS = [
    OptimizerConfig(learning_rate=2e-4, beta1=0.0, beta2=0.9),  # the authors'
    OptimizerConfig(learning_rate=2e-4, beta1=0.5, beta2=0.999),  # DCGAN's
    OptimizerConfig(learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-3),  # eps large enough to see where it goes
]


@DTYPES
@pytest.mark.parametrize("eps_form", ["standard", "epsilon_hat"])
@pytest.mark.parametrize("options", ADAMS, ids=lambda a: f"{a.beta1},{a.beta2},{a.eps}")
def test_adam(options, eps_form, dtype, tolerance):
    config = dataclasses.replace(options, learning_rate=1.0, eps_form=eps_form)
    rng = np.random.default_rng(4)
    s, t = (torch.nn.Parameter(torch.zeros(5, 3, dtype=getattr(torch, dtype))) for _ in range(2))
    by_torch = torch.optim.Adam([s], lr=1.0, betas=(config.beta1, config.beta2), eps=config.eps)
    by_torch_ref = torch_optim.adam(config, [t])
    ours = adam_direction(config)
    state = ours.init(jnp.zeros((5, 3), dtype))
    for step in range(1, 9):
        gradient = (rng.normal(size=(5, 3)) * 10.0 ** rng.integers(-4, 2, (5, 3))).astype(dtype)
        gradient[0, 0] = 0.0  # never moves: 0 / eps
        direction, state = ours.update(jnp.asarray(gradient), state)
        if eps_form == "epsilon_hat":
            # torch has no such form, but it is torch's with an eps that falls as the correction of v does.
            by_torch.param_groups[0]["eps"] = config.eps / math.sqrt(1 - config.beta2**step)
        for p, reference in ((s, by_torch), (t, by_torch_ref)):
            with torch.no_grad():
                p.zero_()  # so that at a rate of 1 it becomes minus the direction, unrounded
            p.grad = tensor(gradient)
            reference.step()
            assert_close(direction, -p, tolerance, f"direction {step}")
            assert_close(state.mu, reference.state[p]["exp_avg"], tolerance, f"first moment {step}")
            assert_close(state.nu, reference.state[p]["exp_avg_sq"], tolerance, f"second moment {step}")
    assert int(state.count) == 8


@pytest.mark.parametrize("options", ADAMS, ids=lambda a: f"{a.beta1},{a.beta2},{a.eps}")
def test_adam_is_optax(options):
    # In float64 alone: optax's 1 - beta2 is off by 1e-5 in float32.
    ours, theirs = adam_direction(options), optax.scale_by_adam(options.beta1, options.beta2, options.eps)
    rng = np.random.default_rng(5)
    params = {"a": jnp.zeros((3, 2)), "b": jnp.zeros(4)}
    state, optax_state = ours.init(params), theirs.init(params)
    for _ in range(5):
        gradients = {k: jnp.asarray(rng.normal(size=p.shape)) for k, p in params.items()}
        direction, state = ours.update(gradients, state)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of an int32
            expected, optax_state = theirs.update(gradients, optax_state)
        jax.tree.map(lambda a, b: assert_close(a, b, OPS_F64), (direction, state), (expected, optax_state))


@DTYPES
def test_descend(dtype, tolerance):
    """Adam as a step makes it, its rate that of the training step, whatever the count of updates; and anybody's."""
    rng = np.random.default_rng(6)
    params, gradient = (rng.normal(size=(4, 3)).astype(dtype) for _ in range(2))
    config = OptimizerConfig(learning_rate=0.25, beta1=0.5, schedule="linear")
    for ours, theirs, rate in (
        (adam(config, 8), torch_optim.adam, 0.25 * (1 - 6 / 8)),
        (optax.sgd(0.25), lambda _, parameters: torch.optim.SGD(parameters), 0.25),
    ):
        t = torch.nn.Parameter(tensor(params.copy()))
        t.grad = tensor(gradient)
        torch_optim.descend(theirs(config, [t]), rate)
        given = jnp.asarray(params)
        # The rate is float64 wherever x64 is on; parameters stay what they are.
        moved, _ = descend(ours, jnp.asarray(gradient), ours.init(given), given, jnp.asarray(6))
        assert moved.dtype == dtype
        assert_close(moved, t, tolerance)


def test_an_optimiser_of_equal_options_is_the_same_object():
    """Else a step would be compiled for each."""
    config = OptimizerConfig(schedule="cosine")
    assert adam(config, 8) is adam(OptimizerConfig(schedule="cosine"), 8)
    assert adam(config, 8) is not adam(config, 9)


@pytest.mark.parametrize("decay_start", [0, 4])
def test_linear_schedule(decay_start):
    config = OptimizerConfig(learning_rate=3e-4, schedule="linear", decay_start=decay_start)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=10 - decay_start)
    for step in range(12):  # two more than the run has: the rate stays 0
        ours = learning_rate(config, jnp.asarray(step), 10)
        assert_close(ours, np.asarray(torch_optim.learning_rate(config, step, 10)), OPS_F64, f"step {step}")
        by_torch = abs(float(ours) - optimizer.param_groups[0]["lr"]) / config.learning_rate
        assert_within(by_torch, OPS_F64, f"step {step} against LinearLR")
        optimizer.step()
        if step >= decay_start:
            falling.step()


@pytest.mark.parametrize("decay_start", [0, 4])
def test_cosine_schedule(decay_start):
    config = OptimizerConfig(learning_rate=3e-4, schedule="cosine", decay_start=decay_start)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10 - decay_start)
    rates = []
    for step in range(11):
        ours = learning_rate(config, jnp.asarray(step), 10)
        assert_close(ours, np.asarray(torch_optim.learning_rate(config, step, 10)), OPS_F64, f"step {step}")
        by_torch = abs(float(ours) - optimizer.param_groups[0]["lr"]) / config.learning_rate
        assert_within(by_torch, OPS_F64, f"step {step} against CosineAnnealingLR")
        rates.append(float(ours))
        optimizer.step()
        if step >= decay_start:
            falling.step()
    assert rates[: decay_start + 1] == [3e-4] * (decay_start + 1)
    assert rates[(10 + decay_start) // 2] == pytest.approx(1.5e-4)
    assert rates[10] == 0
    for rate in (learning_rate(config, jnp.asarray(13), 10), torch_optim.learning_rate(config, 13, 10)):
        assert float(rate) == 0  # torch's own would rise again


def test_constant_schedule():
    for step in (0, 5, 100):
        assert float(learning_rate(OptimizerConfig(learning_rate=3e-4), jnp.asarray(step), 10)) == 3e-4


@DTYPES
def test_moving_average(dtype, tolerance):
    rng = np.random.default_rng(8)
    average, params = (rng.normal(size=(4, 3)).astype(dtype) for _ in range(2))
    ours = moving_average(jnp.asarray(average), jnp.asarray(params), 0.99)
    by_torch = torch.optim.swa_utils.get_ema_avg_fn(0.99)
    assert_close(ours, by_torch(tensor(average), tensor(params), 1), tolerance)
    by_torch_ref = {"w": tensor(average.copy())}
    torch_optim.moving_average(by_torch_ref, torch.nn.ParameterDict({"w": tensor(params)}), 0.99)
    assert_close(ours, by_torch_ref["w"], tolerance)


@pytest.mark.parametrize("decay", [0.999, 0.25, 0.0])
def test_average_decay(decay):
    for step in (0, 1, 2, 20, 8990, 8991, 100_000):
        for warmup in (False, True):
            ours = average_decay(decay, warmup, jnp.asarray(step, jnp.int32))
            theirs = torch_optim.average_decay(decay, warmup, step)
            assert_close(np.asarray(ours), np.asarray(theirs), OPS_F64, f"step {step}, warmup {warmup}")
            assert float(ours) == pytest.approx(min(decay, (1 + step) / (10 + step)) if warmup else decay, rel=1e-15)


@DTYPES
def test_moving_average_warmed_up(dtype, tolerance):
    rng = np.random.default_rng(10)
    average, params = (rng.normal(size=(4, 3)).astype(dtype) for _ in range(2))
    # A traced decay is float64 wherever x64 is on; the average stays what it is.
    ours = moving_average(jnp.asarray(average), jnp.asarray(params), average_decay(0.999, True, jnp.asarray(2)))
    by_torch_ref = {"w": tensor(average.copy())}
    decay = torch_optim.average_decay(0.999, True, 2)
    torch_optim.moving_average(by_torch_ref, torch.nn.ParameterDict({"w": tensor(params)}), decay)
    assert_close(ours, by_torch_ref["w"], tolerance)
    assert_close(ours, (average / 4 + params * 3 / 4).astype(dtype), tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_clip(dtype):
    params = np.array([[-3.0, -0.05, -0.0], [0.01, 0.05, 0.0500001]]).astype(dtype)
    module = torch.nn.ParameterDict({"w": tensor(params.copy()), "b": torch.full((2,), 1.0)})
    ours = clip({"w": jnp.asarray(params), "b": jnp.ones(2, jnp.float32)}, 0.05)
    torch_optim.clip(module, 0.05)
    for name in ("w", "b"):
        assert_close(ours[name], module[name], EXACT, name)
    np.testing.assert_array_equal(ours["w"], np.clip(params, np.asarray(-0.05, dtype), np.asarray(0.05, dtype)))
    np.testing.assert_array_equal(np.asarray(ours["w"])[0, 1:2], params[0, 1:2])  # what is inside stays


@DTYPES
def test_pixels_to_floats(dtype, tolerance):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = to_float(pixels, jnp.dtype(dtype))
    assert_close(floats, torch_images.to_float(tensor(pixels), getattr(torch, dtype)), tolerance)
    assert (float(floats.min()), float(floats.max())) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(floats), pixels)  # every pixel comes back as it was


@DTYPES
def test_floats_to_pixels(dtype, tolerance):
    del tolerance
    rng = np.random.default_rng(9)
    floats = np.concatenate([rng.uniform(-1.5, 1.5, 200), [-1, 0, 1, -1e9, 1e9, 1 / 255]]).astype(dtype)
    expected = torch_images.to_uint8(tensor(floats))
    assert_close(to_uint8(jnp.asarray(floats)), expected, EXACT, "pixels")
