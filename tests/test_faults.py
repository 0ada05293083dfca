"""Nothing is lost: runs killed at random, damaged checkpoints, a full disk, a lock, a NaN, a signal that will not wait.

The long forms print their counts: `pytest -m long -s tests/test_faults.py`.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import logs
import numpy as np
import pytest
from faults import DAMAGES, EVALUATED, OPTIONS, Nursery, damage, kill_at_random, nursery, sound_steps
from image_files import encoded, noise, put

import jax_sngan
from conftest import ROOT, Outcome
from jax_sngan.config.schema import RunConfig, TrainConfig, from_dict, replace
from jax_sngan.core import inputs
from jax_sngan.runs import manifest, provenance
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.selection import check_step, choose_start
from jax_sngan.system import lock
from jax_sngan.system.errors import UserError
from jax_sngan.training.backend import JaxBackend
from jax_sngan.training.loop import TrainingDiverged
from jax_sngan.training.trainer import train

STEPS = 40
Script = Callable[..., Outcome]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, programs: dict[str, str]) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("runs"), programs) as made:
        yield made


@pytest.fixture(scope="module")
def whole(runs: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of the run that nothing happened to, with all its checkpoints: 7, 14, 21, 28, 35 and 40."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = [*OPTIONS, f"--steps={STEPS}", "--keep-checkpoints=9", f"--workdir={folder / 'run'}"]
    child = runs.start(arguments, folder / "printed")
    assert child.wait() == 0, child.printed()
    return folder / "run"


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """That workdir, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def state_of(workdir: Path, step: int):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(step, checkpoints.choose(step).like)


def assert_same_end(a: Path, b: Path) -> None:
    """State, logs and samples of two runs are the same to the bit."""
    assert logs.texts(a) == logs.texts(b)
    assert [p.name for p in sorted((a / "samples").iterdir())] == [p.name for p in sorted((b / "samples").iterdir())]
    for picture in (a / "samples").iterdir():
        assert picture.read_bytes() == (b / "samples" / picture.name).read_bytes(), picture.name
    jax.tree.map(np.testing.assert_array_equal, state_of(a, STEPS), state_of(b, STEPS))


def config_of(workdir: Path) -> TrainConfig:
    return from_dict(TrainConfig, json.loads((workdir / "config.json").read_text()))


@pytest.fixture(scope="module")
def drawn_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of 4 x 4 in two classes."""
    folder = tmp_path_factory.mktemp("data") / "drawn"
    put(folder, {f"{i % 2}/{i:02d}.png": encoded(image) for i, image in enumerate(noise(40, 4, 4))})
    return folder


@pytest.fixture(scope="module")
def evaluated(runs: Nursery, drawn_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run from memory with evaluations that nothing happened to."""
    folder = tmp_path_factory.mktemp("evaluated")
    arguments = [*EVALUATED, f"--data={drawn_images}", f"--steps={STEPS}", f"--workdir={folder / 'run'}"]
    child = runs.start(arguments, folder / "printed")
    assert child.wait() == 0, child.printed()
    return folder / "run"


STREAMED = ["--stream=always", "--stream-workers=1"]


@pytest.mark.parametrize(
    ("kills", "seed", "source"),
    [
        (8, 0, []),
        *(pytest.param(50, seed, [], marks=pytest.mark.long) for seed in (1, 2, 3)),
        pytest.param(50, 4, STREAMED, marks=pytest.mark.long),
    ],
    ids=["short", "1", "2", "3", "streamed"],
)
def test_a_killed_run_goes_on_from_its_newest_sound_checkpoint_to_the_same_bits(
    runs: Nursery, evaluated: Path, drawn_images: Path, tmp_path: Path, kills: int, seed: int, source: list[str]
) -> None:
    """A streamed run too, to the bits of the one from memory."""
    arguments = [*EVALUATED, f"--data={drawn_images}", f"--steps={STEPS}", *source]
    counts, ended = kill_at_random(runs, tmp_path, arguments, kills, seconds=3 if not source else 6, seed=seed)
    print(f"\n{counts.total()} SIGKILLs while {dict(counts)}; {len(ended)} runs ended, each as the whole one")
    assert counts.total() == kills
    assert counts["evaluating"] > 0
    for workdir in ended:
        assert_same_end(evaluated, workdir)
        assert sound_steps(workdir) == sound_steps(evaluated)  # the best by its score, and the newest
        assert all(p.name.isdigit() for p in (workdir / "checkpoints").iterdir())  # nothing half-written is left


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.long)])
def test_a_damaged_checkpoint_is_found_named_and_passed_over(whole: Path, tmp_path: Path, count: int) -> None:
    rng, found = random.Random(count), Counter[str]()
    for i in range(count):
        kind = DAMAGES[i % len(DAMAGES)]
        workdir = tmp_path / "run"
        shutil.copytree(whole / "checkpoints", workdir / "checkpoints")
        done = damage(workdir / "checkpoints/40", workdir / "checkpoints/35", kind, rng)
        with Checkpoints(workdir, keep=9) as checkpoints:
            with pytest.raises(UserError, match=r"checkpoints/40 is damaged: .*; sound are: 7, 14, 21, 28, 35") as told:
                check_step(checkpoints, 40)
            if kind not in ("swap", "manifest"):
                assert done.split("checkpoints/40/")[1] in str(told.value)
            with pytest.raises(UserError, match="is damaged"):
                checkpoints.config(40)
            start, notes = choose_start(checkpoints, None)
            assert start == 35
            assert re.fullmatch(r"checkpoint 40 is damaged \(.*\); it is kept as 40.damaged", notes[0]), done
            assert checkpoints.steps() == [7, 14, 21, 28, 35]
        found[kind] += 1
        shutil.rmtree(workdir)
    print(f"\n{found.total()} damaged checkpoints found: {dict(found)}")


