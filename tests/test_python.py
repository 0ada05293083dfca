"""sn.train and Run: from Python what the commands do, to the bit; in memory, in a workdir, with anybody's networks."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import logs
import numpy as np
import optax
import pytest
from flax import nnx

import jax_sngan as sn
from conftest import TINY, TINY_OPTIONS, start
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.nn.spectral_norm import SpectralNorm
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.great_circles import great_circle
from jax_sngan.runs.log import repeatable
from jax_sngan.system.errors import UserError

OFTEN: dict[str, Any] = {"log_every": 2, "sample_every": 3, "checkpoint_every": 3}
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 28, 28, 1), np.uint8)
POINTS = replace(
    TINY,
    {"model.architecture": "mlp", "model.channels": 2, "model.image_size": 1, "model.output": "identity"},
)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def run() -> sn.Run:
    """tiny_run's training once more, in memory."""
    return sn.train(TINY, **OFTEN)


def state_of(workdir: Path, step: int, gan: sn.GAN | None = None) -> Any:
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(step, checkpoints.choose(step, gan).like)


def assert_same_run(a: Path, b: Path, step: int, gan: sn.GAN | None = None) -> None:
    assert logs.texts(a) == logs.texts(b)
    assert [p.name for p in sorted((a / "samples").iterdir())] == [p.name for p in sorted((b / "samples").iterdir())]
    for picture in (a / "samples").iterdir():
        assert picture.read_bytes() == (b / "samples" / picture.name).read_bytes(), picture.name
    jax.tree.map(np.testing.assert_array_equal, state_of(a, step, gan), state_of(b, step, gan))


# The same run, whoever starts it ------------------------------------------------------------------------------------


def test_memory_and_workdir_and_command_are_one_run(run: sn.Run, tiny_run: Path, tmp_path: Path) -> None:
    run.save(tmp_path / "saved")
    assert_same_run(tiny_run, tmp_path / "saved", 6)
    assert (tmp_path / "saved/config.json").read_text() == (tiny_run / "config.json").read_text()
    assert "--resume=must" in (tmp_path / "saved/README.txt").read_text()
    inside = sn.train(TINY, workdir=tmp_path / "inside", **OFTEN)
    assert_same_run(tiny_run, tmp_path / "inside", 6)
    np.testing.assert_array_equal(inside.sample(3), run.sample(3))


def test_a_preset_by_name_is_the_command_lines(programs: dict[str, str], tmp_path: Path) -> None:
    command = start("train_jax.py", [*TINY_OPTIONS, "--workdir=command"], tmp_path, programs)
    sizes = {"model.generator_width": 2, "model.discriminator_width": 2, "model.latent_size": 4}
    here = sn.train("fashion", steps=6, batch_size=4, n_dis=2, **OFTEN, **sizes)
    _, err = command.communicate(timeout=240)
    assert command.returncode == 0, err
    here.save(tmp_path / "here")
    # This process runs programs without XLA's optimisation (conftest.py), and so to rounding alone.
    # In G's biases before its batch normalisation Adam makes steps of rounding: what has these in it is left out.
    of_biases = {"g_average_distance", "g_update_norm"}
    for a, b in zip(*(logs.lines(tmp_path / name) for name in ("command", "here")), strict=True):
        rest = ({name: v for name, v in line.items() if name not in of_biases} for line in (a, b))
        assert next(rest) == pytest.approx(next(rest), rel=1e-4, abs=1e-5)
    assert here.config == sn.load(tmp_path / "command").config


def test_ctrl_c_leaves_a_run_that_can_be_used_and_goes_on_to_the_same_bits(tiny_run: Path, tmp_path: Path) -> None:
    def interrupts(step: int, numbers: dict[str, float]) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    part = sn.train(TINY, callbacks=[interrupts], **OFTEN)
    assert signal.getsignal(signal.SIGINT) is before
    assert part.step == 2
    assert part.sample(2).shape == (2, 28, 28, 1)
    part.save(tmp_path / "saved")
    sn.train(TINY, workdir=tmp_path / "saved", resume="must", **OFTEN)
    assert_same_run(tiny_run, tmp_path / "saved", 6)
    inside = sn.train(TINY, workdir=tmp_path / "inside", callbacks=[interrupts], **OFTEN)
    assert inside.step == 2
    assert sn.train(TINY, workdir=tmp_path / "inside", **OFTEN).step == 6
    assert_same_run(tiny_run, tmp_path / "inside", 6)


