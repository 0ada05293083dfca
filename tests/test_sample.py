"""Images from a checkpoint: same seed, same pixels, however many and however asked for."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jax_sngan
from conftest import TINY
from jax_sngan.config.schema import replace
from jax_sngan.runs.great_circles import great_circle
from jax_sngan.runs.labels import names_of, numbers_of
from jax_sngan.runs.sample import CHUNK, Generator
from jax_sngan.system.errors import UserError


def test_the_same_seed_gives_the_same_pixels(tiny_run: Path) -> None:
    first, again = (jax_sngan.load(tiny_run).sample(5, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    assert first.shape == (5, 28, 28, 1)
    assert not np.array_equal(first, jax_sngan.load(tiny_run).sample(5, seed=2))


def test_an_image_does_not_depend_on_how_many_there_are(tiny_run: Path) -> None:
    generator = jax_sngan.load(tiny_run)
    many = generator.sample(CHUNK + 3)
    np.testing.assert_array_equal(many[:2], generator.sample(2))
    assert len(many) == CHUNK + 3


def test_steps_and_weights_can_be_chosen(tiny_run: Path) -> None:
    latest, third, raw = (
        jax_sngan.load(tiny_run, **how) for how in ({}, {"step": 3}, {"step": "latest", "average": False})
    )
    assert (latest.step, third.step, raw.step) == (6, 3, 6)
    assert latest.config == TINY
    images = [g.sample(8) for g in (latest, third, raw)]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_a_checkpoint_gives_what_the_run_drew(tiny_run: Path) -> None:
    """The grid of the training loop and the one from the checkpoint are the same picture."""
    sheet = np.asarray(Image.open(tiny_run / "samples" / "000006.png"))[::2, ::2]
    images = jax_sngan.load(tiny_run).sample(64, seed=TINY.seed)[..., 0]
    np.testing.assert_array_equal(sheet, images.reshape(8, 8, 28, 28).transpose(0, 2, 1, 3).reshape(224, 224))


def test_the_script_writes_what_it_says(script: Callable, tiny_run: Path, tmp_path: Path) -> None:
    outcome = script(
        "sample.py", tiny_run, "--num", 10, "--seed", 3, "--grid", "g.png", "--npz", "a.npz",
        "--interpolate", "walk.gif", "--json", "out.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert outcome.out.split() == ["g.png", "a.npz", "walk.gif"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], jax_sngan.load(tiny_run).sample(10, seed=3))
        assert arrays["step"] == 6
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.size == (4 * 28 * 2, 3 * 28 * 2)
    with Image.open(tmp_path / "walk.gif") as walk:
        assert walk.n_frames > 10
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "step": 6, "num": 10, "files": ["g.png", "a.npz", "walk.gif"],
    }  # fmt: skip


def test_without_a_file_a_grid_goes_to_the_workdir(script: Callable, tiny_run: Path) -> None:
    outcome = script("sample.py", tiny_run, "--step", 3, "--seed", 9)
    assert outcome.code == 0, outcome
    path = tiny_run / "samples" / "sample_000003_seed9.png"
    assert outcome.out.strip() == str(path)
    path.unlink()


def test_classes_can_be_chosen_where_there_are_classes() -> None:
    config = replace(TINY, {"model.num_classes": 3})
    generator = Generator(config, 0, jax_sngan.create_state(config).generator)
    np.testing.assert_array_equal(generator.labels(5, None), [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(generator.labels(2, [2]), [2, 2])
    for wrong in ([3, 0], [-1, 0], [0, 1, 2]):
        with pytest.raises(UserError, match="labels must be 2 numbers from 0 to 2"):
            generator.sample(2, labels=wrong)


def test_classes_may_be_named() -> None:
    names = ("cat", "1", "a, b", "3")
    for text, numbers in (
        ("cat", [0]), ("cat,1", [0, 1]), ("a, b", [2]), ("2,0", [2, 0]), ("name:3", [3]), ("number:0,3", [0, 3]),
    ):  # fmt: skip
        np.testing.assert_array_equal(numbers_of(text, names), numbers)
    ten = tuple(str(i) for i in range(1, 11))  # folders 1 to 10, numbered from 0
    with pytest.raises(UserError, match="'3' is the name of class number 2, and class number 3 has another"):
        numbers_of("3", ten)
    assert numbers_of("name:3,number:3,0", ten).tolist() == [2, 3, 0]
    with pytest.raises(UserError, match="numbers or names of classes, parted by commas, got 'dog': cat, 1, a, b, 3"):
        numbers_of("dog", names)
    config = replace(TINY, {"model.num_classes": 10})
    assert names_of(config)[1] == "Trouser"
    assert names_of(replace(config, {"class_names": "0,1,2,3,4,5,6,7,8,x"}))[9] == "x"
    assert names_of(TINY) == ()


def test_many_images_are_written_as_they_are_made(
    script: Callable, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never all at once; of the picture a person sees the first."""
    monkeypatch.setattr("jax_sngan.commands.sample.BATCH", CHUNK)
    monkeypatch.setattr("jax_sngan.runs.pictures.SIDE", 4 * 2 * 28)
    asked: list[int] = []
    real = jax_sngan.runs.run.Run.images
    monkeypatch.setattr(
        jax_sngan.runs.run.Run, "images", lambda self, z, y=None: asked.append(len(z)) or real(self, z, y)
    )
    outcome = script("sample.py", tiny_run, "--num", 300, "--npz", "a.npz", "--grid", "g.png")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines() == ["g.png (the first 16 of 300 images)", "a.npz"]
    assert max(asked) == CHUNK
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], jax_sngan.load(tiny_run).sample(300))
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.size == (4 * 28 * 2, 4 * 28 * 2)
    asked.clear()
    assert script("sample.py", tiny_run, "--num", 300, "--grid", "g.png").code == 0
    assert sum(asked) <= CHUNK  # what nobody sees is not made


