"""Scores of features against their formulas written out, one pair of vectors at a time, and against closed forms."""

import itertools

import numpy as np
import pytest

from jax_sngan.metrics import (
    Moments,
    class_moments,
    density_coverage,
    frechet_distance,
    frechet_from_moments,
    inception_score,
    intra_class_distances,
    kernel_distance,
    manifold,
    nearest_real,
    path_length,
    precision_recall,
)
from jax_sngan.metrics.extrapolation import frechet_extrapolation
from jax_sngan.metrics.kernel import squared_mmd


def sets(n=40, m=30, d=6, shift=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


def test_kernel_distance_is_the_unbiased_estimate():
    x, y = sets(30, 30)

    def k(a, b):
        return (a @ b / 6 + 1) ** 3

    pairs = list(itertools.permutations(range(30), 2))
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs) / len(pairs)
    across = sum(k(a, b) for a in x for b in y) / 900
    mean, std = kernel_distance(x, y)  # every subset is the whole
    assert mean == pytest.approx(within - 2 * across, rel=1e-10)
    assert std == pytest.approx(0, abs=1e-10)


def test_kernel_distance_of_equal_distributions_is_about_zero():
    x, y = sets(2000, 2000, shift=0.0)
    mean, std = kernel_distance(x, y, seed=1, subsets=20, subset_size=200)
    assert abs(mean) < 0.1 < kernel_distance(x, y + 1, subsets=20, subset_size=200)[0]
    assert std > 0
    assert kernel_distance(x, y, seed=1, subsets=20, subset_size=200) == (mean, std)
    assert kernel_distance(x, y, seed=2, subsets=20, subset_size=200) != (mean, std)


@pytest.mark.parametrize("offset", [0.0, 1e4], ids=["", "far from the origin"])
def test_kernel_distance_is_that_of_subsets_drawn_real_first(offset: float):
    x, y = (s + offset for s in sets(1500, 1300, 64, shift=0.3))
    rng = np.random.RandomState(3)
    each = [squared_mmd(x[rng.choice(1500, 600, False)], y[rng.choice(1300, 600, False)]) for _ in range(4)]
    assert kernel_distance(x, y, 3, subsets=4, subset_size=600) == (np.mean(each), np.std(each))
    assert kernel_distance(x, y, 4, subsets=4, subset_size=600)[0] != np.mean(each)


def test_inception_score_in_closed_form():
    sure = np.eye(10)[np.arange(1000) % 10]
    assert inception_score(sure, 10, seed=None) == pytest.approx((10, 0))
    assert inception_score(sure, 1) == pytest.approx((10, 0))
    assert inception_score(np.full((1000, 10), 0.1), 10) == pytest.approx((1, 0))
    assert inception_score(np.eye(10)[np.zeros(50, int)], 5) == pytest.approx((1, 0))
    mean, std = inception_score(np.concatenate([sure[:500], np.full((500, 10), 0.1)]), 2, seed=None)
    assert (mean, std) == pytest.approx((5.5, 4.5))


def test_inception_score_does_not_depend_on_the_order_of_images():
    """Class by class, splits of neighbours would hold one class each."""
    rng = np.random.default_rng(0)
    p = np.eye(10)[np.repeat(np.arange(10), 50)] * 0.9 + 0.01
    mixed = p[rng.permutation(500)]
    assert inception_score(p, 10, seed=None)[0] == pytest.approx(1)
    assert inception_score(p, 10) == inception_score(mixed, 10)  # to the bit
    assert inception_score(p, 10)[0] > 5
    assert inception_score(p, 10, seed=1) != inception_score(p, 10)
    q = rng.dirichlet(np.ones(5), 200)
    assert inception_score(q, 10) == inception_score(q[::-1], 10)
    assert inception_score(q, 1) == inception_score(q, 1, seed=None)


