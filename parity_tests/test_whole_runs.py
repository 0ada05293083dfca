"""train_jax.py and train_torch.py as a person calls them: same first weights, same inputs, same log and pictures."""

import signal
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from parity_tests.processes import ROOT, assert_same_logs, lines, start

OPTIONS = [
    "--model.generator-width=2", "--model.discriminator-width=2", "--model.latent-size=4", "--batch-size=8",
    "--n-dis=2", "--steps=6", "--log-every=2", "--sample-every=3", "--checkpoint-every=3", "--model.dtype=float64",
]  # fmt: skip


def start_run(script: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    return start(folder, str(ROOT / "scripts" / script), *OPTIONS, *arguments)


def test_both_wings_write_the_same_run(tmp_path: Path) -> None:
    """In float64. The torch run is stopped by a real signal on its way and resumed: it ends as if it had not been."""
    jax_run = start_run("train_jax.py", "--workdir=jax", folder=tmp_path)
    torch_run = start_run("train_torch.py", "--workdir=torch", "--log-every=1", folder=tmp_path)
    assert torch_run.stdout is not None
    for line in torch_run.stdout:
        if line.startswith("step 1/"):
            torch_run.send_signal(signal.SIGINT)
            break
    out, err = torch_run.communicate(timeout=120)
    assert torch_run.returncode in (0, 130), err  # six steps are quick: the signal may meet a finished run
    if torch_run.returncode == 130:
        assert "and saved; to go on: python" in out
    rest = start_run("train_torch.py", "--workdir=torch", "--log-every=1", "--resume=must", folder=tmp_path)
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
