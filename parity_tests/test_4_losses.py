"""Rung 4, losses: value and gradient of every loss, at ordinary scores, at its margins and far out."""

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.core.losses
from jax_sngan.core.losses import LOSSES
from parity_tests.compare import Tolerance, assert_close, assert_within
from parity_tests.tolerances import LOSS_F32, LOSS_F64
from parity_tests.torch_device import tensor

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [("float64", LOSS_F64), ("float32", LOSS_F32)])
NAMES = pytest.mark.parametrize("name", sorted(LOSSES))

RNG = np.random.default_rng(0)
SCORES = {  # real, generated; made [7] and [5] below, since the two numbers need not be the same
    "ordinary": (RNG.normal(size=7), RNG.normal(size=5)),
    "zero": ([0.0], [0.0]),
    # The hinge is bent here: both frameworks must choose the same side's derivative.
    "at the margins": ([1.0, -1.0], [-1.0, 1.0]),
    # torch's softplus is the identity above 20, an error of 2e-9: neither framework may have it.
    "where softplus is nearly straight": ([-20.5, -25.0, 21.0], [20.5, 25.0, -21.0]),
    "far out, right": ([1e3, 999.0], [-1e3, -999.0]),
    "far out, wrong": ([-1e3, -999.0], [1e3, 999.0]),
    "far out, both": ([1e3, -1e3, 0.5], [-1e3, 1e3]),
}


