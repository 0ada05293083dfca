"""The reference's checkpoints outlast a power cut as those of the JAX framework do (tests/test_crashes.py)."""

import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from parity_tests.processes import ROOT

sys.path.append(str(ROOT / "tests"))

from crashes import CUTS, STRACE, Recorder, calls_of, manifests, states, strace_works

from jax_sngan.config.schema import TrainConfig
from jax_sngan.runs.selection import choose_start, choose_step
from jax_sngan.system.errors import UserError
from torch_ref.runs.checkpoint import Checkpoint, Checkpoints

STEPS = (7, 14, 21)


def save(folder: Path) -> None:
    """Three checkpoints, each of which takes the only one away that there was."""
    checkpoints = Checkpoints(folder / "run", keep=1)
    for step in STEPS:
        state = {"step": np.array(step, np.int32), "weight": np.arange(step, dtype=np.float32)}
        checkpoints.save(Checkpoint(TrainConfig(), {"d_loss": 1.0}, [], state))


def test_no_state_that_a_power_cut_can_leave_loses_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "recorded").mkdir()
    recorder, rng, found = Recorder(tmp_path / "recorded"), random.Random(0), Counter[int]()
    with recorder.recording():
        save(tmp_path / "recorded")
    whole = manifests(recorder.changes)
    assert set(whole) == set(STEPS)
    for _, disk in states(recorder.changes):
        promised = max((int(n) for n in disk.safe_names("run", "checkpoints") if n.isdigit()), default=0)
        for cut in CUTS:
            disk.leave(tmp_path / "disk", *cut, rng)
            checkpoints = Checkpoints(tmp_path / "disk/run", keep=1)
            start, _ = choose_start(checkpoints, None)
            assert (start or 0) >= promised
            if start:
                assert (checkpoints.folder / str(start) / "manifest.json").read_bytes() == whole[start]
            found[start or 0] += 1
            shutil.rmtree(tmp_path / "disk")
    assert set(found) == {0, *STEPS}


@pytest.mark.skipif(not strace_works(), reason="strace is not installed, or may not trace here")
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]\nfrom pathlib import Path\n" + (
        "from parity_tests.test_torch_checkpoint import save; save(Path('.'))"
    )
    subprocess.run([*STRACE, str(tmp_path / "calls"), sys.executable, "-c", code], cwd=tmp_path, check=True)
    calls = calls_of(tmp_path / "calls")
    absolute = [(name, [str(tmp_path / p) for p in paths]) for name, paths in calls]
    folder = tmp_path / "run/checkpoints"

    def at(name: str, *paths: Path, after: int = 0) -> int:
        wanted = [str(p) for p in paths]
        return next(i for i, (n, p) in enumerate(absolute) if i >= after and n.startswith(name) and p == wanted)

    named = at("rename", folder / "14.unfinished", folder / "14")
    listed = at("fsync", folder / "14.unfinished", after=at("fsync", folder / "14.unfinished/state.pt"))
    for name in ("state.pt", "provenance.json"):
        assert at("fsync", folder / "14.unfinished" / name) < named
    sealed = next(i for i, (_, p) in enumerate(absolute) if p[-1:] == [str(folder / "14.unfinished/manifest.json")])
    assert listed < sealed < at("fsync", folder / "14.unfinished", after=sealed) < named
    old = at("rename", folder / "7", folder / "7.deleting")
    assert named < at("fsync", folder, after=named) < old < at("fsync", folder, after=old)
    assert not any("unlink" in n and any("7" in Path(q).parts for q in p) for n, p in absolute[:old])


def test_half_checkpoints_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One without a manifest, one that was cut off, and a link where one would be written."""
    checkpoints = Checkpoints(tmp_path / "run")
    for step in STEPS:
        state = {"step": np.array(step, np.int32), "weight": np.arange(step, dtype=np.float32)}
        checkpoints.save(Checkpoint(TrainConfig(), {"d_loss": 1.0}, [], state))
    newest = tmp_path / "run/checkpoints/21"
    told = (newest / "manifest.json").read_bytes()
    (newest / "manifest.json").unlink()
    assert choose_step(Checkpoints(tmp_path / "run"), "latest") == 14
    assert "21 is damaged and not used: its manifest.json is missing" in capsys.readouterr().err
    (newest / "manifest.json").write_bytes(told)
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:-100])
    assert choose_step(Checkpoints(tmp_path / "run"), "latest") == 14
    assert "21 is damaged and not used" in capsys.readouterr().err
    (newest.with_name("28.unfinished")).symlink_to(tmp_path)
    state = {"step": np.array(28, np.int32)}
    with pytest.raises(UserError, match="cannot be written to"):
        checkpoints.save(Checkpoint(TrainConfig(), {}, [], state))
    assert not (tmp_path / "state.pt").exists()
