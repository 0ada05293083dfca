"""train_jax.py and train_torch.py as a person calls them: same first weights, same inputs, same log and pictures."""

import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jax_sngan.config.schema import AugmentConfig, ModelConfig, RunConfig, TrainConfig
from jax_sngan.evaluation import evaluate
from jax_sngan.metrics.extractors import Extractor
from parity_tests.processes import ROOT, assert_same_logs, joined, lines, start
from torch_ref.commands.train import train
from torch_ref.runs.checkpoint import Checkpoints

OPTIONS = [
    "--model.generator-width=2", "--model.discriminator-width=2", "--model.latent-size=4", "--batch-size=8",
    "--n-dis=2", "--steps=6", "--log-every=2", "--sample-every=3", "--checkpoint-every=3", "--model.dtype=float64",
]  # fmt: skip


def start_run(script: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    return start(folder, str(ROOT / "scripts" / script), *OPTIONS, *arguments)


def test_both_frameworks_write_the_same_run(tmp_path: Path) -> None:
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
    pairs = [joined(each[k - 1], each[k]) for k in (2, 4, 6)]
    assert_same_logs(lines(tmp_path / "jax"), pairs)
    for picture in ("000003.png", "000006.png"):
        with Image.open(tmp_path / "jax/samples" / picture) as a, Image.open(tmp_path / "torch/samples" / picture) as b:
            difference = np.abs(np.asarray(a, int) - np.asarray(b, int))
        assert difference.max() <= 1, picture  # a value halfway between two pixels may round either way


def test_the_reference_has_the_same_run_from_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squares: Extractor
) -> None:
    """With labels, augmentation and evaluation; and from a checkpoint, under another --log-every. To the bit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluate, "open_extractor", lambda *_: squares)
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)):
        path = tmp_path / f"drawn/{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    config = TrainConfig(
        data=str(tmp_path / "drawn"), steps=4, batch_size=4, n_dis=1, flip=True,
        augment=AugmentConfig(colour=True, translation=0.125, cutout=0.5),
        model=ModelConfig(
            image_size=28, channels=1, num_classes=2, latent_size=4, generator_width=2, discriminator_width=2
        ),
    )  # fmt: skip
    every = {"sample_every": 2, "checkpoint_every": 2, "evaluate_every": 2, "evaluate_num": 64}
    options = every | {"evaluate_metrics": "fcd", "keep_checkpoints": 9}
    memory, stream = tmp_path / "memory", tmp_path / "stream"
    train(config, RunConfig(workdir=str(memory), stream="never", log_every=1, **options))
    streamed = options | {"workdir": str(stream), "stream": "always", "stream_workers": 1}
    train(config, RunConfig(log_every=1, **streamed))
    assert lines(memory) == lines(stream)
    shutil.rmtree(stream / "checkpoints/4")
    train(config, RunConfig(log_every=2, **streamed))
    each = {line["step"]: line for line in lines(memory) if "d_loss" in line}
    found = {line["step"]: line for line in lines(stream) if "d_loss" in line}
    assert sorted(found) == [1, 2, 4]
    assert found[4] == joined(each[3], each[4])
    scores = [[line for line in lines(workdir) if "d_loss" not in line] for workdir in (memory, stream)]
    assert scores[0] == scores[1]
    assert [line["step"] for line in scores[0]] == [2, 4]
    for picture in ("000002.png", "000004.png"):
        assert (memory / "samples" / picture).read_bytes() == (stream / "samples" / picture).read_bytes()
    states = [Checkpoints(workdir).restore(4).state for workdir in (memory, stream)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