def test_a_second_ctrl_c_is_pythons() -> None:
    def interrupts(step: int, numbers: dict[str, float]) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sn.train(TINY, callbacks=[interrupts], **OFTEN)


def test_callbacks_get_every_line_of_the_log(tiny_run: Path) -> None:
    seen: list[dict[str, float]] = []
    sn.train(TINY, callbacks=[lambda step, numbers: seen.append({"step": step} | numbers)], **OFTEN)
    assert [repeatable(line) for line in seen] == logs.lines(tiny_run)
    assert all(line["images_per_second"] > 0 and line["memory_mb"] > 0 and line["data_wait_s"] >= 0 for line in seen)


def test_in_memory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sn.train(TINY, evaluate_every=0, **OFTEN).sample(2)
    assert not list(tmp_path.iterdir())


def test_a_rollback_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from jax_sngan.core import inputs
    from jax_sngan.training import backend

    def poisoned(own: Any, data: Any, step: int, rollbacks: int = 0) -> inputs.Inputs:
        drawn = inputs.draw_inputs(own, data, step, rollbacks)
        bad = step == 4 and not rollbacks
        return drawn._replace(real_images=drawn.real_images * np.float32(np.nan)) if bad else drawn

    config = replace(POINTS, {"data": "ring", "model.generator_norm": "none"})
    monkeypatch.setattr(backend, "draw_inputs", poisoned)
    lines: list[int] = []
    run = sn.train(config, on_nan="rollback", callbacks=[lambda step, _: lines.append(step)], **OFTEN)
    assert run.step == 6
    assert lines == [2, 4, 4, 6]
    with pytest.raises(ArithmeticError, match="step 5; the checkpoint of step 3 is kept in memory"):
        sn.train(config, **OFTEN)


def test_a_notebook_sees_a_bar_and_each_grid_in_the_place_of_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """IPython is not installed where this runs: what is asked of it stands in its place."""
    displayed: list[dict[str, Any]] = []
    display = types.ModuleType("IPython.display")
    display.Image = lambda data: data[:4]  # type: ignore[attr-defined]
    display.display = lambda image, **how: displayed.append({"image": image} | how)  # type: ignore[attr-defined]
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    sn.train(TINY, **OFTEN)
    same = {"image": b"\x89PNG", "display_id": "jax_sngan"}
    assert displayed == [same | {"update": False}, same | {"update": True}]
    assert "6/6" in capsys.readouterr().err  # the bar, where IPython's widgets are not


# What a Run does ----------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_is(run: sn.Run) -> None:
    assert repr(run) == "Run(tiny, step 6, 28x28x1 images, unconditional)"
    assert (run.config, run.step, run.classes, run.gan) == (TINY, 6, 0, sn.gan(TINY))
    assert run._repr_png_()[:4] == b"\x89PNG"


def test_latents_are_those_that_sample_draws(run: sn.Run) -> None:
    assert run.latents(2, seed=1).shape == (2, 4)
    np.testing.assert_array_equal(run.images(run.latents(5, seed=1)), run.sample(5, seed=1))


def test_truncation_cuts_the_distribution_off(run: sn.Run) -> None:
    whole, cut = run.latents(500, seed=2), run.latents(500, seed=2, truncation=0.5)
    assert np.abs(cut).max() <= 0.5
    assert np.abs(cut).max() > 0.49
    assert abs(np.var(cut) - 0.0805) < 0.01  # of N(0, 1) between -0.5 and 0.5, by its closed form
    order = np.argsort(whole.ravel())
    assert np.all(np.diff(cut.ravel()[order]) >= 0)  # each keeps its place
    np.testing.assert_allclose(run.latents(500, seed=2, truncation=20.0), whole, atol=1e-5)
    np.testing.assert_array_equal(run.sample(3, truncation=0.5), run.images(run.latents(3, truncation=0.5)))


