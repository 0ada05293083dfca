"""Scores of runs, folders and files: right names and images, intervals, paired tests, one line for what is wrong."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import logs
import numpy as np
import pytest
from PIL import Image
from scipy import stats

import jax_sngan
from conftest import TINY
from jax_sngan.config.schema import RunConfig
from jax_sngan.evaluation import evaluate as evaluation
from jax_sngan.evaluation import sources
from jax_sngan.lipschitz.run import certify_run
from jax_sngan.metrics import extractors, frechet_distance, kernel_distance, reference
from jax_sngan.metrics.extractors import Extractor, of_function
from jax_sngan.system.errors import UserError
from jax_sngan.training.evaluation import TrainingEvaluation
from jax_sngan.training.loop import Scores
from jax_sngan.training.trainer import train


def pixels(images: np.ndarray) -> np.ndarray:
    """A feature extractor that needs no training: means over 7x7 squares."""
    return images.reshape(len(images), 4, 7, 4, 7).mean(axis=(2, 4)).reshape(len(images), 16)


def as_classifier(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and three classes of which one is never seen, by the images' mean."""
    dark = images.mean(axis=(1, 2, 3)) < 60
    return pixels(images), np.stack([dark, ~dark, np.zeros(len(images))], axis=1)


CLASSIFIER = Extractor("classifier", "0", as_classifier, None, lambda x: pixels(x))
PIXELS = of_function(pixels, "pixels")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No official files on this machine, a cache of its own, and a classifier that needs no training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluation.classifier, "fashion_mnist_here", lambda: None)
    monkeypatch.setattr(evaluation, "open_extractor", lambda name, train_classifier: CLASSIFIER)


@pytest.mark.usefixtures("quick")
def test_scores_are_of_the_checkpoints_images(tiny_run: Path) -> None:
    real = jax_sngan.load_data("fashion", image_size=28, channels=1)
    generated = jax_sngan.load(tiny_run).sample(200, seed=4)
    result = evaluation.evaluate(tiny_run, num=200, seed=4, metrics=["fcd", "kcd", "classes", "precision"])
    dark = float((generated.mean(axis=(1, 2, 3)) < 60).mean())
    assert result["step"] == 6
    assert result["num"] == 200
    metrics = result["metrics"]
    assert list(metrics) == [f"{n}_200_fashion" for n in ("fcd", "kcd", "classes", "smallest_share", "precision")]
    assert metrics["fcd_200_fashion"] == pytest.approx(
        frechet_distance(pixels(real.images), pixels(generated)), rel=1e-9
    )
    assert metrics["kcd_200_fashion"] == kernel_distance(pixels(real.images), pixels(generated), 4)[0]
    assert metrics["classes_200_fashion"] == (dark >= 0.02) + (1 - dark >= 0.02)
    assert metrics["smallest_share_200_fashion"] == 0
    assert result["real"] == {
        "name": "fashion", "split": "train", "count": 10_000, "checksum": real.checksum()
    }  # fmt: skip
    raw = evaluation.evaluate(tiny_run, num=200, seed=4, metrics=["fcd"], raw=True)["metrics"]
    own = jax_sngan.load(tiny_run, average=False).sample(200, seed=4)
    assert raw == {"fcd_200_fashion_raw": pytest.approx(frechet_distance(pixels(real.images), pixels(own)), rel=1e-9)}