def test_damage_is_refused_by_the_scripts(script: Script, copied: Path) -> None:
    largest = max((copied / "checkpoints/40").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    contents = bytearray(largest.read_bytes())
    contents[len(contents) // 2] ^= 1
    largest.write_bytes(contents)
    name = largest.relative_to(copied / "checkpoints/40").as_posix()
    words = [name, "has other contents than when it was written", "sound are: 7, 14, 21, 28, 35"]
    options = [*OPTIONS, f"--steps={STEPS}", "--workdir", copied]
    outcome = script("train_jax.py", *options, "--resume=must", "--step=40")
    assert outcome.is_one_line("train_jax.py", *words), outcome
    for name, *arguments in (("sample.py",), ("certify.py",), ("convert_checkpoint.py", "out.pt")):
        outcome = script(name, copied, *arguments, "--step=40")
        assert outcome.is_one_line(name, *words), outcome
    outcome = script("sample.py", copied, "--json=out.json", "--grid=g.png")
    assert outcome.code == 0, outcome
    assert json.loads((copied.parent / "out.json").read_text())["step"] == 35
    assert "note: checkpoint" in outcome.err, outcome


def test_no_sound_checkpoint_is_no_start_from_scratch(script: Script, copied: Path) -> None:
    for folder in (copied / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()
    before = (copied / "metrics.jsonl").read_text()
    outcome = script("train_jax.py", *OPTIONS, f"--steps={STEPS}", "--workdir", copied)
    assert outcome.is_one_line("is sound (40: its manifest.json is missing; 35:", "another --workdir"), outcome
    assert (copied / "metrics.jsonl").read_text() == before


def test_an_older_checkpoint_can_be_asked_for(script: Script, whole: Path, copied: Path) -> None:
    options = [*OPTIONS, f"--steps={STEPS}", "--keep-checkpoints=9", "--workdir", copied]
    outcome = script("train_jax.py", *options, "--step=21")
    assert outcome.is_one_line("step needs resume=must"), outcome
    outcome = script("train_jax.py", *options, "--resume=must", "--step=20")
    assert outcome.is_one_line("no checkpoint of step 20", "7, 14, 21, 28, 35, 40"), outcome
    train(config_of(whole), RunConfig(**RUN, workdir=str(copied), resume="must", step=21))
    assert (copied / "checkpoints/40.newer").is_dir()
    assert [json.loads(x)["step"] for x in (copied / "metrics.jsonl").read_text().splitlines()] == [*range(5, 41, 5)]


RUN = {"log_every": 5, "sample_every": 20, "checkpoint_every": 7, "keep_checkpoints": 9}


def test_other_data_and_versions_are_named(whole: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(whole) as checkpoints:
        there = checkpoints.origin(40)
    assert there is not None
    data = jax_sngan.load_data("ring", image_size=1, channels=2).identity()
    assert there["data"] == data
    here = provenance.provenance("jax", data, there["devices"])
    assert provenance.check(there, here, "it") == []
    other = here | {"data": {"summary": "ring: others", "sha256": "0" * 64}}
    with pytest.raises(UserError, match=r"trained on other data: ring: 100,000 .*, now ring: others .* --workdir"):
        provenance.check(there, other, "it")
    with pytest.raises(UserError, match=r"written by a later version .* install that version"):
        provenance.check(there | {"format": 99}, here, "it")
    notes = provenance.check(
        there | {"libraries": there["libraries"] | {"jax": "0.1"}, "code": {"jax-sngan": "0.0", "sha256": "1" * 64}},
        here | {"devices": "8 x cpu (cpu)"},
        "it",
    )
    assert re.fullmatch(r"written with jax 0\.1, now jax [\d.]+: .*", notes[0])
    assert "jax-sngan 0.0 (sources 111111111111)" in notes[1]
    assert "written on 1 x cpu (cpu), now 8 x cpu (cpu)" in notes[2]
    assert "agrees to rounding, not to the bit" in notes[2]


def test_two_runs_do_not_share_a_workdir(script: Script, tmp_path: Path) -> None:
    """The other run is another process; when it is killed, its lock does not stay."""
    code = (
        "from pathlib import Path; from jax_sngan.system.lock import locked\nwith locked(Path('run')): print(); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout is not None
    other.stdout.readline()
    outcome = script("train_jax.py", *OPTIONS, "--steps=1", "--workdir=run")
    assert outcome.is_one_line("another run works in run", "--workdir"), outcome
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with lock.locked(tmp_path / "run"):
        pass


@pytest.fixture
def started(whole: Path, tmp_path: Path) -> Path:
    """A run at step 7."""
    workdir = tmp_path / "run"
    shutil.copytree(whole / "checkpoints/7", workdir / "checkpoints/7")
    return workdir


def at_second_save(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    save = JaxBackend.save

    def saving(backend: JaxBackend, *arguments: object) -> None:
        if int(backend.state.step) == 14:
            happens()
        save(backend, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(JaxBackend, "save", saving)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit is Linux's")
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(runs: Nursery, tmp_path: Path) -> None:
    """A limit on the size of files, set while the run writes, stands for the disk: the same calls fail."""
    workdir = tmp_path / "run"
    child = runs.start(
        [
            *OPTIONS,
            "--steps=100000",
            "--keep-checkpoints=1",
            "--log-every=500",
            "--sample-every=0",
            f"--workdir={workdir}",
        ],
        tmp_path / "printed",
    )
    wait_for("yes", lambda: "yes" if sound_steps(workdir) else "no")
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    assert child.wait() == 2, child.printed()
    last = child.printed().splitlines()[-1]
    told = re.fullmatch(r"train_jax.py: a checkpoint cannot be .*; the checkpoint of step (\d+) is.*", last)
    assert told, child.printed()
    assert manifest.problem(workdir / "checkpoints" / told[1], int(told[1])) is None
    assert "Traceback" not in child.printed()


def test_a_workdir_that_vanishes_is_one_line(whole: Path, started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_second_save(monkeypatch, lambda: started.rename(started.with_name("moved")) and None)
    with pytest.raises(UserError, match="run is gone: it was moved or removed"):
        train(config_of(whole), RunConfig(**RUN, workdir=str(started)))
    assert manifest.problem(started.with_name("moved") / "checkpoints/7", 7) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="as another user, which only root can become")
def test_a_folder_that_may_not_be_written_to_is_one_line(whole: Path, started: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path; from jax_sngan.commands import process; from jax_sngan.system.lock import locked\n"
        "def main():\n    os.setuid(65534)\n    with locked(Path(sys.argv[1])): pass\n"
        "process.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(started)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert re.fullmatch(r"-c: cannot write .*run: Permission denied\n", done.stderr), done


class Poisoned:
    """Inputs whose real images become NaN at one step of a run that did not go back."""

    def __init__(self, step: int, rollbacks: int = 0):
        self.step, self.rollbacks, self.draw = step, rollbacks, inputs.draw_inputs

    def __call__(self, config: TrainConfig, data: inputs.Images, step: int, rollbacks: int = 0) -> inputs.Inputs:
        drawn = self.draw(config, data, step, rollbacks)
        if step == self.step and rollbacks <= self.rollbacks:
            return drawn._replace(real_images=drawn.real_images * np.float32(np.nan))
        return drawn


def test_a_nan_stops_within_a_log_and_names_step_and_quantity(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jax_sngan.training.backend.draw_inputs", Poisoned(16))
    with pytest.raises(TrainingDiverged, match=r"^d_\w+ is not finite at step 17; the checkpoint of step 14 is kept"):
        train(config_of(whole), RunConfig(**RUN, workdir=str(tmp_path / "run")))
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["step"] == 15
    assert manifest.problem(tmp_path / "run/checkpoints/14", 14) is None


def test_a_gradient_that_is_not_finite_is_named(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before a loss shows it: the state is looked at with each log."""
    steps, config = JaxBackend.train, config_of(whole)

    def poisoned(backend: JaxBackend, step: int, *others: int) -> None:
        steps(backend, step, *others)
        if step == 9:  # the last step before a log: no loss has seen it
            opt = backend.state.generator_opt
            worse = opt._replace(mu=jax.tree.map(lambda x: x / 0, opt.mu))
            backend.state = backend.state._replace(generator_opt=worse)

    monkeypatch.setattr(JaxBackend, "train", poisoned)
    with pytest.raises(TrainingDiverged, match=r"^generator\..*'s gradient is not finite at step 10; the chec"):
        train(config, RunConfig(**RUN, workdir=str(tmp_path / "run")))


def test_a_rollback_goes_on_with_other_inputs_and_resumes_to_the_bit(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = config_of(whole), RunConfig(**RUN, on_nan="rollback")
    monkeypatch.setattr("jax_sngan.training.backend.draw_inputs", Poisoned(16))
    back, cut = (replace(run, {"workdir": str(tmp_path / name)}) for name in ("back", "cut"))
    assert train(config, back).step == STEPS
    lines = (tmp_path / "back/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(5, 41, 5)]
    plain = (whole / "metrics.jsonl").read_text().splitlines()
    moved = [abs(json.loads(a)["d_loss"] - json.loads(b)["d_loss"]) > 1e-3 for a, b in zip(lines, plain, strict=True)]
    assert moved[:3] == [False, False, True]  # step 15's mean holds a step after step 14's
    with Checkpoints(tmp_path / "back") as checkpoints:
        assert [checkpoints.rollbacks(s) for s in (14, 21, 40)] == [0, 1, 1]
    for newest in (14, 28):  # as a crash leaves it: before the rollback is in a checkpoint, and after
        shutil.copytree(tmp_path / "back", tmp_path / "cut")
        for step in (21, 28, 35, 40):
            if step > newest:
                shutil.rmtree(tmp_path / f"cut/checkpoints/{step}")
        train(config, cut)
        assert_same_end(tmp_path / "back", tmp_path / "cut")
        shutil.rmtree(tmp_path / "cut")


def test_a_run_goes_back_only_so_often(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jax_sngan.training.backend.draw_inputs", Poisoned(16, rollbacks=9))
    run = RunConfig(**RUN, workdir=str(tmp_path / "run"), on_nan="rollback", max_rollbacks=2)
    with pytest.raises(TrainingDiverged, match=r"at step 17; .*step 14 is kept .*went back 2 times \(--max-roll"):
        train(config_of(whole), run)


def test_other_inputs_after_a_rollback(whole: Path) -> None:
    config, data = config_of(whole), jax_sngan.load_data("ring", image_size=1, channels=2)
    plain, after, twice = (inputs.draw_inputs(config, data, 3, r) for r in (0, 1, 2))
    for name in ("real_images", "d_latents", "g_latents"):
        for a, b in ((plain, after), (after, twice), (plain, twice)):
            assert not np.any(np.asarray(getattr(a, name)) == np.asarray(getattr(b, name))), name


def test_a_signal_before_the_first_step_is_done_leaves_at_once(programs: dict[str, str], tmp_path: Path) -> None:
    """While the step is compiled, which takes seconds here: the cache is empty."""
    with nursery(tmp_path, {**programs, "XDG_CACHE_HOME": str(tmp_path / "cache")}) as slow:
        child = slow.start([*OPTIONS, f"--workdir={tmp_path / 'run'}"], tmp_path / "printed")
        wait_for("compiling the training step", child.printed)
        child.signal(signal.SIGTERM)
        began = time.monotonic()
        assert child.wait() == 128 + signal.SIGTERM, child.printed()
        assert time.monotonic() - began < 5
    assert "stopped before the first step was done; there is no checkpoint yet; to go on: python" in child.printed()


@pytest.mark.parametrize("signals", [1, 2])
def test_a_second_signal_and_a_step_without_end_leave_without_saving(signals: int) -> None:
    """The main thread is in one long call, as in a step: it sees no signal."""
    code = (
        "import ctypes; from jax_sngan.system import signals; signals.SECONDS = 1.0\n"
        "with signals.stop_signals(lambda text: print(text, flush=True), lambda: 'KEPT') as stop:\n"
        "    stop.idle = False; print('ready', flush=True);\n"
        "    while True: ctypes.CDLL(None).sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopping after this step and saving; once more to leave at once\n"
    began = time.monotonic()
    if signals == 2:
        process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert out == ("left at once; KEPT\n", "the step and its checkpoint took over 1 s: left; KEPT\n")[signals == 1]
    assert (time.monotonic() - began < 0.9) == (signals == 2)


def wait_for(text: str, printed: Callable[[], str], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while text not in printed():
        assert time.monotonic() < until, printed()
        time.sleep(0.01)