def test_a_score_is_the_discriminators_of_its_image_alone(run: sn.Run) -> None:
    from jax_sngan.core.pixels import to_float

    images = IMAGES[:5]
    scores = run.score(images)
    assert scores.shape == (5,)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(run.score(images[2:3]), scores[2:3])
    np.testing.assert_array_equal(run.score(np.concatenate([IMAGES] * 3))[:5], scores)
    d = sn.gan(TINY).networks.discriminator
    expected = d.apply(run._state().discriminator, to_float(jnp.asarray(images), jnp.dtype("float32")), train=False)[0]
    np.testing.assert_allclose(scores, np.asarray(expected), rtol=1e-5, atol=1e-6)


def test_scores_of_classes_need_labels() -> None:
    config = replace(TINY, {"model.num_classes": 3, "steps": 1})
    run = sn.train(config, data=IMAGES, labels=np.arange(32) % 3)
    assert run.classes == 3
    assert repr(run) == "Run(tiny, step 1, 28x28x1 images, 3 classes)"
    with pytest.raises(UserError, match="labels must be given: the images' classes, numbers from 0 to 2"):
        run.score(IMAGES[:2])
    one, two = run.score(IMAGES[:2], labels=[0, 1]), run.score(IMAGES[:2], labels=1)
    assert one[1] == two[1]
    assert one[0] != two[0]


def test_points_are_scored_as_they_are() -> None:
    run = sn.train(replace(POINTS, {"steps": 1}), data=sn.load_data("ring", image_size=1, channels=2))
    assert run.sample(3).shape == (3, 1, 1, 2)
    assert run.score(run.sample(3)).shape == (3,)
    assert repr(run) == "Run(tiny, step 1, points, unconditional)"
    assert run.config.data == "given from Python"
    assert run._repr_png_()[:4] == b"\x89PNG"