def test_batches_give_the_images_of_the_seed(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BATCH", 64)
    run = sources.open_subject(tiny_run, step="latest", raw=False, standing=0)
    parts = [images for images, _ in run.batches(130, 3)]
    assert [len(p) for p in parts] == [64, 64, 2]
    np.testing.assert_array_equal(np.concatenate(parts), jax_sngan.load(tiny_run).sample(130, seed=3))


@pytest.mark.usefixtures("quick")
def test_seeds_give_an_interval(tiny_run: Path) -> None:
    options = {"num": 60, "metrics": ["fcd"], "features": CLASSIFIER}
    result = evaluation.evaluate(tiny_run, seed=2, seeds=3, **options)
    single = [evaluation.evaluate(tiny_run, seed=s, **options)["metrics"]["fcd_60_fashion"] for s in (2, 3, 4)]
    assert result["values"]["fcd_60_fashion"] == single
    assert len(set(single)) == 3
    assert result["metrics"]["fcd_60_fashion"] == pytest.approx(np.mean(single))
    expected = stats.t.interval(0.95, 2, np.mean(single), stats.sem(single))
    assert result["intervals"]["fcd_60_fashion"] == pytest.approx(expected)


@pytest.mark.usefixtures("quick")
def test_a_comparison_is_the_paired_test_over_seeds(tiny_run: Path) -> None:
    options = {"num": 60, "metrics": ["fcd"], "features": CLASSIFIER}
    result = evaluation.compare(tiny_run, tiny_run, seeds=4, step=3, **options)
    assert result["differences"]["fcd_60_fashion"] == {"mean": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    at = {s: evaluation.evaluate(tiny_run, seeds=4, step=s, **options)["values"]["fcd_60_fashion"] for s in (3, 6)}
    other = tiny_run.parent / "step3"
    shutil.copytree(tiny_run, other)
    shutil.rmtree(other / "checkpoints" / "6")
    gap = evaluation.compare(other, tiny_run, seeds=4, **options)["differences"]["fcd_60_fashion"]
    assert gap["p"] == pytest.approx(stats.ttest_rel(at[6], at[3]).pvalue)
    assert gap["mean"] == pytest.approx(np.mean(at[6]) - np.mean(at[3]))
    assert gap["interval"][0] < gap["mean"] < gap["interval"][1]


def test_a_comparison_looks_for_both_before_it_scores_one(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("it began to score"))
    with pytest.raises(UserError, match=r"no workdir .*nowhere"):
        evaluation.compare(tiny_run, tmp_path / "nowhere")


@pytest.mark.usefixtures("quick")
def test_protocols_fix_both_counts_and_say_so(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(evaluation.PROTOCOLS, "50k_50k", (500, 300))
    result = evaluation.evaluate(tiny_run, protocol="50k_50k", features=PIXELS, metrics=["fd", "precision"])
    assert list(result["metrics"]) == ["fd_pixels_500_300_fashion", "precision_pixels_500_300_fashion"]
    assert (result["num"], result["real"]["count"]) == (300, 500)
    monkeypatch.setitem(evaluation.PROTOCOLS, "50k_50k", (50_000, 300))
    with pytest.raises(UserError, match="takes 50,000 real images; fashion has 10,000"):
        evaluation.evaluate(tiny_run, protocol="50k_50k", features=PIXELS)


@pytest.mark.usefixtures("quick")
def test_folders_and_files_are_scored_as_they_are(tmp_path: Path) -> None:
    real = jax_sngan.load_data("fashion", image_size=28, channels=1)
    rows = np.arange(0, 10_000, 100)
    np.savez(tmp_path / "made.npz", images=real.images[rows], labels=real.labels[rows])
    for row, label in zip(rows, real.labels[rows], strict=True):
        path = tmp_path / "made" / str(label) / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(real.images[row, :, :, 0]).save(path)
    options = {"real": "fashion", "features": CLASSIFIER, "metrics": ["fcd", "intra_fcd", "nearest"]}
    file = evaluation.evaluate(tmp_path / "made.npz", **options)
    folder = evaluation.evaluate(tmp_path / "made", **options)
    assert (file["step"], file["num"]) == (None, 100)
    assert file["metrics"]["nearest_100_fashion"] == pytest.approx(0, abs=1e-6)  # each is a real one
    assert folder["metrics"] == {k: pytest.approx(v, rel=1e-9, abs=1e-6) for k, v in file["metrics"].items()}
    within = [
        frechet_distance(pixels(real.images[real.labels == c]), pixels(real.images[rows][real.labels[rows] == c]))
        for c in range(10)
    ]
    assert file["metrics"]["intra_fcd_100_fashion"] == pytest.approx(np.mean(within), rel=1e-9)
    part = evaluation.evaluate(tmp_path / "made.npz", num=40, seeds=2, **options)["values"]["fcd_40_fashion"]
    assert len(set(part)) == 2  # each seed draws other images


@pytest.mark.usefixtures("quick")
def test_path_length_is_of_the_runs_own_walk(tiny_run: Path) -> None:
    one = evaluation.evaluate(tiny_run, num=70, features=CLASSIFIER, metrics=["path_length"])["metrics"]
    assert list(one) == ["path_length_70_fashion"]
    generator = jax_sngan.load(tiny_run)
    run = sources.open_subject(tiny_run, step="latest", raw=False, standing=0)
    doubled = CLASSIFIER._replace(unrounded=lambda x: 2 * pixels(x))
    assert run.path_length(doubled, 70, 0) == pytest.approx(4 * one["path_length_70_fashion"], rel=1e-6)
    rounded = generator.images(np.ones((3, 4), np.float32))
    exact = generator.pixels(np.ones((3, 4), np.float32))
    assert np.abs(rounded - exact).max() <= 0.5
    assert np.abs(exact - exact.round()).max() > 0.1


def test_standing_statistics_are_those_of_a_pass_over_the_latents(tiny_run: Path) -> None:
    """Of one batch they are that batch's: generated in training mode it gives the same images."""
    from jax_sngan.core.inputs import sample_latents
    from jax_sngan.core.pixels import to_uint8
    from jax_sngan.models.network import build
    from jax_sngan.runs.sample import STANDING_SEED

    stored, standing = jax_sngan.load(tiny_run), jax_sngan.load(tiny_run, standing=64)
    z = sample_latents(STANDING_SEED, 64, 4, np.dtype(np.float32))
    trained, _ = build(TINY.model).generator.apply(stored.variables, z, train=True)
    # The running variance is the unbiased one, 64/63 (and less, in maps) of what a training pass divides by.
    assert np.abs(standing.images(z).astype(int) - np.asarray(to_uint8(trained)).astype(int)).max() <= 2
    assert np.abs(stored.images(z).astype(int) - np.asarray(to_uint8(trained)).astype(int)).max() > 20
    with pytest.raises(UserError, match="standing_statistics must be a multiple of 64, got 65"):
        jax_sngan.load(tiny_run, standing=65)


def test_real_features_are_kept_by_their_key_and_only_used_when_whole(tmp_path: Path) -> None:
    data = jax_sngan.load_data("fashion", image_size=28, channels=1)
    data = dataclasses.replace(data, images=data.images[:50], labels=data.labels[:50])
    calls: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return pixels(images)

    said: list[str] = []

    def take(checksum: str = "a", count: int | None = None) -> np.ndarray:
        extractor = of_function(counted, "counted", checksum)
        return reference.reference(data, extractor, "train", count, folder=tmp_path, say=said.append).features

    first = take()
    np.testing.assert_array_equal(take(), first)
    assert calls == [50]
    take("b")
    assert len(take("a", 20)) == 20
    assert calls == [50, 50, 20]
    take("")  # an extractor that nothing names: never kept
    take("")
    assert calls == [50, 50, 20, 50, 50]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-300])
    np.testing.assert_array_equal(take(), first)
    assert len(said) == 1
    assert "is damaged" in said[0]


@pytest.mark.usefixtures("quick")
def test_training_is_the_same_to_the_bit_with_evaluation(tiny_run: Path, tmp_path: Path) -> None:
    """The same log lines and the same last state; the best checkpoint stays beside the latest, and is found."""
    workdir = tmp_path / "run"
    run = RunConfig(
        workdir=str(workdir), log_every=2, sample_every=3, checkpoint_every=0, keep_checkpoints=1,
        evaluate_every=1, evaluate_num=100, evaluate_metrics="fcd,classes", standing_statistics=64,
    )  # fmt: skip
    train(TINY, run)
    lines = logs.lines(workdir)
    plain = [json.dumps(line) for line in lines if "d_loss" in line]
    assert plain == logs.texts(tiny_run)
    with (
        jax_sngan.runs.checkpoint.Checkpoints(workdir) as ours,
        jax_sngan.runs.checkpoint.Checkpoints(tiny_run) as theirs,
    ):
        states = [jax.tree.leaves(c.restore(6, c.choose(6).like)) for c in (ours, theirs)]
        for a, b in zip(*states, strict=True):
            np.testing.assert_array_equal(a, b)
        kept = ours.steps()
    scored = {line["step"]: line for line in lines if "d_loss" not in line}
    assert list(scored) == [1, 2, 3, 4, 5, 6]
    name = "fcd_100_fashion_standing64"
    assert set(scored[1]) == {
        "step", name, "classes_100_fashion_standing64", "smallest_share_100_fashion_standing64",
        "fcd_100_fashion_raw", "classes_100_fashion_raw", "smallest_share_100_fashion_raw",
    }  # fmt: skip
    best = min(scored, key=lambda s: scored[s][name])
    assert kept == sorted({best, 6})
    assert jax_sngan.load(workdir, "best").step == best
    again = evaluation.evaluate(workdir, step="best", num=100, metrics=["fcd"], standing=64)["metrics"]
    assert again == {name: pytest.approx(scored[best][name], rel=1e-9)}


@pytest.mark.usefixtures("quick")
def test_the_best_is_remembered_over_a_stop(tmp_path: Path) -> None:
    """A later, worse evaluation does not take the best one's place; with classes, more are better."""
    workdir = tmp_path / "run"
    run = RunConfig(
        workdir=str(workdir), checkpoint_every=0, sample_every=0, keep_checkpoints=1, evaluate_every=1, evaluate_num=64
    )
    values = iter([5.0, 3.0, 4.0, 9.0, 8.0, 8.5] + [6.0, 9.0, 8.0, 7.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingEvaluation, "__call__", lambda *_: Scores({"x": 0.0}, next(values)))
        train(TINY, run)
        shutil.rmtree(workdir / "checkpoints" / "6")
        train(TINY, run)  # from step 2
    with jax_sngan.runs.checkpoint.Checkpoints(workdir) as checkpoints:
        assert checkpoints.steps() == [2, 6]
        assert [checkpoints.metrics(s)["best_metric"] for s in (2, 6)] == [3.0, 7.0]
    assert jax_sngan.load(workdir, "best").step == 2
    evaluate = TrainingEvaluation(TINY, dataclasses.replace(run, evaluate_metrics="classes"))
    assert evaluate.sign == -1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluate_metrics": "fid"}, "unknown metric 'fid' with features classifier"),
        ({"evaluate_metrics": "nearest"}, "nearest cannot choose the best checkpoint"),
        ({"evaluate_metrics": "intra_fcd"}, "needs labels: a run in training has no classes"),
        ({"evaluate_metrics": "path_length"}, "needs generator"),
        ({"standing_statistics": 10}, "must be a multiple of 64, got 10"),
        ({"evaluate_real": "nowhere"}, "data 'nowhere'"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_training_refuses_before_anything_is_written(tmp_path: Path, changes: dict, words: str) -> None:
    run = RunConfig(workdir=str(tmp_path / "run"), evaluate_every=1, **changes)
    with pytest.raises(UserError, match=words):
        train(TINY, run)
    assert not (tmp_path / "run").exists()


def greys(folder: Path, count: int, *, size: int = 28, classes: int = 1) -> Path:
    """A folder of grey images, in class folders where there are several."""
    rng = np.random.default_rng(size)
    for i in range(count):
        path = folder / (f"class{i % classes}" if classes > 1 else "") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(path)
    return folder


@pytest.mark.usefixtures("quick")
def test_no_score_depends_on_how_files_are_called(tmp_path: Path) -> None:
    """Of the images scored, whole or a drawn part, and of the real ones; in memory and streamed."""
    folders = [greys(tmp_path / "a" / "x", 60, classes=3), tmp_path / "b" / "x"]
    for i, path in enumerate(sorted(folders[0].rglob("*.png"))):
        other = folders[1] / path.parent.name / f"{(i * 37) % 60:03d}.png"
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other)
    metrics = ["fcd", "fcd_inf", "kcd", "cs", "precision", "coverage", "classes", "intra_fcd", "nearest"]
    for num in (None, 30):
        results = [
            evaluation.evaluate(a, real=str(b), features=CLASSIFIER, metrics=metrics, num=num)["metrics"]
            for a in folders for b in folders
        ]  # fmt: skip
        assert all(result == results[0] for result in results)
    real = [jax_sngan.load_data(str(folders[0]), image_size=28, channels=1, stream=s) for s in ("never", "always")]
    np.testing.assert_array_equal(*(r.images[r.content_order()] for r in real))


@pytest.mark.usefixtures("quick")
def test_size_and_channels_are_those_of_most_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = greys(tmp_path / "x", 8)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "000.png")  # the first
    given = sources.GivenImages(folder)
    assert (given.image_size, given.channels, given.total) == (28, 1, 8)
    line = capsys.readouterr().err
    assert "not all 8 images are 28 pixels a side with 1 channels, and are brought to that: 1 of 40 x 3" in line
    greys(folder / "more", 4, size=32)
    greys(folder / "most", 4, size=36)
    with pytest.raises(
        UserError, match=r"images of 4 pixels a side \(7 of 28, 4 of 32, 4 of 36, 1 of 40\), none of them"
    ):
        sources.GivenImages(folder)


@pytest.mark.parametrize(
    ("metric", "images", "words"),
    [
        ("precision", 3, "precision needs at least 4 generated images, got 3"),
        ("fcd_inf", 19, "fcd_inf needs at least 20 generated images, got 19"),
        ("intra_fcd", 5, "intra_fcd needs at least 2 generated images of each class; class 2 has 1"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_too_few_images_are_known_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, images: int, words: str
) -> None:
    monkeypatch.setattr(evaluation, "reference", lambda *_: pytest.fail("features were taken"))
    made, real = greys(tmp_path / "made", images, classes=3), greys(tmp_path / "real", 60, classes=3)
    with pytest.raises(UserError, match=words):
        evaluation.evaluate(made, real=str(real), features=CLASSIFIER, metrics=[metric])
    few = greys(tmp_path / "few", 5, classes=3)
    for name, told in (("density", "at least 6 real images; folder:few has 5"), ("intra_fcd", "2 real images of each")):
        with pytest.raises(UserError, match=told):
            evaluation.evaluate(real, real=str(few), features=CLASSIFIER, metrics=[name])
    config = dataclasses.replace(TINY, data=str(few))
    run = RunConfig(workdir=str(tmp_path / "run"), evaluate_every=1, evaluate_metrics="density")
    with pytest.raises(UserError, match="at least 6 real images"):
        train(config, run)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_a_network_whose_data_are_not_known_has_no_default(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "converted"
    config = dataclasses.replace(TINY, name="mimicry", data="cifar10")
    with jax_sngan.runs.checkpoint.Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(jax_sngan.create_state(config), config, {}, [])
    with pytest.raises(UserError, match="a converted network, which does not say what it was trained on"):
        evaluation.evaluate(workdir, num=8, features=CLASSIFIER)
    with pytest.raises(UserError, match="a converted network, which does not say what it was trained on"):
        certify_run(workdir, num=8, ascent=0)
    assert certify_run(workdir, num=8, ascent=0, real="fashion")[0] == 0
    assert evaluation.evaluate(workdir, num=8, features=CLASSIFIER, real="fashion", metrics=["fcd"])["num"] == 8
    assert sources.open_subject(tiny_run, step="latest", raw=False, standing=0).source == "fashion"


def test_a_folder_without_labels_says_what_would_score_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = greys(tmp_path / "x", 30)
    with pytest.raises(UserError, match=r"folder:x has no such labels: take features that need none, --features incep"):
        evaluation.evaluate(folder, real=str(folder))


@pytest.mark.usefixtures("quick")
def test_statistics_files_of_fid_programs_are_real_images(tiny_run: Path, tmp_path: Path) -> None:
    real = pixels(jax_sngan.load_data("fashion", image_size=28, channels=1).images).astype(np.float64)
    stats = tmp_path / "stats.npz"
    np.savez(stats, mu=real.mean(0), sigma=np.cov(real, rowvar=False))
    whole = evaluation.evaluate(tiny_run, num=50, features=PIXELS)["metrics"]["fd_pixels_50_fashion"]
    found = evaluation.evaluate(tiny_run, num=50, features=PIXELS, real=str(stats))
    assert found["metrics"] == {"fd_pixels_50_stats": pytest.approx(whole, rel=1e-6)}
    assert (found["real"]["name"], found["real"]["count"]) == ("statistics:stats", None)
    for options, words in (
        ({"features": PIXELS, "metrics": ["kd"]}, "metric kd needs the real images: .* holds only their mu and sigma"),
        ({"features": "classifier"}, "holds mu and sigma of 16 features, and no images to train a classifier on"),
        ({"features": PIXELS, "split": "test"}, "split is of real images"),
        ({"features": of_function(lambda x: x.reshape(len(x), -1), "all")}, "mu and sigma of 16 features; all has 784"),
    ):
        with pytest.raises(UserError, match=words):
            evaluation.evaluate(tiny_run, num=50, real=str(stats), **options)
    for arrays in ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, {"mu": np.zeros(2), "sigma": np.diag([1.0, -1])}):
        np.savez(stats, **arrays)
        with pytest.raises(UserError, match=r"mu must be|is no covariance"):
            evaluation.evaluate(tiny_run, num=50, features=PIXELS, real=str(stats))


def test_an_onnx_file_without_its_program_is_one_line(
    script: Callable, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = script("evaluate.py", tiny_run, "--real", "fashion", "--features", "net.onnx")
    assert outcome.is_one_line("evaluate.py", "onnxruntime", "jax-sngan[export]"), outcome


def test_names_say_whose_features_they_are() -> None:
    assert {"fcd", "kcd", "cs", "intra_fcd"} < set(evaluation.scores.names("classifier"))
    assert {"fid", "kid", "is", "intra_fid"} < set(evaluation.scores.names("inception"))
    assert not {"fid", "kid", "is"} & set(evaluation.scores.names("vgg"))
    with pytest.raises(ValueError, match="name must not be 'inception'"):
        extractors.of_function(pixels, "inception")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["give what to score"]),
        (["nowhere"], ["no workdir nowhere"]),
        (["RUN", "--metrics", "fid"], ["unknown metric 'fid'", "--features inception", "there are: fcd, fcd_inf"]),
        (["RUN", "--num", "1"], ["num must be at least 2, got 1"]),
        (["RUN", "--num", "0"], ["num must be at least 2, got 0"]),
        (["RUN", "--metrics", "classes, fdc"], ["unknown metric 'fdc'"]),
        (["RUN", "--real", "fashion", "--split", "test"], ["fashion", "test"]),
        (["RUN", "--real", "fashion_mnist", "--data-dir", "/nowhere"], ["/nowhere"]),
        (["RUN", "--protocol", "10k_5k", "--num", "7"], ["num must be 5000 under protocol 10k_5k, got 7"]),
        (["RUN", "--real", "fashion", "--features", "vgg"], ["features must be classifier, inception", "'vgg'"]),
        (["RUN", "--real", "fashion", "--features", "w.pth"], ["no file w.pth", "pt_inception-2015-12-05"]),
        (["RUN", "--metrics", "path_length,intra_fcd", "--real", "fashion"], ["intra_fcd needs labels"]),
        (["--compare", "RUN", "RUN", "--seeds", "1"], ["at least 2 seeds, got 1"]),
    ],
)
def test_evaluating_refuses_in_one_line(
    script: Callable, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.setattr(evaluation.classifier, "load_classifier", lambda *_, **__: None)
    monkeypatch.setattr(extractors, "of_classifier", lambda _: CLASSIFIER)
    outcome = script("evaluate.py", *(str(tiny_run) if a == "RUN" else a for a in arguments))
    assert outcome.is_one_line("evaluate.py", *words), outcome


@pytest.mark.usefixtures("quick")
def test_the_script_prints_a_table_and_writes_json(script: Callable, tiny_run: Path, tmp_path: Path) -> None:
    outcome = script("evaluate.py", tiny_run, "--num", "50", "--seeds", "2", "--json", tmp_path / "scores.json")
    assert outcome.code == 0, outcome
    written = json.loads((tmp_path / "scores.json").read_text())
    assert {"step", "num", "metrics"} <= set(written)
    assert "fcd_50_fashion" in outcome.out
    assert "2 seeds" in outcome.out
    outcome = script("evaluate.py", "--compare", tiny_run, tiny_run, "--num", "50", "--seeds", "2")
    assert outcome.code == 0, outcome
    assert "paired t-test" in outcome.out
