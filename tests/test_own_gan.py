"""--gan: a user's file in an empty folder, with its own discriminator, loss and optimiser, at each command."""

import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import logs
import numpy as np
import pytest

from conftest import TINY_OPTIONS, Outcome, start
from jax_sngan.commands.own_gan import own_gan
from jax_sngan.evaluation import evaluate
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.run import load

MINE = """
import dataclasses
import jax.numpy as jnp
import jax_sngan as sn
import optax
from flax import nnx
from jax.nn import softplus
from jax_sngan.nn.spectral_norm import SpectralNorm

class D(nnx.Module):
    def __init__(self, rngs):
        self.first = SpectralNorm(nnx.Conv(1, 4, (3, 3), strides=4, rngs=rngs, param_dtype=jnp.float32), rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs, param_dtype=jnp.float32)

    def __call__(self, images):
        return self.last(nnx.relu(self.first(images)).mean((1, 2)))[:, 0]

def make(config):
    loss = sn.Loss(
        lambda real, fake: jnp.mean(softplus(-real)) + jnp.mean(softplus(fake)),
        lambda real, fake: jnp.mean(softplus(-fake)),
    )
    adamw = optax.adamw(config.discriminator_optimizer.learning_rate, b1=0.0, b2=0.9)
    return dataclasses.replace(sn.gan(config), discriminator=D, loss=loss, discriminator_optimizer=adamw)

def nothing(config):
    return None
"""
GAN = ["--gan", "mine:make"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, programs: dict[str, str]) -> Path:
    """A folder with mine.py and runs of it: whole, and one that was cut off and went on."""
    made = tmp_path_factory.mktemp("mine")
    (made / "mine.py").write_text(MINE)
    for workdir in ("whole", "cut"):
        process = start("train_jax.py", [*TINY_OPTIONS, *GAN, f"--workdir={workdir}"], made, programs)
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert "networks    mine:make: generator" in out
        assert "more images python" in out
        assert "--gan mine:make" in out
        if workdir == "cut":
            break
        shutil.copytree(made / "whole", made / "cut")
        shutil.rmtree(made / "cut/checkpoints/6")
    return made


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_it_goes_on_to_the_same_bits(in_folder: Path) -> None:
    states = []
    for workdir in ("whole", "cut"):
        with Checkpoints(in_folder / workdir) as checkpoints:
            assert checkpoints.gan_name(6) == "mine:make"
            states.append(checkpoints.restore(6, checkpoints.choose(6, own_gan("mine:make")).like))
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert logs.texts(in_folder / "whole") == logs.texts(in_folder / "cut")
    assert "--gan mine:make" in (in_folder / "cut/README.txt").read_text()


def test_it_samples_and_is_scored(in_folder: Path, tmp_path: Path, script: Callable[..., Outcome]) -> None:
    outcome = script("sample.py", in_folder / "whole", *GAN, "--num=3", "--npz=a.npz")
    assert outcome.code == 0, outcome
    run = load(in_folder / "whole", gan=own_gan("mine:make"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], run.sample(3))

    def squares(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 4, 7, 4, 7).mean(axis=(2, 4)).reshape(len(images), 16)

    found = evaluate.evaluate(in_folder / "whole", num=64, features=squares, gan=own_gan("mine:make"))
    assert found["step"] == 6
    assert np.isfinite(list(found["metrics"].values())).all()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("sample.py", ["whole"], ["is of a GAN of its own, mine:make: give it again, by --gan"]),
        ("evaluate.py", ["whole", "--num=64"], ["is of a GAN of its own, mine:make: give it again, by --gan"]),
        (
            "train_jax.py",
            [*TINY_OPTIONS, "--workdir=whole"],
            ["trained with a GAN of its own, mine:make: give it again"],
        ),
        ("certify.py", ["whole"], ["a certificate needs one of this package's networks", "mine:make"]),
        ("export.py", ["whole", "--format=onnx", "--out=new"], ["needs one of this package's networks", "mine:make"]),
        ("convert_checkpoint.py", ["whole", "new.pt"], ["needs one of this package's networks", "mine:make"]),
        ("train_torch.py", [*TINY_OPTIONS, *GAN], ["gan is for", "got mine:make"]),
        ("train_jax.py", ["--gan=mine"], ["--gan must be MODULE:NAME, got mine"]),
        ("train_jax.py", ["--gan=nowhere:make"], ["there is no module nowhere"]),
        ("train_jax.py", ["--gan=mine:nowhere"], ["mine has no function nowhere"]),
        ("train_jax.py", ["--gan=mine:nothing"], ["mine:nothing must return a jax_sngan.GAN, got NoneType"]),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, tmp_path: Path, script: Callable[..., Outcome], name: str, arguments: list[str], words: list[str]
) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    shutil.copy(folder / "mine.py", tmp_path)
    outcome = script(name, *arguments)
    assert outcome.is_one_line(*words), outcome
    assert not (tmp_path / "new").exists()