def test_a_loaded_run_reads_what_it_is_asked_for(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    restore, restore_part = Checkpoints.restore, Checkpoints.restore_part
    monkeypatch.setattr(
        Checkpoints, "restore", lambda self, step, like: read.append("all") or restore(self, step, like)
    )
    monkeypatch.setattr(Checkpoints, "restore_part", lambda self, *of: read.extend(of[2:]) or restore_part(self, *of))
    run = sn.load(tiny_run, step=3)
    images = run.sample(3)
    assert read == ["generator", "generator_ema"]
    assert run.score(images).shape == run.score(images).shape == (3,)
    assert read[2:] == ["discriminator"]
    run.save(tmp_path / "third")
    assert read[3:] == ["all"]
    jax.tree.map(np.testing.assert_array_equal, state_of(tiny_run, 3), state_of(tmp_path / "third", 3))
    assert [json.loads(x)["step"] for x in (tmp_path / "third/metrics.jsonl").read_text().splitlines()] == [2]
    sn.train(TINY, workdir=tmp_path / "third", **(OFTEN | {"sample_every": 0}))
    third, whole = (
        [{name: v for name, v in line.items() if name != "g_spread"} for line in logs.lines(workdir)]  # of the samples
        for workdir in (tmp_path / "third", tiny_run)
    )
    assert third == whole
    jax.tree.map(np.testing.assert_array_equal, state_of(tiny_run, 6), state_of(tmp_path / "third", 6))


def test_saving_overwrites_nothing(run: sn.Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    for _ in range(2):
        with pytest.raises(UserError, match="mine exists and is not an empty folder"):
            run.save(tmp_path / "mine")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "notes.txt"]


# What it is given ---------------------------------------------------------------------------------------------------


def test_a_dataset_and_its_name_are_the_same_data(run: sn.Run) -> None:
    data = sn.load_data("fashion", image_size=28, channels=1)
    again = sn.train(TINY, data=data, **OFTEN)
    assert again.config == TINY
    np.testing.assert_array_equal(again.sample(4), run.sample(4))


def test_an_array_goes_on_where_it_is_given_again(tmp_path: Path) -> None:
    config = replace(TINY, {"flip": False})
    whole = sn.train(config, data=IMAGES, **OFTEN)
    sn.train(replace(config, {"steps": 3}), data=IMAGES, workdir=tmp_path / "run", **(OFTEN | {"log_every": 1}))
    with pytest.raises(UserError, match="was trained on other data"):
        sn.train(config, data=255 - IMAGES, workdir=tmp_path / "run")
    with pytest.raises(UserError, match="data: given from Python -> fashion"):
        sn.train(config, workdir=tmp_path / "run")
    rest = sn.train(config, data=IMAGES, workdir=tmp_path / "run", **OFTEN)
    np.testing.assert_array_equal(rest.sample(4), whole.sample(4))
    with pytest.raises(UserError, match="images were given from Python: give them again"):
        sn.train(rest.config)


@pytest.mark.parametrize(
    ("what", "arguments", "words"),
    [
        ("nowhere", {}, "unknown preset 'nowhere'"),
        (3, {}, "train takes a preset's name, a TrainConfig or a GAN, got int"),
        (TINY, {"stepz": 3}, r"train has no argument 'stepz'; did you mean step or steps\?"),
        (TINY, {"epochs": 3}, r"train has no argument 'epochs'; did you mean steps\?"),
        (TINY, {"steps": 0}, "steps must be at least 1, got 0"),
        (TINY, {"steps": "3"}, "steps must be int, got '3'"),
        (TINY, {"mesh": "data=3"}, "batch_size must be a multiple of the mesh's 3 devices, got 4"),
        (TINY, {"model.widths": 3}, "unknown option 'widths'"),
        (TINY, {"data": IMAGES[0]}, r"data must be uint8 \[n, h, w, c\], got uint8 \[28, 28, 1\]"),
        (TINY, {"data": IMAGES[:, :14]}, r"data must be uint8 \[n, 28, 28, 1\] .*, got uint8 \[n, 14, 28, 1\]"),
        (TINY, {"data": IMAGES / 255}, r"data must be uint8 \[n, h, w, c\], got float64 \[32, 28, 28, 1\]"),
        (TINY, {"data": IMAGES, "labels": [1, 2]}, r"labels must be 32 numbers from 0, one an image, got \[2\]"),
        (TINY, {"labels": [1, 2]}, "labels are of an array of images"),
        (TINY, {"data": "nowhere"}, "nowhere"),
        (TINY, {"resume": "must"}, "resume is of a run in a workdir, got resume='must' and no workdir"),
        (TINY, {"callbacks": [3]}, "callbacks must be a list of functions"),
        (TINY, {"callbacks": print}, "callbacks must be a list of functions"),
        (sn.gan(TINY), {"n_dis": 3}, r"n_dis is the GAN's to decide: dataclasses\.replace\(gan, n_dis=…\)"),
    ],
)
def test_what_is_wrong_is_one_sentence(what: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        sn.train(what, **arguments)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: run.sample(1.5), "num must be a whole number, got 1.5"),
        (lambda run: run.sample(1, seed="a"), "seed must be from 0 to"),
        (lambda run: run.sample(1, truncation="a"), "truncation must be above 0, got 'a'"),
        (lambda run: run.images([[1.0, 2.0]]), r"latents must be \[n, 4\], got \[1, 2\]"),
        (lambda run: run.images([["a"] * 4]), "latents must be numbers, got <U1"),
        (lambda run: run.images(np.full((1, 4), 1e300)), r"latents must be finite in float32, got 1e\+300"),
        (lambda run: run.interpolate(np.zeros(4), np.zeros(3)), r"b must be \[n, 4\], got \[1, 3\]"),
        (lambda run: run.interpolate(np.zeros(4), np.zeros((1, 4))), r"b must be of a's shape \[4\], got \[1, 4\]"),
        (lambda run: run.interpolate(np.zeros(4), np.ones(4), 1), "frames must be at least 2, got 1"),
        (lambda run: run.interpolate(np.full(4, np.nan), np.ones(4)), "a must be finite in float32, got nan"),
        (lambda run: run.sample(0), "num must be at least 1, got 0"),
        (lambda run: run.latents(1, seed=-1), r"seed must be from 0 to 2\*\*32 - 1, got -1"),
        (lambda run: run.sample(1, truncation=0.0), "truncation must be above 0, got 0"),
        (lambda run: run.images(np.zeros((2, 5))), r"latents must be \[n, 4\], got \[2, 5\]"),
        (lambda run: run.sample(2, labels=[0, 0]), "this model is unconditional"),
        (lambda run: run.score(IMAGES[0]), r"images must be uint8 \[n, 28, 28, 1\], got uint8 \[28, 28, 1\]"),
        (lambda run: run.score(IMAGES / 255), r"images must be uint8 \[n, 28, 28, 1\], got float64"),
    ],
)
def test_what_a_run_cannot_do_is_one_sentence(run: sn.Run, call: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call(run)


def test_an_interpolation_follows_the_great_circle(run: sn.Run) -> None:
    a, b = run.latents(2, seed=3)
    images = run.interpolate(a, b, frames=5)
    assert images.shape == (5, 28, 28, 1)
    np.testing.assert_array_equal(images[[0, -1]], run.images(np.stack([a, b])))
    middle = run.images(great_circle(a[None].astype(np.float64), b[None].astype(np.float64), 0.5))
    np.testing.assert_array_equal(images[2], middle[0])
    several = run.interpolate(np.stack([a, a, a]), np.stack([b, a, -a]))  # equal and opposite ones too
    assert several.shape == (24, 3, 28, 28, 1)
    assert (several[:, 1] == several[0, 1]).all()
    np.testing.assert_array_equal(several[-1, 2], run.images(-a[None])[0])
    assert len({image.tobytes() for image in several[:, 2]}) > 12


def test_classes_go_by_number_or_name(tmp_path: Path) -> None:
    config = replace(TINY, {"model.num_classes": 3, "steps": 1})
    data = sn.Dataset("pets", IMAGES, (np.arange(32) % 3).astype(np.int32), ("cat", "dog", "a, b"), flip=True)
    run = sn.train(config, data=data)
    assert run.class_names == ("cat", "dog", "a, b")
    assert repr(run) == "Run(tiny, step 1, 28x28x1 images, 3 classes: cat, dog, a, b)"
    for labels, same in (("dog", 1), (["dog"], [1]), (["cat", 2], [0, 2]), ("dog,cat", [1, 0]), ("a, b", 2)):
        np.testing.assert_array_equal(run.sample(2, labels=labels), run.sample(2, labels=same))
    np.testing.assert_array_equal(run.score(IMAGES[:2], "dog"), run.score(IMAGES[:2], 1))
    a, b = run.latents(2)
    np.testing.assert_array_equal(run.interpolate(a, b, 2, "dog"), run.sample(2, labels=[1, 1]))
    for labels in ("bird", ["bird", "cat"], [0, 3], [0, 1, 2], [0.5, 1.0], [[0], [1, 2]], [], True, -1):
        with pytest.raises(UserError, match=r"labels must be .*(number|name)") as told:
            run.sample(2, labels=labels)  # type: ignore[arg-type]
        assert "\n" not in str(told.value)
    run.save(tmp_path / "run")
    assert sn.load(tmp_path / "run").class_names == run.class_names
    assert sn.train(config, data=data, workdir=tmp_path / "run").step == 1


def test_a_gan_of_ones_own_takes_its_classes_by_name(tmp_path: Path) -> None:
    gan = sn.gan(replace(TINY, {"model.num_classes": 3}))
    data = sn.Dataset("pets", IMAGES, (np.arange(32) % 3).astype(np.int32), ("cat", "dog", "a, b"), flip=True)
    options = {"data": data, "steps": 1, "batch_size": 4}
    run = sn.train(gan, workdir=tmp_path / "run", **options)  # type: ignore[arg-type]
    assert run.class_names == sn.load(tmp_path / "run", gan=gan).class_names == data.classes
    np.testing.assert_array_equal(run.sample(2, labels=["cat", "a, b"]), run.sample(2, labels=[0, 2]))
    numbered = dataclasses.replace(data, classes=("0", "1", "2"))
    assert sn.train(gan, **options | {"data": numbered}, class_names="x,y,z").class_names == ("x", "y", "z")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="class_names must be 3 names for num_classes=3, got 2"):
        sn.train(gan, **options, class_names="x,y")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="class_names must be 0 names for num_classes=0, got 2"):
        sn.train(replace(TINY, {"class_names": "x,y"}), data=data)


