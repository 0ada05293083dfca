"""The compiled step of a target: from the cache, or from a process that compiles it now."""

import gzip
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.accelerators.environment import COMPILER
from jax_sngan.accelerators.targets import Target
from jax_sngan.config.schema import RunConfig, TrainConfig, to_dict
from jax_sngan.core.sharding import mesh_size
from jax_sngan.system.array_cache import Arrays, kept_arrays
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import install_command

BEAT = 20  # seconds between two signs of life
PACKAGES = {"tpu": ("libtpu",), "cuda": ("jax-cuda13-plugin", "jax-cuda13-pjrt")}
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_")  # of the environment: they reach the compiler
_DECIDE = ("jax", "jaxlib", "flax", "optax")
# Files whose change leaves the compiled program as it is: they read it.
_READERS = ("cost.py", "hlo.py", "report.py", "compiled.py", "table.py")


@dataclass(frozen=True)
class Request:
    """What decides a compiled step."""

    config: TrainConfig
    target: Target
    devices: int
    mesh: bool  # the step of a mesh, also of one device
    shard_state: bool = False
    quick: bool = False  # a TPU's compiler searches little for fast tilings


@dataclass(frozen=True)
class Memory:
    """Bytes of one device."""

    arguments: int
    results: int
    aliased: int  # of the results, in the arguments' place
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """At the step's peak."""
        return self.arguments + self.results - self.aliased + self.temporary + self.code


@dataclass(frozen=True)
class Compiled:
    """One step's program."""

    text: str  # "" where it was refused
    memory: Memory | None  # None where it was refused
    inputs: int  # arrays that the step takes beside the state
    refused: str  # the compiler's words where the program does not fit into the device; else ""


def request_for(config: TrainConfig, run: RunConfig, to: Target, *, quick: bool = False) -> Request:
    """The step that a run with these options would train with on the target.

    Raises:
      UserError: the mesh is none, larger than the target, or does not divide the batch; quick, and not of a TPU.
    """
    if quick and to.chip.platform != "tpu":
        raise UserError(f"quick is of a TPU's compiler; leave it out for {to.name}")
    n = mesh_size(run.mesh, config.batch_size, to.devices, to.processes, to.name)
    return Request(config, to, n or 1, n is not None, run.shard_state, quick)


class NotKept(Exception):
    """A step was not compiled before."""


def compiled(
    request: Request, say: Callable[[str], None], *, kept: bool = False, folder: Path | None = None
) -> Compiled:
    """The request's compiled step. Say is told each stage, and the seconds so far while it lasts.

    Args:
      kept: compile nothing.
      folder: where compiled steps are kept; default: in the package's cache.
    Raises:
      UserError: the compiler is not installed, or fails.
      NotKept: with `kept`, where it was not compiled before.
    """
    check_installed(request.target)

    def make() -> Arrays:
        if kept:
            raise NotKept
        return _compile(request, say)

    arrays = kept_arrays("compiled_steps", _key(request), make, folder=folder, say=say)
    told = json.loads(bytes(arrays["told"]).decode())
    text = gzip.decompress(bytes(arrays["text"])).decode()
    if refused := told.get("refused"):
        return Compiled("", None, 0, refused)
    inputs = told.pop("inputs")
    return Compiled(text, Memory(**told), inputs, "")


def check_installed(to: Target) -> None:
    """Passes where the target's compiler is installed.

    Raises:
      UserError: it is not, or this system can have none.
    """
    if sys.platform != "linux":
        raise UserError(f"compiling for {to.chip.name} needs Linux on x86-64, this is {sys.platform}")
    modules = {"tpu": ("libtpu",), "cuda": ("jax_plugins.xla_cuda13",)}[to.chip.platform]
    for module in modules:
        try:
            found = find_spec(module)
        except ModuleNotFoundError:  # of the package that the module would be in
            found = None
        if found is None:
            raise UserError(
                f"compiling for {to.chip.name} needs {' and '.join(PACKAGES[to.chip.platform])}; "
                f"{install_command('aot')} brings them"
            )


def versions(to: Target) -> dict[str, str]:
    """Of all packages that decide the compiled program."""
    found = {}
    for name in (*_DECIDE, *PACKAGES[to.chip.platform]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a compiler of the machine's own, found by its module
            found[name] = "unknown"
    return found


def _key(request: Request) -> str:
    told = asdict(request) | {"config": to_dict(request.config), "versions": versions(request.target)}
    flags = {name: value for name, value in os.environ.items() if name.startswith(_FLAGS)}
    return json.dumps([told, _code(), flags | COMPILER], sort_keys=True)


def _code() -> str:
    """A digest of the package's source, but for what only reads the result."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if not (path.parent.name == "accelerators" and path.name in _READERS):
            digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _compile(request: Request, say: Callable[[str], None]) -> Arrays:
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "step.hlo"
        told = _answer(request, text, Path(scratch) / "log", say)
        packed = gzip.compress(text.read_bytes() if text.exists() else b"", mtime=0)
    return {
        "told": np.frombuffer(json.dumps(told).encode(), np.uint8),
        "text": np.frombuffer(packed, np.uint8),
    }


def _answer(request: Request, text: Path, log: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What the process says at last."""
    asked = {
        "config": to_dict(request.config),
        "target": request.target.name,
        "devices": request.devices,
        "mesh": request.mesh,
        "shard_state": request.shard_state,
        "quick": request.quick,
        "text": str(text),
    }
    command = [sys.executable, "-m", "jax_sngan.accelerators.compile_step"]
    question = log.with_name("request.json")
    question.write_text(json.dumps(asked))
    with (
        question.open() as stdin,
        log.open("w") as stderr,
        subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=_importable(),
            env=os.environ | COMPILER,
        ) as process,
    ):
        try:
            told = _last_line(process, request.target.name, say)
            code = process.wait()
        finally:
            process.kill()  # nothing where it has ended; at Ctrl-C nobody waits for it
    if error := told.get("error"):
        raise UserError(error)
    if code or "stage" in told or not told:
        raise UserError(f"the compiler for {request.target.name} failed: {_last_words(log, code)}")
    return told


def _last_line(process: subprocess.Popen[str], name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The process's last line; of those before it, and every BEAT seconds, say is told how far it is."""
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    stdout, started = process.stdout, time.monotonic()

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    told: dict[str, Any] = {}
    while True:
        try:
            line = lines.get(timeout=BEAT)
        except queue.Empty:
            line = ""
        if line is None:
            return told
        told = json.loads(line) if line else told
        if "stage" in told:
            say(f"{name}: {told['stage']}, {time.monotonic() - started:.0f} s")


def _importable() -> Path:
    """The folder that the package is in: the process imports it from there, installed or not."""
    return Path(__file__).resolve().parent.parent.parent


def _last_words(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]  # it may go on for lines
    return (raised or lines or [f"exit code {code}"])[-1][:500]