def draw(scores: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    real, fake = SCORES[scores]
    return np.resize(real, 7).astype(dtype), np.resize(fake, 5).astype(dtype)


@cache
def compiled(loss: Any, arguments: int) -> Any:
    """loss -> its value and the gradients in all its arguments."""
    return jax.jit(jax.value_and_grad(loss, range(arguments)))


def value_and_gradients(loss: Any, *scores: Any) -> list[Any]:
    """[value, a gradient for each of the scores]."""
    value, gradients = compiled(loss, len(scores))(*scores)
    return [value, *gradients]


def torch_value_and_gradients(loss: Any, *scores: np.ndarray) -> list[torch.Tensor]:
    tensors = [tensor(s).requires_grad_() for s in scores]
    value = loss(*tensors)
    return [value, *torch.autograd.grad(value, tensors)]


@cache
def of_fake(game: Any) -> Any:
    """G's loss where it sees no real images, as a function of its own scores alone."""
    return partial(game.g, None)


def both_losses(game: Any, real: Any, fake: Any) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """(network, its loss, what it is given) of D and G."""
    of_g = (game.g, (real, fake)) if game.g_sees_real else (of_fake(game), (fake,))
    return [("D", game.d, (real, fake)), ("G", *of_g)]


def test_every_loss_has_its_twin():
    theirs = torch_ref.core.losses.LOSSES
    assert {n: game.g_sees_real for n, game in LOSSES.items()} == {n: game.g_sees_real for n, game in theirs.items()}


@DTYPES
@NAMES
@pytest.mark.parametrize("scores", SCORES)
def test_loss_and_gradients(name, scores, dtype, tolerance):
    real, fake = draw(scores, dtype)
    for (network, a, arguments), (_, b, _) in zip(
        both_losses(LOSSES[name], real, fake), both_losses(torch_ref.core.losses.LOSSES[name], real, fake), strict=True
    ):
        actual, expected = value_and_gradients(a, *arguments), torch_value_and_gradients(b, *arguments)
        assert actual[0].shape == ()
        for what, x, y in zip(("value", "gradient 0", "gradient 1"), actual, expected, strict=False):
            assert_close(x, y, tolerance, f"{network} {what}")


@DTYPES
@NAMES
def test_one_score(name, dtype, tolerance):
    scores = np.array([0.3], dtype)
    for (_, loss, given), (_, twin, _) in zip(
        both_losses(LOSSES[name], scores, scores),
        both_losses(torch_ref.core.losses.LOSSES[name], scores, scores),
        strict=True,
    ):
        for x, y in zip(value_and_gradients(loss, *given), torch_value_and_gradients(twin, *given), strict=True):
            assert_close(x, y, tolerance)


@DTYPES
@NAMES
def test_second_derivatives(name, dtype, tolerance):
    # Of the squared norm of the gradient in the scores, as a penalty has them.
    real, fake = draw("ordinary", dtype)
    for (_, loss, scores), (_, twin, _) in zip(
        both_losses(LOSSES[name], real, fake), both_losses(torch_ref.core.losses.LOSSES[name], real, fake), strict=True
    ):
        which = tuple(range(len(scores)))

        def squares(*scores, loss=loss, which=which):
            return sum(jnp.sum(g * g) for g in jax.grad(loss, which)(*scores))

        second = jax.jit(jax.grad(squares, which))(*scores)
        tensors = [tensor(s).requires_grad_() for s in scores]
        first = torch.autograd.grad(twin(*tensors), tensors, create_graph=True)
        energy = sum(torch.sum(g * g) for g in first)
        if energy.requires_grad:
            for a, b in zip(second, torch.autograd.grad(energy, tensors), strict=True):
                assert_close(a, b, tolerance)
        else:  # a piecewise linear loss: torch has no graph of its constant gradient
            assert not any(np.any(a) for a in second)


# loss -> D's and G's value where every score is zero
AT_ZERO = {
    "hinge": (2.0, 0.0),
    "non_saturating": (2 * math.log(2), math.log(2)),
    "non_saturating_eps": (2 * math.log(2), -math.log(0.5 + 1e-8)),
    "wasserstein": (0.0, 0.0),
    "minimax": (2 * math.log(2), -math.log(2)),
    "least_squares": (0.5, 0.5),
    "relativistic_hinge": (2.0, 2.0),
    "relativistic_non_saturating": (2 * math.log(2), 2 * math.log(2)),
}


@NAMES
def test_values_known_in_closed_form(name):
    zeros = jnp.zeros(4)
    rounding = Tolerance(1e-15, "the last digits of one logarithm in float64")
    for (network, loss, given), exact in zip(both_losses(LOSSES[name], zeros, zeros), AT_ZERO[name], strict=True):
        assert_within(abs(float(loss(*given)) - exact) / max(abs(exact), 1), rounding, f"{network}'s loss at zero")


def test_hinge_is_flat_beyond_its_margins_and_straight_before_them():
    d = LOSSES["hinge"].d
    assert float(d(jnp.array([1.0, 7.0]), jnp.array([-1.0, -7.0]))) == 0
    assert float(d(jnp.array([-3.0]), jnp.array([2.0]))) == 4 + 3


@NAMES
def test_far_scores_stay_finite(name):
    largest = 1e18 if name == "least_squares" else 1e30  # whose square float32 still holds
    for dtype in ("float32", "float64"):
        far = jnp.array([largest, -largest], dtype)
        for _, loss, arguments in both_losses(LOSSES[name], far, far):
            assert all(np.isfinite(x).all() for x in value_and_gradients(loss, *arguments))


@NAMES
def test_losses_push_scores_the_right_way(name):
    # Independent of any reference: D wants real up and generated down, G wants generated up. Between the codes 0 and 1
    # the squares do too.
    scores = jnp.array([0.1, 0.5, 0.9] if name == "least_squares" else [-0.5, 0.0, 0.5])
    (_, d, given), (_, g, of_g) = both_losses(LOSSES[name], scores, scores)
    _, real, fake = value_and_gradients(d, *given)
    *_, g = value_and_gradients(g, *of_g)
    assert np.all(real < 0)
    assert np.all(fake > 0)
    assert np.all(g < 0)


@NAMES
@pytest.mark.parametrize("shape", [(), (3, 1), (1, 3)], ids=str)
def test_scores_must_be_one_dimensional(name, shape):
    # [n] against [n, 1] broadcasts to [n, n], and a mean hides it.
    for game, zeros in ((LOSSES[name], jnp.zeros), (torch_ref.core.losses.LOSSES[name], torch.zeros)):
        bad, good = zeros(shape), zeros(3)
        for real, fake in ((bad, good), (good, bad)):
            for _, loss, arguments in both_losses(game, real, fake):
                if any(a is bad for a in arguments):
                    with pytest.raises(ValueError, match="one-dimensional"):
                        loss(*arguments)


@pytest.mark.parametrize("name", [name for name, game in LOSSES.items() if game.g_sees_real])
def test_a_relativistic_loss_is_of_differences(name):
    """What is added to every score changes nothing, and G's game is D's with the kinds exchanged."""
    real, fake = (jnp.asarray(a) for a in draw("ordinary", "float64"))
    game = LOSSES[name]
    for loss in (game.d, game.g):
        assert_close(loss(real + 3, fake + 3), loss(real, fake), LOSS_F64)
    assert float(game.g(real, fake)) == float(game.d(fake, real))


@NAMES
def test_which_losses_are_means_of_single_images(name):
    """What decides whether the devices of a mesh may each take their own images' loss."""
    rng = np.random.default_rng(1)
    real, fake = (jnp.asarray(rng.normal(size=8)) for _ in range(2))
    d = LOSSES[name].d
    halves = (d(real[:4], fake[4:]) + d(real[4:], fake[:4])) / 2
    fits = bool(abs(halves - d(real, fake)) < 1e-12)
    fake = fake.at[:4].add(1.0)  # the two halves' means apart, so that a mean over the batch would be seen
    halves = (d(real[:4], fake[:4]) + d(real[4:], fake[4:])) / 2
    assert LOSSES[name].images_apart == (fits and bool(abs(halves - d(real, fake)) < 1e-12))