def test_two_devices_in_memory(tmp_path: Path) -> None:
    lines: list[list[float]] = [[], []]
    for of, mesh in zip(lines, ({"mesh": "data=2", "shard_state": True}, {}), strict=True):
        both = sn.train(TINY, callbacks=[lambda _, numbers, of=of: of.extend(numbers.values())], **mesh, **OFTEN)  # type: ignore[misc]
        if mesh:
            both.save(tmp_path / "run")
            np.testing.assert_array_equal(sn.load(tmp_path / "run").sample(2), both.sample(2))
    assert lines[0][:4] == pytest.approx(lines[1][:4], rel=1e-4, abs=1e-5)  # rounding alone, which steps then amplify


def test_training_from_python_loads_no_torch(programs: dict[str, str]) -> None:
    code = (
        "import sys, jax_sngan as sn\n"
        "sizes = {'model.generator_width': 2, 'model.discriminator_width': 2, 'batch_size': 4, 'n_dis': 1}\n"
        "run = sn.train('fashion', steps=2, **sizes)\n"
        "run.score(run.sample(2))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=programs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Anybody's networks -------------------------------------------------------------------------------------------------


class OwnD(nnx.Module):
    """A discriminator of flax's layers, one of them under spectral norm."""

    def __init__(self, rngs: nnx.Rngs):
        exact = {"dtype": jnp.float32, "param_dtype": jnp.float32}
        self.first = SpectralNorm(nnx.Conv(1, 4, (3, 3), strides=4, rngs=rngs, **exact), rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs, **exact)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.first(images)).mean((1, 2)))[:, 0]


