"""What the tests of whole runs share: a tiny config, a trained workdir, and scripts called as a person calls them."""

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from jax_sngan.config.schema import ModelConfig, OptimizerConfig, RunConfig, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
# The smallest run, as a command line has it.
TINY_OPTIONS = [
    "--model.generator-width=2", "--model.discriminator-width=2", "--model.latent-size=4", "--batch-size=4",
    "--n-dis=2", "--steps=6", "--log-every=2", "--sample-every=3", "--checkpoint-every=3",
]  # fmt: skip
TINY = TrainConfig(
    name="tiny",
    data="fashion",
    steps=6,
    batch_size=4,
    n_dis=2,
    ema_decay=0.5,  # and a rate so high that six steps make images that differ
    generator_optimizer=OptimizerConfig(learning_rate=0.05),
    model=ModelConfig(image_size=28, channels=1, latent_size=4, generator_width=2, discriminator_width=2),
)


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process: compiled programs are shared between all processes of one test session."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "programs"
    cache.mkdir(exist_ok=True)
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a finished run of TINY."""
    from jax_sngan.training.trainer import train

    workdir = tmp_path_factory.mktemp("run") / "tiny"
    run = RunConfig(workdir=str(workdir), log_every=2, sample_every=3, checkpoint_every=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        train(TINY, run)
    return workdir


class Outcome:
    """How a script called in this process ended."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    def is_one_line(self, *words: str) -> bool:
        """Exit code 2, one line on stderr that holds all the words, nothing else."""
        return self.code == 2 and self.err.count("\n") == 1 and all(w in self.err for w in words)

    def __repr__(self) -> str:
        return f"exit code {self.code}\nstdout: {self.out}\nstderr: {self.err}"


@pytest.fixture
def script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Calls scripts/NAME with arguments in an empty folder, in this process: quick, for what ends early."""

    def call(name: str, *arguments: str | Path) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"scripts/{name}", *map(str, arguments)])
        capfd.readouterr()
        try:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def start(
    name: str, arguments: Sequence[str | Path], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """scripts/NAME as a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
