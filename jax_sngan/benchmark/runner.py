"""Runs the benchmark's sides, each in its own process, their repetitions in turn."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from jax_sngan.benchmark.workloads import ARITHMETICS, Workload, growth, row
from jax_sngan.runs.provenance import version_of
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_whole
from jax_sngan.system.machine import cores, processor
from jax_sngan.system.terminal import shown

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 5.0  # seconds that a side has to end by itself
STEPS = 10  # of a repetition on a GPU or TPU


class Side:
    """A process that serves one workload (server.serve)."""

    def __init__(self, command: Sequence[str], log: Path, *, root: Path = ROOT, python: str = sys.executable):
        """root: the folder whose packages it runs; python: by which interpreter."""
        self._log = log.open("w+")
        self._process = subprocess.Popen(
            [python, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=root,
            env=environment(root),
        )

    def read(self) -> dict[str, Any]:
        """The next answer; {"failed": why} where the process has ended."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.wait()
        self._log.seek(0)
        last = [line.strip() for line in self._log if line.strip()]
        return {"failed": last[-1][:200] if last else f"exit code {self._process.returncode}"}

    def ask(self, line: str) -> dict[str, Any]:
        """The answer to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # it is at work, which nobody waits for any more
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def environment(root: Path = ROOT) -> dict[str, str]:
    """Of a side. JAX would take three quarters of a GPU's memory beforehand, which the other side needs too."""
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ | {"PYTHONPATH": path}


class Plan(NamedTuple):
    """How a workload is measured."""

    repetitions: int  # of each side, in turn
    peak: float  # GFLOP/s of a matrix product
    kinds: Sequence[str] = ()  # of torch's side (benchmark_plan)
    arithmetic: str = "float32"
    device: str = "auto"  # of torch's side, as RunConfig.device
    changes: Mapping[str, Any] = {}  # of the workload's config
    torch_python: str = sys.executable  # the interpreter of torch's side


def side_arguments(work: Workload, folder: Path, arithmetic: str, changes: Mapping[str, Any]) -> list[str]:
    """What a side is told on its command line."""
    return [work.name, str(folder), json.dumps(ARITHMETICS[arithmetic] | dict(changes))]


