"""Divergences and distances equal closed forms and scipy, and keep the properties that their names promise."""

import re

import numpy as np
import pytest
import scipy.integrate
import scipy.spatial.distance
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_sngan.data import datasets
from jax_sngan.metrics.divergences import (
    MOST_PAIRS,
    MOST_POINTS,
    js_divergence,
    kl_divergence,
    shared_histograms,
    sliced_wasserstein,
    total_variation,
    wasserstein,
    wasserstein_1d,
)

EXACT = 1e-12  # the same sum in another order
GRID = np.linspace(-30, 30, 6001)  # steps of 0.01: sums over a Gaussian equal its integral to rounding


def gaussian(mean, std):
    """Shares of the points of GRID."""
    p = scipy.stats.norm.pdf(GRID, mean, std)
    return p / p.sum()


def quantiles(distribution, n=4000):
    """n points whose empirical distribution is close to a continuous one."""
    return distribution.ppf((np.arange(n) + 0.5) / n)


def random_shares(rng, k, zeros=False):
    p = rng.gamma(0.5, size=k)
    if zeros:
        p[rng.permutation(k)[: k // 3]] = 0
    return p / p.sum()


# Closed forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m1", "s1", "m2", "s2"), [(0, 1, 1, 1), (0.5, 1, -1, 2), (0, 1.5, 0.3, 1)])
def test_gaussians(m1, s1, m2, s2):
    p, q = gaussian(m1, s1), gaussian(m2, s2)
    kl = np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    assert kl_divergence(p, q) == pytest.approx(kl, rel=1e-10)
    assert kl_divergence(p, q, base=2) == pytest.approx(kl / np.log(2), rel=1e-10)

    f, g = scipy.stats.norm(m1, s1).pdf, scipy.stats.norm(m2, s2).pdf
    js = scipy.integrate.quad(
        lambda x: scipy.special.rel_entr(f(x), (f(x) + g(x)) / 2) + scipy.special.rel_entr(g(x), (f(x) + g(x)) / 2),
        -30, 30, epsabs=1e-13, points=[-5, 0, 5], limit=200,
    )[0] / 2  # fmt: skip
    assert js_divergence(p, q) == pytest.approx(js, rel=1e-10)

    # The density's kinks at the crossings leave an error of the step squared.
    tv = scipy.integrate.quad(lambda x: abs(f(x) - g(x)), -30, 30, points=[-5, 0, 5], limit=500)[0] / 2
    assert total_variation(p, q) == pytest.approx(tv, abs=1e-5)
    if s1 == s2:
        assert total_variation(p, q) == pytest.approx(2 * scipy.stats.norm.cdf(abs(m1 - m2) / (2 * s1)) - 1, abs=1e-5)


@pytest.mark.parametrize(("m1", "s1", "m2", "s2"), [(0, 1, 1, 1), (0.5, 1, -1, 2)])
def test_wasserstein_of_gaussians_on_a_line(m1, s1, m2, s2):
    x, y = quantiles(scipy.stats.norm(m1, s1)), quantiles(scipy.stats.norm(m2, s2))
    # Order 2 (Dowson & Landau 1982); 4,000 quantiles miss the tails, 1e-3 of the variance.
    expected = np.sqrt((m1 - m2) ** 2 + (s1 - s2) ** 2)
    assert wasserstein_1d(x, y, order=2) == pytest.approx(expected, rel=1e-3)
    # Order 1 of a pure shift is the shift, whatever the shape.
    assert wasserstein_1d(x, x + 3.5) == pytest.approx(3.5, rel=EXACT)


def test_wasserstein_of_gaussians_in_the_plane():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    x -= x.mean(0)
    # An affine map with a symmetric positive matrix is the optimal map of order 2 (Brenier 1991): exact for any set.
    matrix, shift = np.array([[1.5, 0.4], [0.4, 0.8]]), np.array([2.0, -1.0])
    y = x @ matrix + shift
    expected = np.sqrt(((y - x) ** 2).sum(1).mean())
    assert wasserstein(x, rng.permutation(y), order=2) == pytest.approx(expected, rel=EXACT)
    covariance = x.T @ x / len(x)
    step = matrix - np.eye(2)
    assert expected**2 == pytest.approx(shift @ shift + np.trace(step @ covariance @ step), rel=EXACT)


@pytest.mark.parametrize("theta", [0.0, 0.01, 0.5, 1.0, 7.0])
def test_the_example_of_wgan(theta):
    # Arjovsky et al. 2017, example 1: (0, U[0, 1]) against (theta, U[0, 1]).
    heights = (np.arange(50) + 0.5) / 50
    x = np.stack([np.zeros(50), heights], 1)
    y = np.stack([np.full(50, theta), heights], 1)
    assert wasserstein(x, y) == pytest.approx(theta, abs=EXACT)
    points = np.unique(np.concatenate([x, y]), axis=0)
    p, q = (np.array([(s == point).all(1).mean() for point in points]) for s in (x, y))
    if theta:
        assert js_divergence(p, q) == pytest.approx(np.log(2), rel=EXACT)
        assert js_divergence(p, q, base=2) == pytest.approx(1, rel=EXACT)
        assert total_variation(p, q) == pytest.approx(1, rel=EXACT)
        assert kl_divergence(p, q) == kl_divergence(q, p) == np.inf
    else:
        assert js_divergence(p, q) == total_variation(p, q) == kl_divergence(p, q) == 0


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_shifted_uniforms_that_overlap(shift):
    # 100 cells of width 0.01: overlap 1 - shift, and where both are, they are equal.
    p, q = np.zeros(300), np.zeros(300)
    p[:100] = 0.01
    start = round(100 * shift)
    q[start : start + 100] = 0.01
    apart = min(shift, 1.0)
    assert total_variation(p, q) == pytest.approx(apart, abs=EXACT)
    assert js_divergence(p, q) == pytest.approx(apart * np.log(2), abs=EXACT)
    cells = np.arange(300) / 100
    assert wasserstein_1d(cells, cells, x_weights=p, y_weights=q) == pytest.approx(shift, abs=EXACT)


# Against scipy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 9, 1000])
def test_divergences_equal_scipy(k):
    rng = np.random.default_rng(k)
    p, q = random_shares(rng, k, zeros=True), random_shares(rng, k)
    assert kl_divergence(p, q) == pytest.approx(scipy.special.rel_entr(p, q).sum(), rel=EXACT, abs=EXACT)
    root = scipy.spatial.distance.jensenshannon(p, q, base=2)
    assert js_divergence(p, q, base=2) == pytest.approx(root**2, rel=EXACT, abs=EXACT)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 7), (5, 12), (400, 300)])