def own_d(real: jax.Array, fake: jax.Array) -> jax.Array:
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def own_g(real: jax.Array | None, fake: jax.Array) -> jax.Array:
    return jnp.mean(jax.nn.softplus(-fake))


def own_gan(config: TrainConfig) -> sn.GAN:
    return dataclasses.replace(
        sn.gan(config), discriminator=OwnD, loss=sn.Loss(own_d, own_g), discriminator_optimizer=ADAMW
    )


ADAMW = optax.adamw(2e-4, b1=0.0, b2=0.9)


@pytest.fixture
def _as_users_have_it() -> Iterator[None]:
    """optax's own optimisers rely on what this suite forbids (conftest.py)."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("_as_users_have_it")
def test_a_gan_of_ones_own_trains_saves_and_goes_on(tmp_path: Path) -> None:
    gan = own_gan(TINY)
    data = sn.load_data("fashion", image_size=28, channels=1)
    options: dict[str, Any] = {"data": data, "batch_size": 4, **OFTEN}
    whole = sn.train(gan, steps=6, **options)
    assert repr(whole) == "Run(custom, step 6, 28x28x1 images, unconditional)"
    whole.save(tmp_path / "whole")

    def interrupts(step: int, numbers: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    assert sn.train(gan, steps=6, workdir=tmp_path / "cut", callbacks=[interrupts], **options).step == 2
    assert sn.train(gan, steps=6, workdir=tmp_path / "cut", **options).step == 6
    assert_same_run(tmp_path / "whole", tmp_path / "cut", 6, gan)
    with pytest.raises(UserError, match="is of a GAN of its own, a GAN given from Python: give it again, by --gan or"):
        sn.load(tmp_path / "cut")
    loaded = sn.load(tmp_path / "cut", gan=gan)
    np.testing.assert_array_equal(loaded.sample(4), whole.sample(4))
    np.testing.assert_array_equal(loaded.score(IMAGES[:3]), whole.score(IMAGES[:3]))
    with pytest.raises(UserError, match="is of another GAN"):
        sn.load(tmp_path / "cut", gan=dataclasses.replace(gan, discriminator_optimizer=optax.sgd(0.1))).save(
            tmp_path / "x"
        )