def measure(work: Workload, plan: Plan) -> dict[str, Any]:
    """One row: both sides start from the same state and see the same inputs.

    Raises:
      RuntimeError: JAX's side failed; one of torch's may, and the row says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = side_arguments(work, Path(folder), plan.arithmetic, plan.changes)
        sides = {"jax": Side(["jax_sngan.benchmark.jax_side", *arguments], Path(folder) / "jax.log")}
        try:
            told = {"jax": sides["jax"].read()}
            if "failed" in told["jax"]:
                raise RuntimeError(f"{work.name}: {told['jax']['failed']}")
            on_cpu = told["jax"]["platform"] == "cpu"
            for kind in plan.kinds:
                command = ["torch_ref.benchmark.torch_side", *arguments, kind, plan.device]
                sides[kind] = Side(command, Path(folder) / f"{kind}.log", python=plan.torch_python)
                if on_cpu:  # elsewhere they get ready beside each other, for which a CPU would have no memory to spare
                    told[kind] = sides[kind].read()
            told |= {kind: sides[kind].read() for kind in plan.kinds if kind not in told}
            # On a GPU a step is short beside a host that waits for each: training does not wait either.
            count = 1 if on_cpu or work.images else STEPS
            seconds: dict[str, list[float]] = {side: [] for side in sides if "failed" not in told[side]}
            for _ in tqdm(range(plan.repetitions), desc=work.name, leave=False, disable=None):
                for side in list(seconds):
                    answer = sides[side].ask(f"go {count}")
                    if "failed" not in answer:
                        seconds[side].append(answer["seconds"])
                    elif side == "jax":
                        raise RuntimeError(f"{work.name}, jax: {answer['failed']}")
                    else:
                        told[side] |= answer
                        del seconds[side]
            for side in seconds:
                told[side] |= sides[side].ask("memory")
        finally:
            for process in sides.values():
                process.close()
    return row(work, seconds, told, plan.peak, plan.arithmetic)


def probe() -> dict[str, Any]:
    """Of this machine now, by JAX: {"platform", "device", "devices", "gflops": {arithmetic: GFLOP/s}}."""
    done = subprocess.run(
        [sys.executable, "-m", "jax_sngan.benchmark.jax_side", "probe"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment(),
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def torch_version(python: str) -> str | None:
    """The torch that an interpreter has; None: none.

    Raises:
      UserError: it cannot be run.
    """
    program = (
        "import importlib.util as u, importlib.metadata as m; print(m.version('torch') if u.find_spec('torch') else '')"
    )
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--torch-python must be a Python, got {shown(python)}: {error.strerror or error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"--torch-python must be a Python, got {shown(python)}: {last}")
    return done.stdout.strip() or None


def machine(probed: Mapping[str, Any], torch_python: str | None = None) -> dict[str, Any]:
    """What the numbers are of; torch_python: the interpreter of torch's side, where that is another."""
    torch = version_of("torch") if torch_python is None else torch_version(torch_python)
    return (
        {
            "platform": probed["platform"],
            "device": processor() if probed["platform"] == "cpu" else probed["device"],
            "processor": processor(),
            "cores": cores(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "system": platform.platform(),
            "python": platform.python_version(),
        }
        | {name: version_of(name) for name in ("jax", "jaxlib", "flax", "numpy")}
        | {"torch": torch}
    )


def starts(preset: str) -> dict[str, Any]:
    """Seconds from the start of `train` to its first step done, with an empty compilation cache and a full one.

    The sign of it is the checkpoint that follows the step. A line of the log would come later: its own programs are
    compiled first.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first_s", "second_s"):
            options = [
                "--steps=2", f"--workdir={folder}/{name}", "--sample-every=0", "--checkpoint-every=1", "--log-every=2",
            ]  # fmt: skip
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "jax_sngan", "train", preset, *options],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment() | {"XDG_CACHE_HOME": folder},
            )
            checkpoints = Path(folder) / name / "checkpoints"
            try:
                while process.poll() is None and not any(checkpoints.glob("1*")):
                    time.sleep(0.02)
                found[name] = time.perf_counter() - started
                process.wait()
            finally:
                process.kill()  # one that has ended is left alone
            if process.returncode:
                raise RuntimeError(f"train {preset} ended with exit code {process.returncode}")
    return {"preset": preset} | found


# What grows, and the sizes that it takes; each on the work beside it.
SWEEPS: dict[str, tuple[str, str, list[int]]] = {
    "batch": ("fashion", "batch_size", [4, 16, 64, 128]),
    "width": ("fashion", "width", [8, 16, 32, 64]),
    "resolution": ("fashion", "model.image_size", [28, 32, 48, 64]),
    "n_dis": ("fashion", "n_dis", [1, 2, 4, 8]),
}


def sweep(workloads: dict[str, Workload], repetitions: int, peak: float) -> list[dict[str, Any]]:
    """JAX's time and memory as one size grows, and the exponent of the growth from the two largest on."""
    found = []
    for name, (work, option, sizes) in SWEEPS.items():
        points = []
        for size in tqdm(sizes, desc=f"sweep {name}", leave=False, disable=None):
            options = ["model.generator_width", "model.discriminator_width"] if option == "width" else [option]
            r = measure(workloads[work], Plan(repetitions, peak, changes=dict.fromkeys(options, size)))
            points.append({"size": size, "jax_s": r["jax_s"], "gflop": r["gflop"], "jax_mb": r["jax_mb"]})
        exponent, constant = growth([p["size"] for p in points[-2:]], [p["jax_s"] for p in points[-2:]])
        overhead, rate = _overhead([p["gflop"] for p in points], [p["jax_s"] for p in points])
        found.append(
            {
                "sweep": name, "work": work, "points": points, "exponent": exponent, "constant": constant,
                "overhead_s": overhead, "gflops": rate, "overhead_dominates_below_gflop": overhead * rate,
            }
        )  # fmt: skip
    return found


def _overhead(gflop: list[float], seconds: list[float]) -> tuple[float, float]:
    """(seconds at no FLOPs, GFLOP/s) of the straight line through the measurements, by least squares."""
    mean_x, mean_y = sum(gflop) / len(gflop), sum(seconds) / len(seconds)
    spread = sum((x - mean_x) ** 2 for x in gflop)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(gflop, seconds, strict=True)) / spread
    return max(mean_y - slope * mean_x, 0.0), 1 / slope


def draw(sweeps: list[dict[str, Any]], path: Path) -> None:
    """Time of a step against FLOPs, and memory against batch, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (times, memory) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for s in sweeps:
        points = s["points"]
        label = f"{s['sweep']}: seconds ~ size^{s['exponent']:.2f}"
        times.loglog([p["gflop"] for p in points], [p["jax_s"] for p in points], "o-", label=label)
    times.set(xlabel="GFLOP a step", ylabel="seconds a step", title="Time of a training step")
    times.legend()
    batch = next(s for s in sweeps if s["sweep"] == "batch")["points"]
    memory.plot([p["size"] for p in batch], [p["jax_mb"] for p in batch], "o-")
    memory.set(xlabel="batch", ylabel="MiB at the peak", title="Memory", ylim=(0, None))
    write_whole(path, lambda p: figure.savefig(p, dpi=120))
    plt.close(figure)
