"""Mixtures and stacks are what the literature describes; mode scores count what was put in."""

import re

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from jax_sngan.data import datasets, mixtures
from jax_sngan.data.mixtures import MIXTURES
from jax_sngan.data.stacked import stacked_images, stacked_mode
from jax_sngan.metrics import classifier
from jax_sngan.metrics.modes import image_modes, mode_scores, point_modes, stacked_modes

# Within 3 std in the plane: 1 - exp(-9 / 2) (the squared distance is a chi-squared of 2 degrees).
GOOD_SHARE = 1 - np.exp(-4.5)


@pytest.fixture(scope="module")
def fashion():
    return datasets.load_data("fashion", image_size=28, channels=1)


# Mixtures -----------------------------------------------------------------------------------------------------------


def test_the_conventions():
    grid, ring = mixtures.grid(), mixtures.ring()
    assert grid.std * grid.unit == pytest.approx(0.05)
    assert ring.std * ring.unit == pytest.approx(0.02)
    assert len(grid.centres) == 25
    np.testing.assert_allclose(np.unique((grid.centres * grid.unit).round(9)), [-4, -2, 0, 2, 4])
    assert len(np.unique(grid.centres.round(9), axis=0)) == 25
    assert pdist(grid.centres * grid.unit).min() == pytest.approx(2)
    np.testing.assert_allclose(np.linalg.norm(ring.centres * ring.unit, axis=1), np.full(8, 2))
    np.testing.assert_allclose(np.linalg.norm(ring.centres - np.roll(ring.centres, 1, 0), axis=1) * ring.unit,
                               np.full(8, 4 * np.sin(np.pi / 8)))  # fmt: skip
    for mixture in (grid, ring):
        np.testing.assert_allclose(mixture.centres.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(mixture.centres.var(0), 1)  # what the networks see


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_samples(name):
    mixture = MIXTURES[name]()
    points, modes = mixture.sample(40_000, seed=3)
    assert (points.dtype, points.shape, modes.dtype, modes.shape) == (np.float32, (40_000, 2), np.int32, (40_000,))
    again = mixture.sample(40_000, seed=3)
    np.testing.assert_array_equal(points, again[0])
    np.testing.assert_array_equal(modes, again[1])
    assert (mixture.sample(40_000, seed=4)[0] != points).any()
    # Four standard errors of each figure.
    np.testing.assert_allclose((points - mixture.centres[modes]).std(0), mixture.std, rtol=4 / np.sqrt(80_000))
    shares = np.bincount(modes) / len(modes)
    np.testing.assert_allclose(shares, 1 / len(mixture.centres), atol=4 * np.sqrt(shares[0] / len(modes)))


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_true_points_cover_all(name):
    mixture = MIXTURES[name]()
    points, modes = mixture.sample(20_000, seed=0)
    scores = point_modes(points, mixture.centres, mixture.std)
    assert scores.covered == scores.modes == len(mixture.centres)
    assert scores.high_quality == pytest.approx(GOOD_SHARE, abs=0.003)
    np.testing.assert_array_equal(scores.shares, np.bincount(modes) / len(modes))  # the modes do not overlap
    assert 0 < scores.reverse_kl < 0.005
    assert 0 < scores.kl < 0.005


def test_collapse_is_seen():
    mixture = mixtures.grid()
    points, modes = mixture.sample(20_000, seed=0)
    few = points[modes < 5]
    scores = point_modes(few, mixture.centres, mixture.std)
    assert scores.covered == 5
    assert scores.kl == np.inf
    assert scores.to_dict()["kl"] is None
    assert scores.reverse_kl == pytest.approx(np.log(5), abs=0.01)  # 5 of 25 in equal parts: log 25 - log 5
    one = point_modes(np.tile(mixture.centres[3], (10, 1)), mixture.centres, mixture.std)
    assert (one.covered, one.high_quality) == (1, 1.0)
    assert one.reverse_kl == pytest.approx(np.log(25))


def test_good_points_alone_cover_a_mode():
    centres, std = np.array([[0.0, 0.0], [10.0, 0.0]]), 1.0
    points = np.array([[0, 2.999], [10, 3.001], [np.nan, 0], [np.inf, 0]])
    scores = point_modes(points[:2], centres, std)
    assert (scores.covered, scores.high_quality) == (1, 0.5)
    np.testing.assert_array_equal(scores.shares, [0.5, 0.5])  # bad points count among the shares (PacGAN)
    assert point_modes(points[:2], centres, std, radius=3.1).covered == 2
    scores = point_modes(points, centres, std)
    assert (scores.covered, scores.high_quality) == (1, 0.25)


def test_scores_by_hand():
    scores = mode_scores(np.array([0, 0, 1, 2]), np.array([True, True, True, False]), 4)
    assert (scores.covered, scores.modes, scores.high_quality) == (2, 4, 0.75)
    assert scores.reverse_kl == pytest.approx(0.5 * np.log(2))
    assert mode_scores(np.array([0, 0, 1]), np.ones(3, bool), 2, minimum=2).covered == 1
    true = np.array([0.5, 0.25, 0.25])
    scores = mode_scores(np.array([0, 0, 1, 2]), np.ones(4, bool), 3, true_shares=true)
    assert scores.kl == scores.reverse_kl == 0


# Stacks -------------------------------------------------------------------------------------------------------------


def test_stacks_of_real_images(fashion):
    images, modes = stacked_images(fashion.images, fashion.labels, 10, seed=5, count=500)
    assert (images.dtype, images.shape, modes.dtype, modes.shape) == (np.uint8, (500, 28, 28, 3), np.int32, (500,))
    # Each colour is an image of the set, with the label that the mode's digit names.
    originals = {image.tobytes(): label for image, label in zip(fashion.images, fashion.labels, strict=True)}
    for image, mode in zip(images, modes, strict=True):
        assert [originals[image[..., c].tobytes()] for c in range(3)] == [mode // 100, mode // 10 % 10, mode % 10]
    assert len({images[i, ..., c].tobytes() for i in range(500) for c in range(3)}) > 1300  # drawn apart


def test_a_stream_in_parts(fashion):
    few, labels = fashion.images[:50], fashion.labels[:50]
    whole = stacked_images(few, labels, 10, seed=1, count=9000)
    for start, count in ((0, 10), (4090, 10), (4096, 4096), (8999, 1)):
        for part, all_of_it in zip(
            stacked_images(few[..., 0], labels, 10, seed=1, start=start, count=count), whole, strict=True
        ):
            np.testing.assert_array_equal(part, all_of_it[start : start + count])
    assert (stacked_images(few, labels, 10, seed=2, count=100)[1] != whole[1][:100]).any()


def test_stacks_reach_every_mode(fashion):
    tiny = np.zeros((len(fashion), 1, 1), np.uint8)  # only the labels matter here
    modes = stacked_images(tiny, fashion.labels, 10, seed=0, count=26_000)[1]
    # 26 rows a mode: a mode is missed with probability e^-26.
    assert len(np.unique(modes)) == 1000
    np.testing.assert_array_equal(stacked_mode(np.array([[0, 0, 7], [1, 2, 3]]), 10), [7, 123])


def one_hot(labels, classes, confidence=1.0):
    p = np.full((len(labels), classes), (1 - confidence) / (classes - 1))
    p[np.arange(len(labels)), labels] = confidence
    return p


def test_modes_by_a_perfect_classifier(fashion):
    _, modes = stacked_images(fashion.images, fashion.labels, 10, seed=0, count=3000)
    colours = [one_hot(d, 10) for d in (modes // 100, modes // 10 % 10, modes % 10)]
    scores = stacked_modes(colours)
    assert (scores.covered, scores.modes, scores.high_quality) == (len(np.unique(modes)), 1000, 1.0)
    np.testing.assert_array_equal(scores.shares, np.bincount(modes, minlength=1000) / 3000)
    unsure = [one_hot(modes // 100, 10, 0.9)] * 3  # 0.729 in all
    assert stacked_modes(unsure, confidence=0.72).high_quality == 1
    assert stacked_modes(unsure, confidence=0.74).covered == 0
    scores = image_modes(one_hot(np.array([0, 0, 2]), 4, 0.8), confidence=0.5)
    assert (scores.covered, scores.modes, scores.high_quality) == (2, 4, 1.0)
    assert image_modes(one_hot(np.array([0, 0, 2]), 4, 0.8), confidence=0.9).high_quality == 0


def test_modes_by_the_trained_classifier(fashion):
    # A short training: 12,000 images give about 0.8; what is tested is the path from pixels to modes.
    judge = classifier.train(fashion, images_seen=12_000)
    scores = image_modes(judge.probabilities(fashion.images[:2000]))
    assert scores.covered == 10
    assert scores.reverse_kl < 0.1
    shoes = fashion.images[fashion.labels == 9]  # ankle boots
    scores = image_modes(judge.probabilities(shoes), minimum=len(shoes) // 10)
    assert scores.covered <= 2
    assert scores.shares.argmax() == 9
    images, modes = stacked_images(fashion.images, fashion.labels, 10, seed=0, count=1500)
    colours = [judge.probabilities(images[..., c : c + 1]) for c in range(3)]
    scores = stacked_modes(colours)
    truth = np.bincount(modes, minlength=1000) > 0
    assert scores.covered > 0.7 * truth.sum()
    same = stacked_modes([colours[0]] * 3)
    assert same.covered <= 10  # three equal colours have only the modes 000, 111, ...
    assert set(np.flatnonzero(same.shares)) <= {111 * i for i in range(10)}


# Refusals -----------------------------------------------------------------------------------------------------------

EVEN = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mixtures.grid().sample(0, seed=0), "n must be at least 1, got 0"),
        (lambda: mode_scores([0.5], [True], 2), "modes must be integers [n]"),
        (lambda: mode_scores([2], [True], 2), "modes must be in [0, 2), got 2 to 2"),
        (lambda: mode_scores([1], [1], 2), "good must be 1 booleans, got int64"),
        (lambda: mode_scores([1], [True], 2, minimum=0), "minimum must be at least 1, got 0"),
        (lambda: mode_scores([1], [True], 2, true_shares=[1.0]), "p has 1 outcomes and q 2"),
        (lambda: point_modes(np.zeros((3, 2)), np.zeros((3, 3)), 1), "points [n, d] and centres [k, d]"),
        (lambda: point_modes(np.zeros((3, 2)), np.zeros((3, 2)), 0), "std must be above 0 and finite, got 0"),
        (lambda: point_modes(np.zeros((3, 2)), np.zeros((3, 2)), 1, radius=-1), "radius must be above 0"),
        (lambda: image_modes(np.ones((2, 2))), "each row sum to 1"),
        (lambda: image_modes(np.ones(2)), "probabilities must be [n, k]"),
        (lambda: image_modes(EVEN, confidence=2), "confidence must be in [0, 1], got 2"),
        (lambda: stacked_modes([EVEN, EVEN]), "three colours needed, got 2"),
        (lambda: stacked_modes([EVEN, EVEN, EVEN[:1]]), "the three must have one shape"),
        (lambda: stacked_images(np.zeros((2, 4, 4)), np.zeros(2, int), 2, 0, count=1), "images must be uint8"),
        (lambda: stacked_images(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, int), 2, 0, count=1), "images must be"),
        (lambda: stacked_images(np.zeros((2, 4, 4), np.uint8), np.zeros(3, int), 2, 0, count=1), "labels must be 2"),
        (lambda: stacked_images(np.zeros((2, 4, 4), np.uint8), np.array([0, 2]), 2, 0, count=1), "labels must be in"),
        (lambda: stacked_images(np.zeros((2, 4, 4), np.uint8), np.zeros(2, int), 2, 0, count=0), "count at least 1"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
