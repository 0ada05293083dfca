"""Runs on what people bring: classes keep their names, data may move, one broken image ends no run for good."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    encoded,
    noise,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
)

import jax_sngan
from conftest import TINY
from jax_sngan.config import class_names
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.core import inputs
from jax_sngan.data.image_folder import Stream
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.workdir import check_start, run_folder
from jax_sngan.system.errors import UserError
from jax_sngan.training.trainer import train

CLASSES = ("1", "2", "10", "cat, small")
FILES = {
    f"{c}/{i}.png": encoded(noise(28, 28, seed=4 * n + i)) for n, c in enumerate(CLASSES) for i in range(4)
}  # 16 images; TINY takes 8 a step


def config_of(data: Path, **changes: Any) -> TrainConfig:
    return replace(TINY, {"data": str(data), "steps": 2, "ema_decay": 0.0, **changes})


def run_of(workdir: Path, **changes: Any) -> RunConfig:
    return RunConfig(
        workdir=str(workdir), log_every=1, sample_every=0, checkpoint_every=1, keep_checkpoints=9, **changes
    )


@pytest.fixture(name="fruit")
def folder_of_fruit(tmp_path: Path) -> Path:
    put(tmp_path / "fruit", FILES)
    return tmp_path / "fruit"


def test_names_of_classes_stay_with_a_run(fruit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(fruit, **{"model.num_classes": 4})
    train(config, run_of(tmp_path / "run"))
    assert "4 classes: 1, 2, 10, cat, small" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run/config.json").read_text())
    assert class_names.parse(kept["class_names"]) == CLASSES
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert class_names.parse(checkpoints.config(2).class_names) == CLASSES
    # A class more comes between: the numbers mean others.
    put(fruit, {"3/0.png": FILES["1/0.png"]})
    shutil.rmtree(fruit / "cat, small")
    with pytest.raises(
        UserError, match=r"trained with the classes 1, 2, 10, cat, small, the data now have 1, 2, 3, 10"
    ):
        train(replace(config, {"steps": 3}), run_of(tmp_path / "run"))


def test_names_of_classes_may_be_given_where_the_data_have_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=noise(16, 28, 28), labels=np.arange(16) % 2)
    named = {"model.num_classes": 2, "class_names": "cat,dog"}
    train(config_of(tmp_path / "a.npz", **named), run_of(tmp_path / "run"))
    assert json.loads((tmp_path / "run/config.json").read_text())["class_names"] == "cat,dog"
    for wrong in ("cat", "cat,dog,frog", "cat,cat", "[1, 2]", '["cat"', '{"cat": 1}'):
        with pytest.raises(UserError, match="class_names must be"):
            replace(TINY, {"model.num_classes": 2, "class_names": wrong})
    put(tmp_path / "two", {f"{c}/0.png": FILES["1/0.png"] for c in ("bird", "cat")})
    with pytest.raises(
        UserError, match=r"class_names must be those of folder:two \(bird, cat\), or empty; got cat, dog"
    ):
        train(config_of(tmp_path / "two", **named), run_of(tmp_path / "other"))


def test_labels_that_cannot_be_read_stop_a_run_of_classes_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=noise(16, 28, 28), labels=np.zeros(3, int))
    assert train(config_of(tmp_path / "a.npz"), run_of(tmp_path / "run")).step == 2
    with pytest.raises(UserError, match=r"num_classes=2 needs labels: .*labels must be 16, one an image, got 3"):
        train(config_of(tmp_path / "a.npz", **{"model.num_classes": 2}), run_of(tmp_path / "other"))


def test_the_same_data_may_lie_elsewhere(
    fruit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train(config_of(Path("fruit")), run_of(tmp_path / "run"))
    shutil.copytree(fruit, tmp_path / "deep/copy")
    for steps, source in enumerate(("./fruit", "fruit/", str(fruit), "deep/copy"), start=3):
        config = replace(config_of(fruit), {"data": source, "steps": steps})
        assert train(config, run_of(tmp_path / "run")).step == steps
        assert f"resumes from the checkpoint of step {steps - 1}" in capsys.readouterr().out
    (tmp_path / "deep/copy/1/0.png").write_bytes(encoded(noise(28, 28, seed=99)))
    with pytest.raises(UserError, match="was trained on other data"):
        train(replace(config, {"steps": 9}), run_of(tmp_path / "run"))
    with pytest.raises(UserError, match=r"another run \(data: deep/copy -> mnist\)"):
        check_start(tmp_path / "run", replace(config, {"data": "mnist"}), "auto")


@pytest.mark.parametrize(
    "address", ["gs://bucket/run", "s3://bucket/run", "https://example.org/run", "file:///tmp/run"]
)
def test_addresses_are_no_folders_here(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="workdir must be a path on this machine, got an address of"):
        run_folder(TINY, RunConfig(workdir=address))
    outcomes = [
        script("train_jax.py", "fashion", "--workdir", address),
        script("train_jax.py", "fashion", "--data", address),
    ]
    outcomes += [script("sample.py", address), script("evaluate.py", address)]
    outcomes += [script("export.py", "x", "--format", "onnx", "--out", address)]
    for outcome in outcomes:
        assert outcome.is_one_line("an address of"), outcome
    assert list(tmp_path.iterdir()) == []


def rows_used(steps: int) -> set[int]:
    return set(np.concatenate([inputs.step_rows(TINY, len(FILES), k) for k in range(steps)]).tolist())


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize("mend", ["removed", "mended", "left out"])
def test_a_run_goes_on_when_the_images_that_it_used_are_unchanged(
    fruit: Path, tmp_path: Path, stream: Stream, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One image of the second step is broken; in memory that is known at once, of a stream when it is decoded."""
    names = jax_names(fruit)
    late = fruit / names[min(set(range(len(names))) - rows_used(1))]
    whole = late.read_bytes()
    damaged = whole[:60] + bytes(20) + whole[80:]  # neither its header nor its end tells
    how: dict[str, Any] = {"stream": stream, "stream_workers": 0}
    if stream == "always":
        late.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{late.name}.*cannot be read.*--skip-broken"):
            train(config_of(fruit), run_of(tmp_path / "run", **how))
    else:
        train(config_of(fruit, steps=1), run_of(tmp_path / "run", **how))
        late.write_bytes(damaged)
    capsys.readouterr()
    if mend == "removed":
        late.unlink()
    elif mend == "mended":
        late.write_bytes(encoded(noise(28, 28, seed=99)))
    else:
        how["skip_broken"] = True
    assert train(config_of(fruit), run_of(tmp_path / "run", **how)).step == 2
    out = capsys.readouterr().out
    assert "resumes from the checkpoint of step 1" in out
    assert "none of the 8 that the run has used" in out
    assert ("1 broken image" in out) == (mend == "left out")


def test_a_run_does_not_go_on_when_an_image_that_it_used_has_changed(fruit: Path, tmp_path: Path) -> None:
    train(config_of(fruit, steps=1), run_of(tmp_path / "run"))
    used = fruit / jax_names(fruit)[min(rows_used(1))]
    used.write_bytes(encoded(noise(28, 28, seed=99)))
    with pytest.raises(UserError, match="was trained on other data"):
        train(config_of(fruit), run_of(tmp_path / "run"))
    used.unlink()
    with pytest.raises(UserError, match="was trained on other data"):
        train(config_of(fruit), run_of(tmp_path / "run"))


def jax_names(folder: Path) -> list[str]:
    """Its images in the order of their rows."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))


def test_the_default_names_are_those_of_the_data() -> None:
    assert jax_sngan.preset("fashion").class_names == ""
