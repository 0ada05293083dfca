"""Scores equal independent formulas; streaming changes nothing; the classifier is kept, and only used when whole."""

import numpy as np
import pytest
import scipy.linalg

from jax_sngan.data import datasets, official
from jax_sngan.metrics import (
    Moments,
    classes_covered,
    classifier,
    frechet_distance,
    frechet_from_moments,
    score_name,
    small_cnn,
)
from jax_sngan.system.errors import UserError

RELATIVE = 1e-9  # issue 7: streamed and whole must agree to it; float64 leaves 1e-13 on these sizes


def features(n, d, seed, rank=None):
    """[n, d], correlated, of unequal variances and means; of the given rank, and then of mean zero outside it."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(rank or d, d)) * np.geomspace(3, 0.1, rank or d)[:, None]
    return rng.normal(size=(n, rank or d)) @ basis + rng.normal(size=rank or d) @ basis


def by_sqrtm(real, fake):
    """The formula as pytorch-fid computes it: the root of the unsymmetric product."""
    root = scipy.linalg.sqrtm(np.cov(real, rowvar=False) @ np.cov(fake, rowvar=False))
    spread = np.trace(np.cov(real, rowvar=False)) + np.trace(np.cov(fake, rowvar=False))
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + spread - 2 * np.trace(root.real)


def by_samples(real, fake):
    """Without any covariance: tr (S1 S2)^1/2 is the nuclear norm of A B^T, S1 = A^T A, and A and B the centred data."""
    a = (real - real.mean(0)) / np.sqrt(len(real) - 1)
    b = (fake - fake.mean(0)) / np.sqrt(len(fake) - 1)
    overlap = np.linalg.norm(a @ b.T, "nuc")
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * overlap


@pytest.mark.parametrize(("n", "m", "d"), [(500, 300, 1), (400, 400, 7), (900, 700, 64)])
def test_frechet_equals_the_sqrtm_formula(n, m, d):
    real, fake = features(n, d, 1), features(m, d, 2)
    expected = by_sqrtm(real, fake) if d > 1 else by_samples(real, fake)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (features(50, 64, 1), features(40, 64, 2)),  # n < d, both covariances singular
        (features(500, 64, 1), features(40, 64, 2)),
        (features(2, 32, 1), features(2, 32, 2)),  # the smallest sets
        (features(300, 64, 1, rank=5), features(300, 64, 2, rank=9)),
        (features(300, 64, 1, rank=5), features(300, 64, 2)),
        (features(300, 64, 1) * (np.arange(64) < 40), features(300, 64, 2) * (np.arange(64) > 20)),  # dead units
        (np.ones((10, 4)), features(300, 4, 2)),  # no variance at all
    ],
    ids=["n<d", "one n<d", "two vectors", "ranks 5 and 9", "rank 5 and full", "dead units", "constant"],
)
def test_frechet_of_singular_covariances(real, fake):
    assert frechet_distance(real, fake) == pytest.approx(by_samples(real, fake), rel=RELATIVE)
    assert frechet_distance(fake, real) == pytest.approx(by_samples(real, fake), rel=RELATIVE)


@pytest.mark.parametrize("least", [1e-1, 1e-3, 1e-5, 1e-9])
def test_frechet_of_unequal_variances(least):
    """From where a Cholesky factor and eigenvalues serve to where only eigenvectors and singular values do."""
    scale = np.geomspace(1, least, 48)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(48, 48)))[0]
    real, fake = (np.random.default_rng(i).normal(size=(400, 48)) * scale @ turn for i in (1, 2))
    assert frechet_distance(real, fake) == pytest.approx(by_samples(real, fake), rel=RELATIVE)


def test_frechet_closed_forms():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(60, 6))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T  # covariance exactly I, mean 0
    s, t, shift = rng.uniform(0.1, 3, 6), rng.uniform(0.1, 3, 6), rng.normal(size=6)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]

    # Commuting covariances: |shift|^2 + sum (s - t)^2, in any orthonormal basis.
    expected = (shift**2).sum() + ((s - t) ** 2).sum()
    assert frechet_distance(white * s @ turn, (white * t + shift) @ turn) == pytest.approx(expected, rel=1e-11)
    # The same set has distance 0, to the rounding of the traces (about 1e-15 of them).
    assert 0 <= frechet_distance(white * s, (white * s)[::-1]) < 1e-13 * (s**2).sum()


@pytest.mark.parametrize("sizes", [(1000,), (1,) * 10 + (990,), (37, 63, 400, 500)])
@pytest.mark.parametrize("offset", [0.0, 1e4])  # a naive sum of squares loses 8 digits of the variance at 1e4
def test_streamed_moments_equal_the_whole(sizes, offset):
    x, other = features(1000, 24, 3) + offset, features(800, 24, 4) + offset
    parts = np.split(x, np.cumsum(sizes)[:-1])
    got = Moments.stream(parts)
    # The largest error that 1e4 in front of numbers of order 1 leaves: 1e4 eps sqrt(n), about 1e-10.
    assert got.count == 1000
    np.testing.assert_allclose(got.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.covariance, np.cov(x, rowvar=False), rtol=0, atol=RELATIVE * np.cov(x.T).max())
    whole = frechet_distance(x, other)
    for streamed in (got, Moments.stream(parts[::-1])):
        assert frechet_from_moments(streamed, Moments.of(other)) == pytest.approx(whole, rel=RELATIVE)


def test_streaming_keeps_singular_covariances():
    x, other = features(40, 64, 3), features(50, 64, 4)
    streamed = Moments.stream(np.array_split(x, 7))
    assert frechet_from_moments(streamed, Moments.of(other)) == pytest.approx(frechet_distance(x, other), rel=RELATIVE)


def test_float32_features_are_summed_in_float64():
    x = (features(500, 8, 1) + 100).astype(np.float32)
    y = (features(500, 8, 2) + 100).astype(np.float32)
    assert frechet_distance(x, y) == frechet_distance(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones(5), np.ones((5, 1)), "must be"),
        (np.ones((0, 3)), np.ones((5, 3)), "not empty"),
        (np.ones((5, 3)), np.ones((5, 4)), "3 and 4"),
        (np.ones((1, 3)), np.ones((5, 3)), "at least 2"),
        (np.full((5, 3), np.nan), np.ones((5, 3)), "NaN"),
        (np.ones((5, 3)), np.full((5, 3), np.inf), "infinity"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_frechet_refuses(real, fake, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(real, fake)


def test_moments_refuse():
    with pytest.raises(ValueError, match="no batches"):
        Moments.stream([])
    with pytest.raises(ValueError, match="3 and 4"):
        Moments.of(np.ones((2, 3))).merge(Moments.of(np.ones((2, 4))))


def test_classes_covered():
    predictions = np.array([0] * 50 + [1] * 48 + [3] * 2)
    count, shares = classes_covered(predictions, 0.02, classes=5)
    assert count == 3  # a share of exactly the minimum counts
    np.testing.assert_allclose(shares, [0.5, 0.48, 0, 0.02, 0])
    assert classes_covered(np.eye(5)[predictions], 0.02)[0] == 3
    assert classes_covered(predictions, 0.03, classes=5)[0] == 2


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (np.array([0, 1]), {}, "number of classes"),
        (np.array([0, 5]), {"classes": 5}, "0 to 5"),
        (np.array([0.0, 1.0]), {"classes": 2}, "integers"),
        (np.eye(3), {"classes": 4}, "3 classes"),
        (np.eye(3), {"minimum_share": 2}, "minimum_share"),
        (np.full((2, 2), np.nan), {}, "NaN"),
        (np.ones((0, 3)), {}, "shape"),
    ],
)
def test_classes_covered_refuses(scores, options, message):
    with pytest.raises(ValueError, match=message):
        classes_covered(scores, **options)


def test_score_names_say_the_protocol():
    assert score_name("fcd", 5000, "test") == "fcd_5k_test"
    assert score_name("fid", 50_000, "train") == "fid_50k_train"
    assert score_name("fcd", 1500, "test") == "fcd_1500_test"


@pytest.fixture(scope="module")
def garments():
    """400 embedded images, 40 a class."""
    whole = datasets.load_data("fashion", image_size=28, channels=1)
    rows = np.concatenate([np.flatnonzero(whole.labels == c)[:40] for c in range(10)])
    return datasets.Dataset("fashion (400 images)", whole.images[rows], whole.labels[rows], whole.classes, whole.flip)


@pytest.fixture(scope="module")
def trained(garments):
    return classifier.train(garments, images_seen=4_000)


def test_classifier_learns(garments, trained):
    assert trained.held_out == 40
    assert trained.accuracy >= 0.5  # chance is 0.1; 0.7 was seen
    predictions = trained.probabilities(garments.images).argmax(1)
    assert (predictions == garments.labels).mean() > 0.7
    # The held-out images are no better known than new ones: the accuracy says what it claims.
    whole = datasets.load_data("fashion", image_size=28, channels=1)
    unseen = np.concatenate([np.flatnonzero(whole.labels == c)[40:100] for c in range(10)])
    measured = (trained.probabilities(whole.images[unseen]).argmax(1) == whole.labels[unseen]).mean()
    assert abs(measured - trained.accuracy) < 0.25  # 3 standard errors of 40 images


def test_classifier_outputs(garments, trained):
    images = garments.images
    f, p = trained(images[:7])
    assert f.shape == (7, 128)
    assert p.shape == (7, 10)
    assert f.dtype == p.dtype == np.float32
    assert (f >= 0).all()
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    # An image's features do not depend on how many others are given, to the bit; on its place, only by rounding.
    np.testing.assert_array_equal(trained.features(images)[:7], f)
    np.testing.assert_allclose(trained.features(images)[300:307], trained.features(images[300:307]), atol=1e-5)
    assert trained.features(images[:0]).shape == (0, 128)
    # Their scale is the same for every classifier: a mean variance of 1 over the held-out images, of which 40 remain.
    assert 0.3 < trained.features(images).var(0).mean() < 3
    # Classes are apart in the features, halves of one class are not.
    at = [np.flatnonzero(garments.labels == c) for c in (1, 7)]
    all_features = trained.features(images)
    across = frechet_distance(all_features[at[0]], all_features[at[1]])
    assert across > 3 * frechet_distance(all_features[at[0][::2]], all_features[at[0][1::2]])


def test_rescaling_multiplies_features_and_keeps_probabilities(garments, trained):
    params = dict(trained.params)
    small_cnn.rescale_features(params, 8.0)  # a power of two: exact
    before, after = trained(garments.images[:20]), trained._replace(params=params)(garments.images[:20])
    np.testing.assert_array_equal(after[0], 8 * before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_classifier_refuses_other_images(garments, trained):
    for images in (garments.images[:, :27], garments.images[..., 0], garments.images.astype(np.float32)):
        with pytest.raises(ValueError, match=r"uint8 \[n, 28, 28, 1\]"):
            trained.features(images)


def test_classifier_is_deterministic(garments, trained):
    again = classifier.train(garments, images_seen=4_000)
    assert again.checksum == trained.checksum
    shorter = classifier.train(garments, images_seen=360)
    assert shorter.checksum == classifier.train(garments, images_seen=360).checksum
    assert shorter.checksum != classifier.train(garments, images_seen=360, seed=1).checksum


def test_classifier_is_kept_and_only_used_when_whole(garments, tmp_path):
    said: list[str] = []

    def get(**options):
        said.clear()
        return classifier.cached(garments, images_seen=360, folder=tmp_path, say=said.append, **options)

    first = get()
    assert len(said) == 2
    assert "training" in said[0]
    assert "40 held-out" in said[1]
    (path,) = tmp_path.iterdir()
    hit = get()
    assert said == []
    assert hit.checksum == first.checksum
    assert hit[:-1] == first[:-1]
    np.testing.assert_array_equal(hit.features(garments.images[:50]), first.features(garments.images[:50]))

    whole = path.read_bytes()
    # A weight changed inside an archive that is otherwise sound: only the checksum sees it.
    with np.load(path) as file:
        arrays = dict(file)
    arrays["0.bias"] = arrays["0.bias"] + np.float32(1)
    np.savez(path, **arrays)
    forged = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (forged, bytes(flipped), whole[:-100], b"", b"\x80\x04N."):
        path.write_bytes(damaged)
        assert get().checksum == first.checksum
        assert "damaged" in said[0]
        assert str(path) in said[0]
        assert "training" in said[1]
        assert path.read_bytes() == whole  # mended; the same weights make the same file
    get(seed=1)  # another key, another file
    assert len(list(tmp_path.iterdir())) == 2


def test_classifier_goes_on_where_it_cannot_be_kept(garments, tmp_path):
    (tmp_path / "file").write_text("")
    said: list[str] = []
    got = classifier.cached(garments, images_seen=360, folder=tmp_path / "file", say=said.append)
    assert got.held_out == 40
    assert "not kept" in said[-1]


def test_classifier_of_the_default_set(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(classifier, "cached", lambda data, **_: data)  # looks at what it would be trained on
    if official.DEBIAN["fashion_mnist"].is_dir():
        assert classifier.load_classifier().name == "fashion_mnist"
    assert classifier.load_classifier("fashion", image_size=32, channels=3).images.shape == (10_000, 32, 32, 3)
    monkeypatch.setitem(official.DEBIAN, "fashion_mnist", tmp_path / "absent")
    assert classifier.load_classifier().name == "fashion"
    monkeypatch.setitem(official.DEBIAN, "fashion_mnist", tmp_path)  # there, but without the files
    assert classifier.load_classifier().name == "fashion"


def test_classifier_refuses_sets_that_teach_nothing(garments):
    bare = datasets.Dataset("npz:x", garments.images, np.zeros(len(garments), np.int32), (), flip=False)
    with pytest.raises(UserError, match="npz:x has no such labels"):
        classifier.train(bare)
    few = datasets.Dataset("npz:x", garments.images[:19], garments.labels[:19], garments.classes, flip=False)
    with pytest.raises(UserError, match="at least 20 images"):
        classifier.train(few)
    small = datasets.Dataset("npz:x", garments.images[:, :3, :3], garments.labels, garments.classes, flip=False)
    with pytest.raises(UserError, match="3 x 3"):
        classifier.train(small)


def test_classifier_takes_colour_and_other_sizes():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60).astype(np.int32)
    images = rng.integers(0, 256, (60, 5, 7, 3)).astype(np.uint8)
    images[np.arange(60), :, labels] = 255  # the class is the column that is white
    got = classifier.train(datasets.Dataset("npz:x", images, labels, tuple("abc"), flip=True), images_seen=540)
    assert got.features(images).shape == (60, 128)
    assert got.probabilities(images).shape == (60, 3)
