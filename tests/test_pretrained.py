"""Generators that ship with the package: a Run without a discriminator, small, with its card, made by a command."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jax_sngan
from conftest import TINY
from jax_sngan.config.class_names import text_of
from jax_sngan.config.schema import replace
from jax_sngan.core.gan import as_gan
from jax_sngan.core.state import create_state
from jax_sngan.runs import pretrained
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.provenance import provenance
from jax_sngan.runs.workdir import prepare
from jax_sngan.system.errors import UserError

KINDS = ("cat", "dog")
SHIPPED = pretrained.names()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """In the place of the package's own."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def workdir(tmp_path):
    """A run of two classes by name whose weights nobody trained: bold ones, so that its images and classes differ."""
    config = replace(TINY, {"model.num_classes": 2, "class_names": text_of(KINDS)})
    state = create_state(as_gan(config))
    rng = np.random.default_rng(0)
    bold = jax.tree.map(lambda a: 2 * a + rng.normal(0, 0.1, a.shape).astype(a.dtype), state.generator_ema)
    out = tmp_path / "run"
    out.mkdir()
    with Checkpoints(out, keep=1) as checkpoints:
        checkpoints.save(
            state._replace(step=np.int32(6), generator_ema=bold), config, {}, [], origin=provenance("jax", None, None)
        )
    prepare(out, config, "sample")
    return out


@pytest.fixture
def scores(tmp_path):
    told = {
        "step": 6,
        "num": 20,
        "metrics": {"fcd_20_test": 12.5},
        "intervals": {},
        "seeds": [0],
        "real": {"name": "fashion_mnist", "split": "test", "count": 10000},
        "extractor": {"name": "classifier"},
    }
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(told))
    return path


def options(scores):
    return ["--scores", scores, "--training=sngan train", "--data-licence=MIT, somebody"]


def test_what_is_packed_comes_back_as_a_run(script, workdir, scores, folder, tmp_path):
    made = script("make_pretrained.py", workdir, "pets", *options(scores))
    assert made.code == 0, made
    assert {path.name for path in folder.iterdir()} == {"pets.npz", "pets.json", "pets.md"}
    own, run = jax_sngan.load(workdir), jax_sngan.pretrained("pets")
    assert run.card["dtype"] == "float16"
    apart = np.abs(own.sample(200, seed=3).astype(int) - run.sample(200, seed=3))
    assert apart.max() <= 1
    assert run.sample(64).std() > 4  # images that differ, or the line above would say nothing
    np.testing.assert_array_equal(run.sample(4, labels="dog"), run.sample(4, labels=1))
    assert not np.array_equal(run.sample(4, labels="dog"), run.sample(4, labels="cat"))
    assert run.interpolate(*run.latents(2), frames=3, labels="cat").shape == (3, 28, 28, 1)
    assert repr(run) == "Run(tiny, step 6, 28x28x1 images, 2 classes: cat, dog; pretrained, no discriminator)"
    assert (run.config, run.step, run.class_names) == (own.config, 6, KINDS)
    with pytest.raises(UserError, match="the pretrained pets has no discriminator"):
        run.score(run.sample(2), labels="cat")
    card = (folder / "pets.md").read_text()
    for told in ("MIT, somebody", "`sngan train`", "| `fcd_20_test` | 12.5 |", "model.num_classes 2", "float16"):
        assert told in card


def test_a_saved_one_is_a_workdir_and_says_what_it_lacks(script, workdir, scores, folder, tmp_path, capfd):
    script("make_pretrained.py", workdir, "pets", *options(scores))
    run = jax_sngan.pretrained("pets")
    capfd.readouterr()
    run.save(tmp_path / "saved")
    assert "the generator alone is trained" in capfd.readouterr().out
    again = jax_sngan.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.sample(5), run.sample(5))
    assert again.step == 6


def test_the_command_samples_one(script, workdir, scores, folder, tmp_path):
    script("make_pretrained.py", workdir, "pets", *options(scores))
    assert script("sample.py", "pets", "--pretrained", "--num=4", "--labels=dog", "--npz=a.npz").code == 0
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["images"], jax_sngan.pretrained("pets").sample(4, labels="dog"))
    drawn = script("sample.py", "pets", "--pretrained", "--seed=2")
    assert drawn.out.strip() == "pets_000006_seed2.png"
    assert (tmp_path / "pets_000006_seed2.png").stat().st_size
    for option in ("--step=6", "--raw", "--gan=a:b"):
        assert script("sample.py", "pets", "--pretrained", option).is_one_line(option.split("=")[0], "--pretrained")
    assert script("sample.py", "pet", "--pretrained").is_one_line("no pretrained 'pet'", "pets")


def test_a_file_that_is_not_the_cards_is_refused(script, workdir, scores, folder):
    script("make_pretrained.py", workdir, "pets", *options(scores))
    path = folder / "pets.npz"
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    with pytest.raises(UserError, match="is not the file that its card names: install the package again"):
        jax_sngan.pretrained("pets")
    path.unlink()
    with pytest.raises(UserError, match="is not the file"):
        jax_sngan.pretrained("pets")


def test_what_is_missing_is_named(script, workdir, scores, folder, tmp_path):
    assert script("make_pretrained.py", workdir, "pets").is_one_line("--scores", "the card says it")
    told = json.loads(scores.read_text())
    scores.write_text(json.dumps(told | {"step": 5}))
    assert script("make_pretrained.py", workdir, "pets", *options(scores)).is_one_line("step 5", "the run is at step 6")
    scores.write_text("[]")
    assert script("make_pretrained.py", workdir, "pets", *options(scores)).is_one_line("nothing that `evaluate` wrote")
    assert not folder.exists()


def test_there_is_one_of_the_default():
    assert "fashion" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_small_says_whence_it_is_and_draws_what_it_learnt(name):
    run = jax_sngan.pretrained(name)
    path = pretrained.FOLDER / f"{name}.npz"
    assert path.stat().st_size < 2_000_000
    assert run.card["grey_levels"] <= 1
    assert all(run.card[part] for part in ("licence", "data_licence", "training", "packing"))
    assert run.card["scores"]["metrics"]
    card = (pretrained.FOLDER / f"{name}.md").read_text()
    assert f"after {run.step:,} of its {run.config.steps:,} steps: `jax_sngan.pretrained('{name}')`" in card
    images = run.sample(256).astype(float)
    m = run.config.model
    real = jax_sngan.load_data(run.config.data, image_size=m.image_size, channels=m.channels).images.astype(float)
    assert np.abs(images.mean(0) - real.mean(0)).mean() < 12  # grey levels; of images of noise 60
    assert np.abs(images.std(0) - real.std(0)).mean() < 20


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(UserError, match="no pretrained 'cifar10'; there are: fashion"):
        jax_sngan.pretrained("cifar10")


def test_names_are_files(folder: Path):
    assert pretrained.names() == []
