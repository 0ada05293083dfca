"""Whole runs: what a workdir holds, real signals, resuming to the same bits, other runs refused, the stop at a NaN."""

import json
import re
import shutil
import signal
import tarfile
import threading
from pathlib import Path
from typing import Any

import jax
import logs
import numpy as np
import pytest

import jax_sngan
from conftest import TINY, TINY_OPTIONS, start
from jax_sngan.config.schema import RunConfig, TrainConfig, from_dict, replace
from jax_sngan.runs import provenance
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.system.errors import UserError
from jax_sngan.training.loop import TrainingDiverged
from jax_sngan.training.trainer import train

HOT = {"generator_optimizer.learning_rate": 1e38}  # the first step ends finite, the second's images do not


def state_of(workdir: Path, step: int):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(step, checkpoints.choose(step).like)


def assert_same_run(a: Path, b: Path, step: int) -> None:
    assert logs.texts(a) == logs.texts(b)
    for picture in sorted((a / "samples").iterdir()):
        assert picture.read_bytes() == (b / "samples" / picture.name).read_bytes(), picture.name
    jax.tree.map(np.testing.assert_array_equal, state_of(a, step), state_of(b, step))


def test_a_workdir_holds_what_is_promised(tiny_run: Path) -> None:
    assert from_dict(TrainConfig, json.loads((tiny_run / "config.json").read_text())) == TINY
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    sigmas = {f"d_sigma/{layer}" for layer in ("convs.0", "convs.1", "convs.2", "convs.3", "convs.4", "score")}
    told = {
        "step", "d_loss", "g_loss", "d_real", "d_fake", "d_real_std", "d_fake_std", "d_accuracy_real",
        "d_accuracy_fake", "d_grad_norm", "g_grad_norm", "d_update_norm", "g_update_norm", "g_average_distance",
        "d_learning_rate", "g_learning_rate", "images_per_second", "memory_mb", "data_wait_s",
    }  # fmt: skip
    assert [set(line) - sigmas - told for line in lines] == [set(), {"g_spread"}, {"g_spread"}]  # samples at 3 and 6
    assert all(set(line) >= sigmas | told for line in lines)
    assert sorted(p.name for p in (tiny_run / "samples").iterdir()) == ["000003.png", "000006.png", "training.gif"]
    assert sorted(p.name for p in (tiny_run / "checkpoints").iterdir()) == ["3", "6"]
    assert "sngan sample " in (tiny_run / "README.txt").read_text()
    assert list((tiny_run / "tensorboard").glob("events.*"))


