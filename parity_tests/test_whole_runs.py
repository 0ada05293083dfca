"""train_jax.py and train_torch.py as a person calls them: same first weights, same inputs, same log and pictures."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = [
    "--model.generator-width=2", "--model.discriminator-width=2", "--model.latent-size=4", "--batch-size=8",
    "--n-dis=2", "--steps=6", "--log-every=2", "--sample-every=3", "--checkpoint-every=3", "--model.dtype=float64",
]  # fmt: skip


def start(script: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / script), *OPTIONS, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(workdir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_logs(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for a, b in zip(found, expected, strict=True):
        assert set(a) == set(b)
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=1e-8, abs=1e-10), name


def test_both_wings_write_the_same_run(tmp_path: Path) -> None:
    """In float64. The torch run is stopped by a real signal on its way and resumed: it ends as if it had not been."""
    jax_run = start("train_jax.py", "--workdir=jax", folder=tmp_path)
    torch_run = start("train_torch.py", "--workdir=torch", "--log-every=1", folder=tmp_path)
    assert torch_run.stdout is not None
    for line in torch_run.stdout:
        if line.startswith("step 1/"):
            torch_run.send_signal(signal.SIGINT)
            break
    out, err = torch_run.communicate(timeout=120)
    assert torch_run.returncode in (0, 130), err  # six steps are quick: the signal may meet a finished run
    if torch_run.returncode == 130:
        assert "and saved; to go on: python" in out
    rest = start("train_torch.py", "--workdir=torch", "--log-every=1", "--resume=must", folder=tmp_path)
    _, err = rest.communicate(timeout=120)
    assert rest.returncode == 0, err
    out, err = jax_run.communicate(timeout=240)
    assert jax_run.returncode == 0, err

    each = {line["step"]: line for line in lines(tmp_path / "torch")}
    assert sorted(each) == list(range(1, 7))
    pairs = [
        {name: value if name == "step" else (each[k - 1][name] + value) / 2 for name, value in each[k].items()}
        for k in (2, 4, 6)
    ]
    assert_same_logs(lines(tmp_path / "jax"), pairs)
    for picture in ("000003.png", "000006.png"):
        with Image.open(tmp_path / "jax/samples" / picture) as a, Image.open(tmp_path / "torch/samples" / picture) as b:
            difference = np.abs(np.asarray(a, int) - np.asarray(b, int))
        assert difference.max() <= 1, picture  # a value halfway between two pixels may round either way
