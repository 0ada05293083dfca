"""Several processes are one run: its numbers, one writer, a killed one, signals, another number of them afterwards.

Real processes over the loopback device, with gloo's collectives. The long forms print what they saw:
`pytest -m long -s tests/test_processes.py`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import logs
import numpy as np
import pytest
from faults import OPTIONS, sound_steps

from conftest import ROOT, Outcome, free_port
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.system import processes
from jax_sngan.system.errors import UserError

# Adam's eps of 1: see test_sharding.py. Logs seldom, so that a run without end is quick.
NUMBERS = [
    *OPTIONS, "--model.dtype=float64", "--generator-optimizer.eps=1", "--discriminator-optimizer.eps=1",
    "--generator-optimizer.schedule=constant", "--discriminator-optimizer.schedule=constant",
    "--log-every=10", "--checkpoint-every=20", "--keep-checkpoints=3",
]  # fmt: skip
ROUNDING = 1e-10  # of float64, in sums in another order over some hundred steps at most
ENDLESS = "--steps=1000000"


class Job:
    """One command in `count` processes, of `devices` devices each; process i writes to FOLDER/i.txt."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: dict[str, str], count: int, devices: int = 1
    ):
        folder.mkdir(parents=True, exist_ok=True)
        joined = [f"--coordinator=127.0.0.1:{free_port()}", f"--num-processes={count}"] if count > 1 else []
        self.outputs = [folder / f"{i}.txt" for i in range(count)]
        flags = f"{environment['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the later one counts
        self.processes = []
        for i, output in enumerate(self.outputs):
            own = [*arguments, *joined, *([f"--process-id={i}"] if count > 1 else [])]
            with output.open("w") as out:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, str(ROOT / "scripts/train_jax.py"), *own],
                        cwd=folder,
                        env=environment | {"XLA_FLAGS": flags},
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                )

    def printed(self) -> str:
        return "\n".join(f"--- process {i}\n{o.read_text()}" for i, o in enumerate(self.outputs))

    def wait_for_step(self, step: int) -> None:
        """Until the first process has logged a step at or past this one."""
        until = time.monotonic() + 120
        while not any(int(line.split()[1].split("/")[0]) >= step for line in self._steps()):
            assert time.monotonic() < until, self.printed()
            assert all(p.poll() is None for p in self.processes), self.printed()
            time.sleep(0.02)

    def _steps(self) -> list[str]:
        return [x for x in self.outputs[0].read_text().splitlines() if x.startswith("step ") and "/" in x]

    def codes(self, seconds: float = 120) -> list[int]:
        """The exit codes, once all have ended, which they must within `seconds`."""
        until = time.monotonic() + seconds
        try:
            return [p.wait(max(0.1, until - time.monotonic())) for p in self.processes]
        except subprocess.TimeoutExpired:
            pytest.fail(f"a process has not ended after {seconds:.0f} s\n{self.printed()}")

    def kill(self) -> None:
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait()


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path, programs: dict[str, str]) -> Iterator[Start]:
    """Starts jobs in folders of their own; whatever is left of them ends with the test."""
    jobs: list[Job] = []

    def started(arguments: Sequence[str], count: int, devices: int = 1) -> Job:
        jobs.append(Job(arguments, tmp_path / f"job{len(jobs)}", programs, count, devices))
        return jobs[-1]

    yield started
    for job in jobs:
        job.kill()


def complete(start: Start, arguments: Sequence[str], count: int, devices: int = 1) -> Job:
    """A job that must end well."""
    job = start(arguments, count, devices)
    assert job.codes() == [0] * count, job.printed()
    return job


def assert_same_run(one: Path, other: Path, steps: int) -> None:
    """Logs and last state of two runs agree to rounding."""
    both = [logs.lines(workdir) for workdir in (one, other)]
    assert [line["step"] for line in both[0]] == [line["step"] for line in both[1]]
    for a, b in zip(*both, strict=True):
        assert a == pytest.approx(b, rel=ROUNDING, abs=ROUNDING)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING),
        state_of(one, steps),
        state_of(other, steps),
    )


def state_of(workdir: Path, step: int):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(step, checkpoints.choose(step).like)