def brute(real, fake, k):
    """(precision, recall, density, coverage), pair by pair."""

    def distance(a, b):
        return float(np.sqrt(np.sum((a - b) ** 2)))

    def radius(s, i):
        return sorted(distance(s[i], s[j]) for j in range(len(s)) if j != i)[k - 1]

    r, f = [radius(real, i) for i in range(len(real))], [radius(fake, j) for j in range(len(fake))]
    between = np.array([[distance(a, b) for b in fake] for a in real])
    inside = between < np.array(r)[:, None]
    return (
        np.mean([any(between[i, j] <= r[i] for i in range(len(real))) for j in range(len(fake))]),
        np.mean([any(between[i, j] <= f[j] for j in range(len(fake))) for i in range(len(real))]),
        inside.sum() / (k * len(fake)),
        inside.any(axis=1).mean(),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_coverage(k, monkeypatch):
    monkeypatch.setattr(manifold, "_BLOCK", 7)  # several blocks, the last one short
    real, fake = sets()
    assert (*precision_recall(real, fake, k), *density_coverage(real, fake, k)) == pytest.approx(brute(real, fake, k))


def test_far_from_the_origin_no_digits_are_lost():
    real, fake = sets()
    assert precision_recall(real + 1e6, fake + 1e6) == precision_recall(real, fake)
    assert density_coverage(real + 1e6, fake + 1e6) == density_coverage(real, fake)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_a_rim_is_kept_to_the_digits_of_float64(scale, monkeypatch):
    """A thousandth of what float32 could tell: generated vectors just inside and just outside the balls of radius 1."""
    monkeypatch.setattr(manifold, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    centres = 10 * rng.permutation(40)[:, None] * np.eye(5)[rng.integers(5, size=40)]
    directions = rng.normal(size=(40, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    real = np.concatenate([centres, centres + directions])
    within = rng.random(40) < 0.4
    fake = centres - directions * np.where(within, 1 - 1e-10, 1 + 1e-10)[:, None]
    precision, _ = precision_recall(scale * real, scale * fake, 1)
    assert precision == within.mean()


def test_equal_sets_and_a_collapsed_one():
    real, _ = sets(200)
    assert precision_recall(real, real) == (1, 1)
    one = np.repeat(real[:1], 200, axis=0)
    precision, recall = precision_recall(real, one)
    assert precision == 1
    assert recall == 1 / 200
    assert density_coverage(real, one)[1] < 0.1


def test_nearest_real_finds_what_was_copied():
    real, fake = sets()
    fake[3] = real[17]
    rows, distances = nearest_real(real, fake)
    assert rows[3] == 17
    assert distances[3] == pytest.approx(0, abs=1e-6)
    assert distances[4] == pytest.approx(np.min(np.linalg.norm(real - fake[4], axis=1)))


def test_radii_are_distances_to_the_next_vectors(monkeypatch):
    monkeypatch.setattr(manifold, "_BLOCK", 7)
    real, _ = sets()
    between = np.linalg.norm(real[:, None] - real[None], axis=2)
    for k in (1, 4):
        assert manifold.radii(real, k) == pytest.approx(np.sort(between, axis=1)[:, k])


def test_distances_within_classes():
    real, fake = sets(60, 45)
    real_labels, fake_labels = np.arange(60) % 3, np.arange(45) // 15
    found = intra_class_distances(class_moments(real, real_labels, 3), class_moments(fake, fake_labels, 3))
    expected = [frechet_distance(real[real_labels == c], fake[fake_labels == c]) for c in range(3)]
    assert found == pytest.approx(expected)
    with pytest.raises(ValueError, match="class 3 holds 0 vectors"):
        class_moments(fake, fake_labels, 4)
    with pytest.raises(ValueError, match="labels must be 45 integers from 0 to 1"):
        class_moments(fake, fake_labels, 2)


def test_path_length_leaves_out_either_end():
    here = np.zeros((100, 3))
    there = here.copy()
    there[:, 1] = np.sqrt(np.random.default_rng(0).permutation(100)) * 1e-3
    # The first percentile, rounded down, is 0, and the 99th, rounded up, 99: both stay.
    assert path_length(here, there, 1e-3) == pytest.approx(49.5)
    wild = np.concatenate([np.full((995, 1), 1e-3), np.full((5, 1), 1e3)])
    assert path_length(np.zeros_like(wild), wild, 1e-3) == pytest.approx(1)
    with pytest.raises(ValueError, match="step must be above 0"):
        path_length(here, there, 0)


def test_extrapolation_takes_the_bias_away():
    """Equal distributions: the distance of n images is far above 0, the limit less than half of it."""
    rng = np.random.default_rng(0)
    real = Moments.of(rng.normal(size=(100_000, 20)))
    fake = rng.normal(size=(3_000, 20))
    found = frechet_extrapolation(real, fake)
    assert found.counts[[0, -1]].tolist() == [300, 3000]
    assert found.distances[-1] == pytest.approx(frechet_from_moments(real, Moments.of(fake)))
    assert found.distances[0] > 5 * found.distances[-1] > 0
    assert abs(found.limit) < found.distances[-1] / 2
    columns = np.stack([np.ones(15), 1 / found.counts], axis=1)
    assert np.linalg.lstsq(columns, found.distances)[0] == pytest.approx([found.limit, found.slope])
    assert frechet_extrapolation(real, fake, seed=1).limit != found.limit
    with pytest.raises(ValueError, match="at least 20"):
        frechet_extrapolation(real, fake[:10])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x, y: kernel_distance(x, y[:, :3]), "6 and 3 dimensions"),
        (lambda x, y: kernel_distance(x[:1], y), "at least 2"),
        (lambda x, y: kernel_distance(x * np.nan, y), "NaN"),
        (lambda x, y: precision_recall(x, y, 30), "k must be from 1 to 29, got 30"),
        (lambda x, y: density_coverage(x, y, 0), "k must be from 1 to 39, got 0"),
        (lambda x, y: inception_score(x), "sum to 1"),
        (lambda x, y: inception_score(np.eye(4), 5), "splits must be from 1 to 4, got 5"),
    ],
)
def test_what_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call(*sets())