def test_distance_on_a_line_equals_scipy(n, m):
    rng = np.random.default_rng(n)
    x, y, p, q = rng.normal(size=n), 2 * rng.normal(size=m), random_shares(rng, n), random_shares(rng, m)
    assert wasserstein_1d(x, y) == pytest.approx(scipy.stats.wasserstein_distance(x, y), rel=EXACT)
    expected = scipy.stats.wasserstein_distance(x, y, p, q)
    assert wasserstein_1d(x, y, x_weights=p, y_weights=q) == pytest.approx(expected, rel=1e-10)


def test_small_sets_equal_scipy():
    rng = np.random.default_rng(0)
    x, y, p, q = rng.normal(size=(9, 3)), rng.normal(size=(13, 3)), random_shares(rng, 9), random_shares(rng, 13)
    expected = scipy.stats.wasserstein_distance_nd(x, y, p, q)
    assert wasserstein(x, y, x_weights=p, y_weights=q) == pytest.approx(expected, rel=1e-9)
    # Assignment and linear program are the same problem where both are allowed.
    y, even = y[:9], np.full(9, 1 / 9)
    for order in (1, 2, 3.5):
        program = wasserstein(x, y, order=order, x_weights=even, y_weights=even)
        assert wasserstein(x, y, order=order) == pytest.approx(program, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_program_agrees_with_the_line(order):
    rng = np.random.default_rng(order)
    x, y = rng.normal(size=20), rng.normal(size=33)
    turned = rng.normal(size=4)
    turned /= np.linalg.norm(turned)  # points of a line in 4 dimensions
    expected = wasserstein_1d(x, y, order=order)
    assert wasserstein(np.outer(x, turned), np.outer(y, turned), order=order) == pytest.approx(expected, rel=1e-9)
    assert wasserstein(x, y, order=order) == expected


# Properties ---------------------------------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(any)
SETS = st.lists(st.lists(st.integers(-50, 50), min_size=2, max_size=2), min_size=4, max_size=4)
QUICK = settings(max_examples=100, deadline=None, derandomize=True)


@QUICK
@given(COUNTS, COUNTS)
def test_divergences_are_bounded_and_symmetric(a, b):
    p, q = (np.array(c) / sum(c) for c in (a, b))
    js, tv = js_divergence(p, q), total_variation(p, q)
    assert js == pytest.approx(js_divergence(q, p), abs=EXACT)
    assert tv == total_variation(q, p)
    assert 0 <= js <= np.log(2)
    assert 0 <= js_divergence(p, q, base=2) <= 1
    assert 0 <= tv <= 1
    assert kl_divergence(p, q) >= 2 * tv**2 - EXACT  # Pinsker
    assert js_divergence(p, q, base=2) <= tv + EXACT  # Lin 1991, theorem 3
    same = np.allclose(p, q, atol=1e-9)
    assert (js < 1e-15) == same
    assert kl_divergence(p, p) == js_divergence(p, p) == 0


@QUICK
@given(COUNTS, COUNTS, COUNTS)
def test_root_of_js_obeys_the_triangle(a, b, c):
    p, q, r = (np.array(x) / sum(x) for x in (a, b, c))
    root = {name: np.sqrt(js_divergence(*pair)) for name, pair in {"pq": (p, q), "qr": (q, r), "pr": (p, r)}.items()}
    assert root["pr"] <= root["pq"] + root["qr"] + 1e-7  # the root of a rounding of 1e-15


@QUICK
@given(SETS, SETS, SETS, st.sampled_from([1, 2]))
def test_wasserstein_is_a_metric(a, b, c, order):
    x, y, z = (np.array(s, float) for s in (a, b, c))
    d = wasserstein(x, y, order=order)
    assert d == pytest.approx(wasserstein(y, x, order=order), rel=EXACT)
    assert d <= wasserstein(x, z, order=order) + wasserstein(z, y, order=order) + 1e-9
    assert (d == 0) == (sorted(a) == sorted(b))
    assert d <= wasserstein(x, y, order=2) + 1e-9  # grows with the order
    assert sliced_wasserstein(x, y, order=order, projections=8) <= d + 1e-9  # a projection never stretches


# Slices -------------------------------------------------------------------------------------------------------------


def test_slices_of_a_line_are_the_distance_itself():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.normal(size=25)
    for order in (1, 2):
        expected = wasserstein_1d(x, y, order=order)
        assert sliced_wasserstein(x, y, order=order, projections=3) == pytest.approx(expected, rel=EXACT)
        assert sliced_wasserstein(x[:, None], y[:, None], order=order) == pytest.approx(expected, rel=EXACT)


def test_slices_of_a_shift():
    rng = np.random.default_rng(0)
    x, shift = rng.normal(size=(50, 16)), rng.normal(size=16)
    measured = sliced_wasserstein(x, x + shift, order=2, projections=20_000)
    # The mean of (direction . shift)^2 is |shift|^2 / d; 20,000 directions leave 1 %.
    assert measured == pytest.approx(np.linalg.norm(shift) / 4, rel=0.02)


def test_slices_of_real_images():
    images = datasets.load_data("fashion", image_size=28, channels=1).images[:600]
    same = sliced_wasserstein(images[:300], images[300:], projections=32)
    dimmed = sliced_wasserstein(images[:300], images[300:] // 2, projections=32)
    assert 0 < same < dimmed
    assert sliced_wasserstein(images, images[::-1], projections=8) == pytest.approx(0, abs=1e-9)
    assert same == sliced_wasserstein(images[:300], images[300:], projections=32)  # seeded
    assert same != sliced_wasserstein(images[:300], images[300:], projections=32, seed=1)


def test_histograms_of_samples():
    x, y = np.array([0.0, 0.1, 0.9, 1.0]), np.array([0.6, 1.0])
    p, q = shared_histograms(x, y, bins=2)
    np.testing.assert_array_equal(p, [0.5, 0.5])
    np.testing.assert_array_equal(q, [0.0, 1.0])
    p, q = shared_histograms(np.array([[0, 0], [1, 1.0]]), np.array([[0, 1.0]]), bins=2)
    np.testing.assert_array_equal(p, [0.5, 0, 0, 0.5])
    np.testing.assert_array_equal(q, [0, 1, 0, 0])
    p, q = shared_histograms([3.0, 3.0], [3.0], bins=4)  # no width at all
    assert js_divergence(p, q) == 0
    # Samples of two Gaussians: the divergence of their histograms is near that of the densities.
    rng = np.random.default_rng(0)
    p, q = shared_histograms(rng.normal(size=100_000), 1 + rng.normal(size=100_000), bins=60)
    assert js_divergence(p, q) == pytest.approx(js_divergence(gaussian(0, 1), gaussian(1, 1)), rel=0.03)


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kl_divergence([0.5, 0.6], [0.5, 0.5]), "p must sum to 1, got 1.1"),
        (lambda: js_divergence([0.5, 0.5], [1.5, -0.5]), "q must be at least 0, got -0.5"),
        (lambda: total_variation([1.0], [0.5, 0.5]), "p has 1 outcomes and q 2"),
        (lambda: kl_divergence([np.nan, 1], [0.5, 0.5]), "p holds NaN"),
        (lambda: kl_divergence([[1.0]], [1.0]), "p must be shares"),
        (lambda: kl_divergence([], []), "p must be shares"),
        (lambda: kl_divergence([1.0], [1.0], base=1), "base must be above 1, got 1"),
        (lambda: wasserstein_1d(np.zeros((3, 2)), np.zeros((3, 2))), "points on a line"),
        (lambda: wasserstein_1d([], [1.0]), "x must be points"),
        (lambda: wasserstein_1d([1.0], [np.inf]), "y holds NaN or infinity"),
        (lambda: wasserstein_1d([1.0], [1.0], order=0.5), "order must be at least 1 and finite, got 0.5"),
        (lambda: wasserstein_1d([1.0, 2.0], [1.0], x_weights=[1.0]), "x_weights must be 2 shares"),
        (lambda: wasserstein(np.zeros((3, 2)), np.zeros((3, 3))), "x has 2 dimensions and y 3"),
        (lambda: wasserstein(np.zeros((3, 2)), np.zeros((4, 2)), y_weights=[1, 1, 0, 0]), "y_weights must sum to 1"),
        (lambda: wasserstein(*[np.zeros((MOST_POINTS + 1, 2))] * 2), "at most"),
        (lambda: wasserstein(np.zeros((MOST_PAIRS, 2)), np.zeros((2, 2))), "at most"),
        (lambda: sliced_wasserstein(np.zeros((3, 2, 2)), np.zeros((3, 4))), "a point of x has shape (2, 2)"),
        (lambda: sliced_wasserstein([1.0], [1.0], projections=0), "projections must be at least 1, got 0"),
        (lambda: sliced_wasserstein(np.zeros((0, 2)), np.zeros((3, 2))), "x must be points"),
        (lambda: shared_histograms([1.0], [1.0], bins=0), "bins must be at least 1, got 0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
