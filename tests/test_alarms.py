"""Alarms are told on runs that really fail, once, with what was seen and since when; and on no run that goes well."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import recorded_runs
from flax import nnx

import jax_sngan as sn
from conftest import ROOT, Outcome
from jax_sngan.config.run_config import ALARMS
from jax_sngan.config.schema import replace
from jax_sngan.models.network import Network, Variables
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.training.alarms import Alarms

SMALL = {"model.generator_width": 32, "model.discriminator_width": 32, "batch_size": 64}
MLP = {"model.architecture": "mlp", **SMALL}
UNNORMALISED = {"model.spectral_norm.networks": "none"}
OFTEN = {"log_every": 10, "sample_every": 50, "singular_values_every": 10}


def rates(generator: float, discriminator: float) -> dict[str, float]:
    return {"generator_optimizer.learning_rate": generator, "discriminator_optimizer.learning_rate": discriminator}


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The alarms of what was printed."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("alarm ")]
    for line in lines:
        assert ", since step " in line
        assert "; people " in line
    return [line.split()[1].rstrip(":") for line in lines]


HOT = {"loss": "minimax", **rates(0.1, 0.1), **UNNORMALISED, **SMALL}  # a standard GAN with too high a rate


def test_a_discriminator_that_has_won(capsys: pytest.CaptureFixture[str]) -> None:
    run = sn.train("points", steps=200, **HOT, **OFTEN)
    assert run.step == 200
    assert "d_won" in told(capsys)


class Dying(nnx.Module):
    """A discriminator of points whose ReLUs a far too high rate leaves dead: its score is one number for all."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.List([nnx.Linear(i, 32, rngs=rngs) for i in (2, 32)])
        self.score = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images.reshape(len(images), -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.score(x)[:, 0]


def test_a_discriminator_that_is_the_same_for_every_image(capsys: pytest.CaptureFixture[str]) -> None:
    gan = dataclasses.replace(sn.gan(replace(sn.preset("points"), rates(1e-3, 1.0))), discriminator=Dying)
    data = sn.load_data("grid", image_size=1, channels=2)
    sn.train(gan, data=data, batch_size=64, steps=100, log_every=10, sample_every=0)
    assert told(capsys) == ["d_flat"]


def test_a_critic_that_nothing_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    data = sn.load_data("fashion", image_size=28, channels=1)
    options = {"loss": "wasserstein", "n_dis": 5, **rates(1e-3, 1e-2), **UNNORMALISED, **MLP}
    sn.train("sngan", data=data, steps=60, **options, **OFTEN)
    assert "exploding" in told(capsys)


def test_a_generator_that_makes_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    """One without batch normalisation that learns thirty times as fast as D goes to whatever D takes for real."""
    data = sn.load_data("fashion", image_size=28, channels=1)
    options = {"loss": "non_saturating", "n_dis": 1, "model.generator_norm": "none", **UNNORMALISED, **MLP}
    often = {"log_every": 10, "sample_every": 20}
    hot = options | {"model.generator_width": 64, "model.discriminator_width": 64} | rates(1e-2, 3e-4)
    sn.train("sngan", data=data, steps=200, seed=2, **hot, **often)
    assert told(capsys) == ["collapse"]


def test_a_spectral_norm_whose_u_is_frozen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a user's code forgets to carry it: each pass starts from the first u again."""
    iterate = Network.iterate

    def frozen(self: Network, variables: Variables) -> Variables:
        def first(path: Any, x: Any) -> Any:
            return jnp.where(jnp.arange(len(x)) % 2 == 0, 1.0, -1.0).astype(x.dtype) if path[-1].key == "u" else x

        return iterate(self, variables._replace(spectral=jax.tree.map_with_path(first, variables.spectral)))

    monkeypatch.setattr(Network, "iterate", frozen)
    sn.train(
        "points", steps=200, **(SMALL | {"model.discriminator_width": 31}), **OFTEN
    )  # of no other test's compiled programs
    assert told(capsys) == ["sigma"]


def test_stop_on_ends_the_run_with_a_checkpoint(
    script: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {**HOT, **OFTEN, "steps": 400}.items()]
    outcome = script("train_jax.py", "points", *options, "--stop-on=collapse,d_won", "--workdir=run")
    assert outcome.code == 3, outcome
    said = outcome.out.splitlines()
    assert "by the alarm d_won and saved; to go on: " in said[-1]
    step = int(said[-1].split()[3])
    assert step < 400
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.steps()[-1] == step
    again = script("train_jax.py", "points", *options, "--workdir=run", "--steps=400")
    assert again.code == 0, again
    assert "alarm " not in again.out.partition("d_won")[0]  # told before the run was resumed: it is not told again


def test_a_run_that_goes_well_sets_off_none(capsys: pytest.CaptureFixture[str]) -> None:
    sn.train("points", steps=200, **SMALL, **OFTEN)
    assert told(capsys) == []


AS_THEY_ARE = ["--steps=1500"]
# With five D updates a step: fewer steps, told as often.
FIVE_UPDATES = ["--steps=500", "--log-every=20", "--sample-every=100"]
PRESETS = {
    "fashion": AS_THEY_ARE, "sngan": AS_THEY_ARE, "dcgan": AS_THEY_ARE, "points": AS_THEY_ARE,
    "wgan": FIVE_UPDATES, "wgan_gp": FIVE_UPDATES,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_set_off_none(preset: str, seed: int, tmp_path: Path) -> None:
    """Those whose images ship with the package."""
    assert "alarm " not in trained(tmp_path, [preset, *PRESETS[preset], f"--seed={seed}"])


LARGER = [name for name in sn.presets() if name not in PRESETS]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("preset", LARGER)
@pytest.mark.parametrize("form", ["narrow", "as wide as they are"])
def test_the_larger_presets_set_off_none_in_batches_of_8(form: str, preset: str, seed: int, tmp_path: Path) -> None:
    """Their losses, rates and depth, on garments of their size; narrow: with few features, and more steps."""
    model = sn.preset(preset).model
    options = ["--batch-size=8", "--data=fashion", "--flip=false"]
    options += ["--model.num-classes=10"] if model.num_classes else []
    steps, every = (25, 1) if model.image_size >= 128 else (50, 2)
    if form == "narrow":
        width = recorded_runs.fewest_features(model)
        options += [f"--model.generator-width={width}", f"--model.discriminator-width={width}"]
        steps, every = (100, 4) if model.image_size >= 128 else (250, 10)
    often = [f"--steps={steps}", f"--log-every={every}", f"--sample-every={5 * every}", "--checkpoint-every=0"]
    often += [f"--singular-values-every={steps // 2}"]  # sigma is told of where two lines in turn have it too small
    assert "alarm " not in trained(tmp_path, [preset, *options, *often, f"--seed={seed}"])


def trained(folder: Path, options: list[str]) -> str:
    """What the script says of a training, at full speed, that writes at least 25 lines of numbers."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # the tests' are slow
    command = [sys.executable, ROOT / "scripts/train_jax.py", *options, "--workdir=run"]
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert len((folder / "run/metrics.jsonl").read_text().splitlines()) >= 25
    return outcome.stdout


# Lines made by hand ---------------------------------------------------------------------------------------------------

GOOD = {
    "d_loss": 1.0, "g_loss": 0.0, "d_accuracy_real": 0.8, "d_accuracy_fake": 0.7, "d_grad_norm": 1.0,
    "g_grad_norm": 1.0, "d_update_norm": 0.1, "g_update_norm": 0.1, "d_sigma/a": 2.0,
    "d_singular_value/a": 2.02, "g_spread": 0.9,
}  # fmt: skip
BAD = {
    "d_won": {"d_accuracy_real": 1.0, "d_accuracy_fake": 1.0, "g_grad_norm": 1e-4},
    "d_flat": {"g_grad_norm": 1e-4},
    "collapse": {"g_spread": 0.05},
    "sigma": {"d_singular_value/a": 3.0},
    "exploding": {"d_grad_norm": 101.0},
}


def steps_told(lines: list[dict[str, float]]) -> list[tuple[int, str]]:
    alarms = Alarms()
    return [(step, alarm.name) for step, line in enumerate(lines) for alarm in alarms.look(step, line)]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_told_once_until_it_ceases(name: str) -> None:
    bad = GOOD | BAD[name]
    rows = {"d_won": 3, "d_flat": 3, "collapse": 2, "sigma": 2, "exploding": 3}[name]
    assert steps_told([GOOD] * 20) == []
    assert steps_told([GOOD] * 5 + [bad] * (rows - 1) + [GOOD] * 5) == []
    lines = [GOOD] * 10 + [bad] * 6 + [GOOD] + [bad] * 6
    assert steps_told(lines) == [(9 + rows, name), (16 + rows, name)]
    alarms = Alarms.after(list(enumerate(lines[: 10 + rows])))  # a run that goes on has told of it
    assert alarms.look(10 + rows, bad) == []


def test_the_text_says_what_since_when_and_what_to_do() -> None:
    alarms = Alarms.after([(10 * i, GOOD) for i in range(4)])
    (alarm,) = [a for i in range(2) for a in alarms.look(100 + 10 * i, GOOD | BAD["sigma"])]
    assert alarm.text.startswith(
        "alarm       sigma: D's a has 1.5 times the singular value that it is divided by, since "
    )
    assert ", since step 100; people " in alarm.text
    assert "power iterations" in alarm.text


def test_lines_that_do_not_say_change_nothing() -> None:
    """Samples and singular values are in some lines alone; scores are lines of their own."""
    quiet = {name: v for name, v in GOOD.items() if name not in ("g_spread", "d_singular_value/a")}
    bad = GOOD | BAD["collapse"]
    assert steps_told([GOOD] * 4 + [bad, quiet, {"fid": 3.0}, quiet, bad]) == [(8, "collapse")]
    wasserstein = {name: v for name, v in (GOOD | BAD["d_won"]).items() if "accuracy" not in name}
    assert steps_told([GOOD] * 4 + [wasserstein] * 5) == []


def test_a_generator_that_has_not_begun_is_no_collapse() -> None:
    assert steps_told([GOOD | {"g_spread": spread} for spread in (0.01, 0.02, 0.05, 0.1, 0.3, 0.8)]) == []