def kill_and_go_on(start: Start, folder: Path, count: int, killed: int, split: list[str]) -> None:
    """A job is killed in one process, and all end; restarted, and then gone on with by one process alone, it is, to
    rounding, the run of one process that nothing happened to."""
    run, whole = [*NUMBERS, f"--workdir={folder / 'run'}"], [*NUMBERS, f"--workdir={folder / 'whole'}"]
    job = start([*run, *split, ENDLESS], count)
    job.wait_for_step(40)
    job.processes[killed].send_signal(signal.SIGKILL)
    began = time.monotonic()
    codes = job.codes(60)
    took = time.monotonic() - began
    sound = sound_steps(folder / "run")
    assert codes[killed] == -signal.SIGKILL
    assert all(code not in (0, None) for code in codes), job.printed()
    for i, output in enumerate(job.outputs):
        text = output.read_text()
        assert i == killed or "another process of this run has ended" in text or "another task died" in text, text
    assert sound, job.printed()
    steps = sound[-1] + 20
    again = complete(start, [*run, *split, f"--steps={steps}"], count)
    first, *others = (o.read_text() for o in again.outputs)
    assert f"resumes from the checkpoint of step {sound[-1]}\n" in first
    assert f"{count} x cpu (cpu) in {count} processes" in first
    assert not any("step " in text for text in others), others  # one writer
    last = complete(start, [*run, f"--steps={steps + 10}"], 1)
    assert f"written on {count} x cpu (cpu) in {count} processes, now 1 x cpu (cpu)" in last.printed()
    complete(start, [*whole, f"--steps={steps + 10}"], 1)
    assert_same_run(folder / "whole", folder / "run", steps + 10)
    print(f"\n{count} processes, {killed} killed at step {sound[-1]} or later: exit codes {codes} after {took:.1f} s")


def test_two_processes_one_killed_restarted_and_then_one(start: Start, tmp_path: Path) -> None:
    kill_and_go_on(start, tmp_path, 2, 1, [])


@pytest.mark.long
@pytest.mark.parametrize(
    ("count", "killed", "split"),
    [(2, 0, []), (4, 2, ["--mesh=data=4", "--shard-state=true"]), (4, 0, [])],
    ids=["the first of two", "the third of four, split state", "the first of four"],
)
def test_a_killed_process_stops_all_and_the_job_goes_on(
    start: Start, tmp_path: Path, count: int, killed: int, split: list[str]
) -> None:
    kill_and_go_on(start, tmp_path, count, killed, split)


@pytest.mark.long
@pytest.mark.parametrize("told", [[1], [0], [0, 1]], ids=["the second", "the first", "all"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_stops_all_at_one_step(start: Start, tmp_path: Path, told: list[int], number: int) -> None:
    run = [*NUMBERS, f"--workdir={tmp_path / 'run'}"]
    job = start([*run, ENDLESS], 2)
    job.wait_for_step(20)
    for i in told:
        job.processes[i].send_signal(number)
    began = time.monotonic()
    assert job.codes(30) == [128 + number] * 2, job.printed()
    took = time.monotonic() - began
    said = job.outputs[0].read_text()
    step = int(said.split("stopped at step ")[1].split(" ")[0])
    assert "and saved; to go on: python" in said
    assert "stopped at step" not in job.outputs[1].read_text()
    assert sound_steps(tmp_path / "run")[-1] == step
    again = complete(start, [*run, f"--steps={step + 5}"], 2)
    assert f"resumes from the checkpoint of step {step}\n" in again.outputs[0].read_text()
    print(f"\nsignal {number} to {told}: saved at step {step} by both after {took:.1f} s")


@pytest.mark.long
def test_images_classes_and_evaluation_in_two_processes_of_two_devices(start: Start, tmp_path: Path) -> None:
    """Four devices, images in parts, a score that the first process finds and both know."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "drawn.npz",
        images=rng.integers(0, 256, (40, 28, 28, 1), np.uint8),
        labels=np.arange(40, dtype=np.int64) % 4,
        test_images=rng.integers(0, 256, (40, 28, 28, 1), np.uint8),
        test_labels=np.arange(40, dtype=np.int64) % 4,
    )
    options = [
        f"--data={tmp_path / 'drawn.npz'}", "--model.num-classes=4", "--flip=true", "--batch-size=8", "--n-dis=2",
        "--model.generator-width=2", "--model.discriminator-width=2", "--model.latent-size=4", "--steps=8",
        "--log-every=2", "--sample-every=4", "--checkpoint-every=4", "--model.dtype=float64",
        "--generator-optimizer.eps=1", "--discriminator-optimizer.eps=1",
        "--evaluate-every=4", "--evaluate-num=64",
    ]  # fmt: skip
    complete(start, [*options, f"--workdir={tmp_path / 'one'}"], 1)
    many = [*options, "--mesh=data=4", "--shard-state=true", f"--workdir={tmp_path / 'many'}"]
    job = complete(start, many, 2, devices=2)
    assert "4 x cpu (cpu) in 2 processes" in job.printed()
    assert_same_run(tmp_path / "one", tmp_path / "many", 8)
    for name in ("000004.png", "000008.png"):
        assert (tmp_path / "one/samples" / name).read_bytes() == (tmp_path / "many/samples" / name).read_bytes()


@pytest.mark.long
def test_a_mistake_that_the_first_finds_ends_all_with_one_line_each(start: Start, tmp_path: Path) -> None:
    run = [*NUMBERS, f"--workdir={tmp_path / 'run'}"]
    complete(start, [*run, "--steps=20"], 2)
    job = start([*run, "--steps=20", "--resume=never"], 2)
    assert job.codes(60) == [2, 2], job.printed()
    for output in job.outputs:
        assert output.read_text().count("has checkpoints and --resume is never") == 1


@pytest.mark.long
def test_one_that_cannot_write_ends_all(start: Start, tmp_path: Path) -> None:
    job = start([*NUMBERS, f"--workdir={tmp_path / 'run'}", ENDLESS], 2)
    job.wait_for_step(20)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert job.codes(60) == [2, 1], job.printed()
    assert "is gone: it was moved or removed" in job.outputs[0].read_text()
    assert "another process of this run has ended" in job.outputs[1].read_text()


def test_slurm_is_found_where_it_has_several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: asked.update(arguments=a, options=k))
    processes.join(None, None, None)
    assert not asked
    task = {"JOB_ID": 7, "STEP_NODELIST": "node[1-2]", "PROCID": 1, "LOCALID": 1, "STEP_NUM_NODES": 2}
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_NTASKS", "1")
    processes.join(None, None, None)
    assert not asked  # jax would give a task alone one of its devices
    monkeypatch.setenv("SLURM_NTASKS", "2")
    before = jax.config.jax_enable_preemption_service
    try:
        processes.join(None, None, None)
    finally:
        jax.config.update("jax_enable_preemption_service", before)
    assert asked["arguments"] == (None, None, None)
    assert asked["options"]["cluster_detection_method"] is None


@pytest.mark.long
def test_two_tasks_as_slurm_starts_them(tmp_path: Path, programs: dict[str, str]) -> None:
    """jax itself finds name, number and address in a step's variables."""
    flags = f"{programs['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "scripts/train_jax.py"), *NUMBERS, "--steps=20", f"--workdir={tmp_path}/run"],
            env=programs | job | {"XLA_FLAGS": flags, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in (0, 1)
    ]
    told = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told
    assert "2 x cpu (cpu) in 2 processes" in told[0]
    assert sound_steps(tmp_path / "run")[-1] == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-processes=2"], ["num_processes and process_id need coordinator=HOST:PORT"]),
        (["--coordinator=here"], ["coordinator must be HOST:PORT", "'here'"]),
        (["--coordinator=here:70000"], ["coordinator must be HOST:PORT", "65535"]),
        (["--coordinator=a:1", "--num-processes=2", "--process-id=2"], ["process_id must be from 0 to 1", "got 2"]),
        (["--coordinator=a:1", "--num-processes=0", "--process-id=0"], ["num_processes must be at least 1"]),
    ],
)
def test_wrong_options_are_one_line(script: Callable[..., Outcome], options: list[str], words: list[str]) -> None:
    outcome = script("train_jax.py", *options)
    assert outcome.is_one_line("train_jax.py", *words), outcome


