"""Replays: training steps that two public programs recorded, run by our one trainer, equal in all they left behind."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from jax_sngan.config.schema import replace
from jax_sngan.interop import recording
from jax_sngan.interop.replay import as_json, replay, table
from jax_sngan.system import compilation_cache
from parity_tests.tolerances import REPLAY

ROOT = Path(__file__).resolve().parent.parent
OWN = sorted((ROOT / "parity_tests/recordings").glob("*.npz"))
SHARED = ["authors_hinge.npz", "mimicry_sngan32.npz"]
FIRST = ROOT / "parity_tests/recordings/mimicry_32_ns_decay_classes.npz"


def check(path: Path) -> None:
    recorded = recording.load_recording(path)
    found = replay(recorded)
    print(table(recorded, found, REPLAY))
    assert list(found.deviations) == ["losses", "g_params", "d_params", "spectral", "batch_stats", "images"]
    assert found.error <= REPLAY, {g: d for g, d in found.deviations.items() if d.error > REPLAY}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_recordings_of_our_own(path):
    check(path)


@pytest.mark.parametrize("name", SHARED)
def test_recordings_beside_the_repository(shared_dir, name):
    check(shared_dir / "oracles" / name)


def test_every_program_and_loss_is_replayed(shared_dir):
    paths = [*OWN, *(shared_dir / "oracles" / name for name in SHARED)]
    replayed = {(r.program, r.config.loss) for r in map(recording.load_recording, paths)}
    known = {(program, ours) for program, losses in recording.LOSSES.items() for ours in losses.values()}
    assert replayed == known


@pytest.mark.parametrize(
    "change",
    [
        {"generator_optimizer.eps_form": "epsilon_hat"},  # eps beside another root
        {"steps": 4},  # the rate's fall ends one step later
    ],
    ids=str,
)
def test_another_protocol_fails(change):
    recorded = recording.load_recording(FIRST)
    found = replay(recorded._replace(config=replace(recorded.config, change)))
    assert found.error > 10 * REPLAY


def tampered(path: Path, folder: Path, name: str, index: tuple[int, ...], by: float) -> Path:
    """A copy of a recording with one number moved."""
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name][index] += by
    copy = folder / "tampered.npz"
    np.savez(copy, **arrays)
    return copy


@pytest.mark.parametrize(
    ("name", "group", "index"),
    [
        ("losses/d", "losses", (2, 0)),
        ("final/g/block3.c1.weight", "g_params", (1, 2, 0, 1)),
        ("final/d/l_y.weight", "d_params", (1, 2)),
        ("final/d/l_y.sn_u", "spectral", (0, 2)),
        ("final/d/block2.c1.weight_v", "spectral", (5,)),
        ("final/g/block2.b1.bn.running_var", "batch_stats", (3,)),
        ("sample/images", "images", (1, 4, 5, 2)),
    ],
)
def test_a_number_moved_is_found(tmp_path, name, group, index):
    recorded = recording.load_recording(tampered(FIRST, tmp_path, name, index, by=1e-6))
    errors = {g: d.error for g, d in replay(recorded).deviations.items()}
    assert errors.pop(group) == pytest.approx(1e-6, rel=0.01)
    assert max(errors.values()) <= REPLAY


def test_a_start_moved_is_found(tmp_path):
    recorded = recording.load_recording(tampered(FIRST, tmp_path, "init/d/block2.c2.weight_u", (0,), by=1e-3))
    assert replay(recorded).deviations["losses"].error > REPLAY


def run_script(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["scripts/replay.py", *map(str, arguments)])
    monkeypatch.setattr(compilation_cache, "use_compilation_cache", lambda: None)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts/replay.py"), run_name="__main__")
    return int(end.value.code or 0)


def test_the_script_tells_and_writes_the_errors(monkeypatch, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run_script(monkeypatch, FIRST, "--json", report) == 0
    assert "PASS" in capsys.readouterr().out
    written = json.loads(report.read_text())
    assert written["program"] == "mimicry"
    assert written["max_abs_error"].keys() == set(recording.GROUPS)
    assert all(0 <= e <= REPLAY for e in written["max_abs_error"].values())


def test_the_script_fails_where_an_error_is_too_large(monkeypatch, tmp_path, capsys):
    wrong = tampered(FIRST, tmp_path, "losses/g", (0,), by=1e-6)
    assert run_script(monkeypatch, wrong) == 1
    assert "FAIL" in capsys.readouterr().out
    assert run_script(monkeypatch, wrong, "--tolerance", "1e-5") == 0


def test_what_is_not_finite_is_null_and_fails():
    recorded = recording.load_recording(FIRST)
    images = recorded.inputs.real_images.copy()
    images[1, 0, 0, 3, 3, 1] = np.nan
    recorded = recorded._replace(inputs=recorded.inputs._replace(real_images=images))
    result = as_json(recorded, replay(recorded), REPLAY)
    assert result["max_abs_error"]["losses"] is None
    assert result["loss_error_by_step"][0] <= REPLAY
    assert not result["passed"]
    json.dumps(result, allow_nan=False)
