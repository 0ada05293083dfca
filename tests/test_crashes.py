"""A power cut at any moment of a run loses no checkpoint that was there, and none that the run had said was saved.

The long form resumes a run from every state that it makes: `pytest -m long -s tests/test_crashes.py`.
"""

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import logs
import numpy as np
import pytest
from crashes import CUTS, STRACE, Recorder, calls_of, manifests, states, strace_works
from faults import OPTIONS

from conftest import ROOT
from jax_sngan.config.schema import ModelConfig, RunConfig, TrainConfig, replace
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.log import last_logged, repeatable, take_up
from jax_sngan.runs.selection import choose_start, steps_in
from jax_sngan.runs.workdir import check_start, take
from jax_sngan.training.trainer import train

STEPS = 24
CONFIG = TrainConfig(
    name="crashes", data="ring", steps=STEPS, batch_size=8, n_dis=1, ema_decay=0.5,
    model=ModelConfig(
        architecture="mlp", image_size=1, channels=2, output="identity", depth=1, latent_size=2, generator_width=4,
        discriminator_width=4,
    ),
)  # fmt: skip
# One checkpoint stays, so that each save takes the only one away that there was.
RUN = RunConfig(log_every=5, sample_every=20, checkpoint_every=7, keep_checkpoints=1)


class Recorded:
    """A run's changes to its folder, and what they come to."""

    def __init__(self, folder: Path):
        self.workdir = folder / "run"
        recorder = Recorder(folder)
        with recorder.recording():
            train(CONFIG, replace(RUN, {"workdir": str(self.workdir)}))
        self.changes = recorder.changes
        self.log = (self.workdir / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        self.manifests = manifests(self.changes)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Recorded(tmp_path_factory.mktemp("recorded"))


def start_in(workdir: Path, promised: int, run: Recorded) -> int | None:
    """The step that a run in workdir would go on from, found to be right.

    promised: the newest step whose checkpoint no cut can take away any more; 0: none.
    """
    check_start(workdir, CONFIG, "auto")
    workdir.mkdir(exist_ok=True)
    take(workdir)
    with Checkpoints(workdir, keep=1) as checkpoints:
        start, _ = choose_start(checkpoints, None)
        assert (start or 0) >= promised
        if start is None:
            return None
        assert (checkpoints.folder / str(start) / "manifest.json").read_bytes() == run.manifests[start]
        logged = last_logged(start, checkpoints.unlogged(start), checkpoints.metrics(start))
    notes = take_up(workdir / "metrics.jsonl", start, logged)
    assert not any("gap" in note for note in notes), notes
    expected = [line for line in run.log if json.loads(line)["step"] <= start]
    assert (workdir / "metrics.jsonl").read_bytes() == b"".join(expected)
    return start


def state_of(workdir: Path) -> Any:
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(STEPS, checkpoints.choose(STEPS).like)


@pytest.mark.parametrize(
    ("count", "resumed"), [(300, 4), pytest.param(3000, 300, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_no_state_that_a_power_cut_can_leave_loses_a_checkpoint(
    recorded: Recorded, tmp_path: Path, count: int, resumed: int
) -> None:
    rng, found = random.Random(count), Counter[str]()
    number = len(recorded.changes)
    # Each way of losing things in turn, at moments spread over the whole run.
    plan: dict[int, list[tuple[int, tuple[str, str]]]] = {}
    for i in range(count):
        plan.setdefault(i * number // count, []).append((i, CUTS[i % len(CUTS)]))
    trained = set(rng.sample(range(count), resumed))
    for at, disk in states(recorded.changes):
        promised = max((int(n) for n in disk.safe_names("run", "checkpoints") if n.isdigit()), default=0)
        for i, cut in plan.get(at, []):
            disk.leave(tmp_path / "disk", *cut, rng)
            workdir = tmp_path / "disk/run"
            if i in trained:
                shutil.copytree(tmp_path / "disk", tmp_path / "resumed")
            start = start_in(workdir, promised, recorded)
            found["from the start" if start is None else f"from step {start}"] += 1
            if i in trained:
                workdir = tmp_path / "resumed/run"
                train(CONFIG, replace(RUN, {"workdir": str(workdir)}))
                assert logs.lines(workdir) == [repeatable(json.loads(line)) for line in recorded.log]
                assert steps_in(workdir / "checkpoints") == [STEPS]
                jax.tree.map(np.testing.assert_array_equal, state_of(workdir), state_of(recorded.workdir))
                shutil.rmtree(tmp_path / "resumed")
            shutil.rmtree(tmp_path / "disk")
    print(f"\n{found.total()} states of {number} moments, 0 lost: {dict(found)}; {resumed} resumed to the same bits")
    assert found.total() == count
    assert {"from step 7", "from step 14", "from step 21"} <= set(found)


@pytest.mark.skipif(not strace_works(), reason="strace is not installed, or may not trace here")
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, programs: dict[str, str]) -> None:
    """The system calls of a real run: the log, all files and folders, the manifest, the name; then the old one goes."""
    workdir = tmp_path / "run"
    subprocess.run(
        [
            *STRACE, str(tmp_path / "calls"), sys.executable, str(ROOT / "scripts/train_jax.py"), *OPTIONS,
            "--steps=14", "--keep-checkpoints=1",
            f"--workdir={workdir}",
        ],
        cwd=tmp_path, env=programs, check=True, capture_output=True,
    )  # fmt: skip
    calls = calls_of(tmp_path / "calls")
    checkpoints = workdir / "checkpoints"

    def first(name: str, *paths: Path, after: int = 0) -> int:
        wanted = [str(p) for p in paths]
        at = [i for i, (call, given) in enumerate(calls) if i >= after and call.startswith(name) and given == wanted]
        assert at, f"no {name} of {wanted} after call {after}"
        return at[0]

    half, final = checkpoints / "14.unsealed", checkpoints / "14"
    named = first("rename", half, final)
    first("fsync", workdir / "metrics.jsonl")
    assert first("fsync", workdir / "metrics.jsonl") < named
    whole = first("rename", checkpoints / "14.unsealed.orbax-checkpoint-tmp", half)
    listed = first("fsync", half, after=whole)
    written = [p for p in final.rglob("*") if p.name != "manifest.json"]
    assert len(written) > 20
    for path in written:
        assert whole < first("fsync", half / path.relative_to(final), after=whole) < listed, path
    sealed = next(
        i for i, (call, p) in enumerate(calls) if "rename" in call and p[-1:] == [str(half / "manifest.json")]
    )
    assert first("fsync", Path(calls[sealed][1][0])) < sealed
    assert listed < sealed < first("fsync", half, after=sealed) < named
    safe = first("fsync", checkpoints, after=named)
    old = first("rename", checkpoints / "7", checkpoints / "7.deleting")
    gone = first("fsync", checkpoints, after=old)
    removed = first("rmdir", checkpoints / "7.deleting", after=gone)
    assert named < safe < old < gone < removed
    assert not any("unlink" in call and any("checkpoints/7" in p for p in given) for call, given in calls[:gone]), (
        "the old checkpoint is taken apart before the new one has its name on the disk"
    )