def test_standing_statistics_and_truncation_are_options(script: Callable, tiny_run: Path, tmp_path: Path) -> None:
    outcome = script(
        "sample.py", tiny_run, "--num", 3, "--npz", "a.npz", "--standing-statistics", 64, "--truncation", "0.5"
    )
    assert outcome.code == 0, outcome
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        expected = jax_sngan.load(tiny_run, standing=64).sample(3, truncation=0.5)
        np.testing.assert_array_equal(arrays["images"], expected)
    assert script("sample.py", tiny_run, "--standing-statistics", 65).is_one_line("multiple of 64, got 65")
    assert script("sample.py", tiny_run, "--truncation", "0").is_one_line("truncation must be above 0")


def test_exports_take_standing_statistics(tiny_run: Path) -> None:
    from jax_sngan.export.export import load_trained

    stored, standing = (load_trained(tiny_run, standing=n).variables.batch for n in (0, 64))
    jax.tree.map(np.testing.assert_array_equal, standing, jax_sngan.load(tiny_run, standing=64).variables.batch)
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(stored), jax.tree.leaves(standing), strict=True))


def test_a_great_circle_keeps_its_ends_and_its_norm() -> None:
    a, b = np.asarray(jax.random.normal(jax.random.key(0), (2, 5, 64), np.float64))
    np.testing.assert_allclose(great_circle(a, b, 0.0), a, rtol=1e-12)
    np.testing.assert_allclose(great_circle(a, b, 1.0), b, rtol=1e-12)
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    middle = great_circle(unit_a, unit_b, 0.5)
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1, rtol=1e-12)


def test_a_way_between_equal_or_opposite_latents_is_finite_and_keeps_its_ends() -> None:
    a = np.random.default_rng(0).standard_normal((3, 64))
    for b in (a, -a, 2 * a, -0.5 * a, a * (1 + 1e-12), -a * (1 - 1e-9), np.zeros_like(a)):
        for of in (np.float32, np.float64):
            ways = np.stack([great_circle(a.astype(of), b.astype(of), share) for share in np.linspace(0, 1, 9)])
            assert np.isfinite(ways).all()
            np.testing.assert_allclose(ways[0], a, atol=1e-5)
            np.testing.assert_allclose(ways[-1], b, atol=1e-5)
            if np.any(b):  # never through the middle, whose images nobody has trained
                lengths = np.linalg.norm(ways, axis=2) / np.linalg.norm(a, axis=1)
                assert lengths.min() > 0.49
    share = np.linspace(0, 1, 3)[:, None]
    np.testing.assert_allclose(great_circle(a, a, share), a)


def test_sampling_loads_neither_torch_nor_the_trainer(programs: dict[str, str], tiny_run: Path) -> None:
    """torch is installed where this runs; nothing on the way from a checkpoint to pixels may ask for it."""
    code = f"""
import sys
import jax_sngan
assert jax_sngan.load({str(tiny_run)!r}).sample(3, seed=0).shape == (3, 28, 28, 1)
unused = "torch", "jax_sngan.core.step", "jax_sngan.training.trainer", "tensorboardX"
loaded = [name for name in unused if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], env=programs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