def test_the_logged_losses_are_those_of_the_steps(tiny_run: Path) -> None:
    """The mean of a log's steps, from the Python interface, step by step."""
    data = jax_sngan.load_data(TINY.data, image_size=28, channels=1)
    state, losses = jax_sngan.create_state(TINY), []
    for step in range(2):
        state, logs = jax_sngan.train_step(TINY)(state, jax_sngan.draw_inputs(TINY, data, step))
        losses.append(float(np.mean(logs["d_loss"])))
    first = json.loads((tiny_run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["d_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_finished_run_is_left_as_it_is(tiny_run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny_run.rglob("[!.]*") if p.is_file() and p.suffix != ".txt"}
    result = train(TINY, RunConfig(workdir=str(tiny_run)))
    assert result.step == 6
    assert {p: p.stat().st_mtime_ns for p in before if p.name != "config.json"} == {
        p: t for p, t in before.items() if p.name != "config.json"
    }


def test_another_config_in_the_same_workdir_is_refused_by_name(tiny_run: Path) -> None:
    other = replace(TINY, {"n_dis": 3, "generator_optimizer.learning_rate": 1e-3})
    with pytest.raises(UserError, match=r"n_dis: 2 -> 3; generator_optimizer\.learning_rate: 0\.05 -> 0\.001"):
        train(other, RunConfig(workdir=str(tiny_run)))
    with pytest.raises(UserError, match="--resume is never"):
        train(TINY, RunConfig(workdir=str(tiny_run), resume="never"))
    assert from_dict(TrainConfig, json.loads((tiny_run / "config.json").read_text())) == TINY


def test_a_linear_schedule_fixes_the_number_of_steps(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    linear = replace(TINY, {"generator_optimizer.schedule": "linear"})
    (tmp_path / "run" / "config.json").write_text(json.dumps(jax_sngan.config.schema.to_dict(linear)))
    with pytest.raises(UserError, match="steps: 6 -> 8"):
        train(replace(linear, {"steps": 8}), RunConfig(workdir=str(tmp_path / "run")))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_saves_and_the_run_resumes_to_the_same_bits(
    programs: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """A real process, a real signal; the options that write more or less often may differ."""
    options = [*TINY_OPTIONS, "--steps=40", "--log-every=10", "--sample-every=20"]
    whole = start("train_jax.py", [*options, "--workdir=whole"], tmp_path, programs)
    cut = start("train_jax.py", [*options, "--workdir=cut", "--log-every=1"], tmp_path, programs)
    assert cut.stdout is not None
    for line in cut.stdout:
        if line.startswith("step 3/"):
            cut.send_signal(number)
            break
    out, err = cut.communicate(timeout=60)
    assert cut.returncode == 128 + number, err
    told = re.search(r"stopped at step (\d+) of 40 and saved; to go on: python .*train_jax.py", out)
    assert told is not None, out
    stopped = int(told[1])
    assert 3 <= stopped < 40
    assert str(stopped) in [p.name for p in (tmp_path / "cut" / "checkpoints").iterdir()]
    (tmp_path / "cut" / "metrics.jsonl").unlink()  # it was written each step; the resumed run writes each tenth
    rest = start("train_jax.py", [*options, "--workdir=cut", "--resume=must"], tmp_path, programs)
    out, err = rest.communicate(timeout=120)
    assert rest.returncode == 0, err
    assert f"resumes from the checkpoint of step {stopped}" in out
    out, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    assert logs.lines(tmp_path / "cut")[-1] == logs.lines(tmp_path / "whole")[-1]
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "cut", 40), state_of(tmp_path / "whole", 40))
    assert (tmp_path / "cut/samples/000040.png").read_bytes() == (tmp_path / "whole/samples/000040.png").read_bytes()


def test_a_run_cut_between_two_logs_has_the_log_of_the_whole(tiny_run: Path, tmp_path: Path) -> None:
    """Back to the checkpoint of step 3, as a crash leaves it: step 4's line is the mean of steps 3 and 4."""
    cut = tmp_path / "cut"
    shutil.copytree(tiny_run, cut)
    shutil.rmtree(cut / "checkpoints" / "6")
    (cut / "samples" / "000006.png").unlink()
    train(TINY, RunConfig(workdir=str(cut), log_every=2, sample_every=3, checkpoint_every=3))
    assert_same_run(tiny_run, cut, 6)


def test_a_run_that_goes_on_under_another_jax_says_so(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(tiny_run, cut)
    shutil.rmtree(cut / "checkpoints" / "6")
    version = provenance.version_of
    monkeypatch.setattr(provenance, "version_of", lambda name: "99.1" if name == "jax" else version(name))
    train(TINY, RunConfig(workdir=str(cut), log_every=2, sample_every=0))
    said = capsys.readouterr().out.splitlines()
    notes = [line for line in said if line.startswith("note ")]
    jax_note, log_note = (re.sub(" +", " ", line) for line in notes)
    assert jax_note == (
        f"note written with jax {jax.__version__}, now jax 99.1: the run goes on, "
        "its bits may not be those of the whole run"
    )
    assert log_note.endswith("as it was it is metrics.jsonl.past-3")
    assert said.index(notes[0]) < said.index("resumes from the checkpoint of step 3")


def test_a_checkpoint_has_what_was_given_whatever_changes_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on with its list of numbers while Orbax writes it in the background, late here."""
    changed, dumps = threading.Event(), json.dumps

    def late(value: Any, **options: Any) -> str:
        if threading.current_thread() is not threading.main_thread():
            assert changed.wait(60)
        return dumps(value, **options)

    monkeypatch.setattr(json, "dumps", late)
    unlogged = [{"d_loss": 1.0}]
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(jax_sngan.create_state(TINY), TINY, {}, unlogged)
        unlogged.append({"d_loss": 2.0})
        changed.set()
        checkpoints.wait()
        assert checkpoints.unlogged(0) == [{"d_loss": 1.0}]


def test_several_steps_a_dispatch_are_the_same_run(tiny_run: Path, tmp_path: Path) -> None:
    """Cut at each log, picture and checkpoint; and four and two steps at a time, cut nowhere."""
    often = {"log_every": 2, "sample_every": 3, "checkpoint_every": 3}
    train(TINY, RunConfig(workdir=str(tmp_path / "often"), dispatch=4, **often))
    assert_same_run(tiny_run, tmp_path / "often", 6)
    rarely = {"log_every": 6, "sample_every": 0, "checkpoint_every": 0}
    train(TINY, RunConfig(workdir=str(tmp_path / "rarely"), dispatch=4, **rarely))
    jax.tree.map(np.testing.assert_array_equal, state_of(tiny_run, 6), state_of(tmp_path / "rarely", 6))


def test_a_number_that_is_not_finite_stops_the_run_and_names_it(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hot = replace(TINY, HOT | {"steps": 40})
    with pytest.raises(TrainingDiverged, match=r"(d_loss|g_loss|d_real|d_fake)\w* is not finite at step 2; no ch"):
        train(hot, RunConfig(workdir=str(tmp_path / "hot"), log_every=5, checkpoint_every=0))


def test_the_script_ends_with_1_at_a_nan(programs: dict[str, str], tmp_path: Path) -> None:
    options = [*TINY_OPTIONS, "--generator-optimizer.learning-rate=1e38", "--checkpoint-every=1"]
    process = start("train_jax.py", options, tmp_path, programs)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    line = err.strip().splitlines()[-1]
    assert re.search(r"is not finite at step 2; the checkpoint of step 1 is kept in runs/fashion", line), err
    assert "Traceback" not in err
    assert state_of(tmp_path / "runs/fashion", 1).step == 1


def test_two_devices_train_what_one_does(tiny_run: Path, tmp_path: Path) -> None:
    """Two of the virtual CPU devices; batch normalisation sees the whole batch, so only rounding differs."""
    train(
        TINY, RunConfig(workdir=str(tmp_path / "two"), mesh="data=2", log_every=2, checkpoint_every=0, sample_every=0)
    )
    one, two = (logs.lines(workdir)[0] for workdir in (tiny_run, tmp_path / "two"))
    for name, value in one.items():
        # In G's biases before batch normalisation, 6 of 2,637 parameters, Adam makes whole steps of rounding, which
        # no output shows: only what is of the parameters themselves.
        rel = 2e-3 if name in ("g_update_norm", "g_average_distance") else 1e-4
        assert two[name] == pytest.approx(value, rel=rel, abs=1e-5), name


def test_real_colour_images_train(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs as JPEG files in class folders: read, flipped, and given to a class-conditional pair."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures = tmp_path / "pictures"
    with tarfile.open(shared_dir / "data" / "cifar10-jpeg.tar.xz") as archive:
        for member, _ in zip(archive, range(6000), strict=False):  # the first two classes stand first
            if member.isfile() and member.name.startswith("train/") and member.name[-8:-4] < "0064":
                target = pictures / Path(member.name).relative_to("train")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                target.write_bytes(content.read())
    assert sorted(p.name for p in pictures.iterdir()) == ["airplane", "automobile"]
    changes = {
        "data": str(pictures),
        "flip": True,
        "steps": 2,
        "model.image_size": 32,
        "model.channels": 3,
        "model.num_classes": 2,
    }
    result = train(replace(TINY, changes), RunConfig(workdir=str(tmp_path / "run"), sample_every=0))
    assert result.step == 2
    assert np.isfinite(list(result.metrics.values())).all()