def test_a_coordinator_alone_is_not_enough_outside_a_cluster(start: Start) -> None:
    job = start(["--coordinator=a:1"], 1)
    assert job.codes() == [2]
    said = job.outputs[0].read_text()
    assert said.count("\n") == 1
    assert "cannot be joined: Number of processes must be defined; give --coordinator HOST:PORT, --num-proc" in said


def test_alone_everything_is_as_if_there_were_no_others() -> None:
    assert processes.count() == 1
    assert processes.is_first()
    assert processes.first_does(lambda: {1, 2}) == {1, 2}  # nothing is sent anywhere
    assert processes.first_makes(lambda: {1, 2}) == {1, 2}
    assert processes.first_goes_ahead(lambda: 3) == 3
    assert processes.Agreement(None)(15) == 15
    with pytest.raises(UserError, match="as it was"), processes.ends_alone(ArithmeticError):
        raise UserError("as it was")


def test_an_error_of_a_lost_process_is_known() -> None:
    told = UserError("a checkpoint cannot be written")
    told.__cause__ = ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:51633")
    assert processes.lost(told)
    assert not processes.lost(UserError("Gloo is a word"))
    assert not processes.lost(ValueError("images must be uint8"))


@pytest.mark.skipif(not Path("/proc/net/tcp6").exists(), reason="/proc is Linux's")
def test_the_first_process_listens_at_its_address_alone() -> None:
    port = free_port()
    code = (
        "import sys; from pathlib import Path; from jax_sngan.system import processes\n"
        "address, me = sys.argv[1], int(sys.argv[2])\n"
        "processes.join(address, 2, me)\n"
        "port = f':{int(address.rpartition(chr(58))[2]):04X}'\n"
        "rows = [r.split() for f in ('tcp', 'tcp6') for r in Path('/proc/net', f).read_text().splitlines()[1:]]\n"
        "if me == 0: print(*(r[1] for r in rows if r[1].endswith(port) and r[3] == '0A'))\n"  # 0A: listening
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"127.0.0.1:{port}", str(me)], env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for me in (0, 1)
    ]  # fmt: skip
    (listening, told), (_, other) = (process.communicate(timeout=300) for process in both)
    assert [process.returncode for process in both] == [0, 0], told + other
    loopback = {
        f"{prefix}0100007F:{port:04X}" for prefix in ("", "0000000000000000FFFF0000")
    }  # as IPv4, or within IPv6
    assert len(listening.split()) == 1
    assert listening.strip() in loopback, listening
