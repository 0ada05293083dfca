"""A user's mistake is one line that names it and what is allowed, exit code 2, and nothing is written."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, TINY_OPTIONS, Outcome
from docs_build.commands import parser_of
from jax_sngan.accelerators.targets import CHIPS
from jax_sngan.config import other_names
from jax_sngan.config.presets import names, preset
from jax_sngan.config.schema import ModelConfig, PenaltyConfig, RunConfig, TrainConfig, flatten
from jax_sngan.data.datasets import NAMED
from jax_sngan.metrics import scores

Script = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cifar"], ["unknown preset 'cifar'", "fashion"]),
        (["fashoin"], ["unknown preset 'fashoin'; did you mean fashion?", "cifar10_cnn"]),
        (["--data", "fashoin"], ["did you mean fashion?"]),
        (["--data", "CIFAR-10"], ["did you mean cifar10 or cifar100?"]),
        (["--step", "20"], ["did you mean steps=20 (--steps 20)?"]),
        (["--evaluate-every=3", "--evaluate-metrics=fcd,presicion"], ["did you mean precision?", "there are: fcd"]),
        (["fashion", "cifar10_cnn"], ["unknown argument cifar10_cnn"]),
        (["--stpes", "10"], ["unknown option --stpes", "did you mean --steps?"]),
        (["--lr", "3"], ["--generator-optimizer.learning-rate or --discriminator-optimizer.learning-rate?"]),
        (["--epochs=3"], ["did you mean --steps?"]),
        (["--size", "3"], ["did you mean --model.image-size?"]),
        (["--latent-size", "3"], ["did you mean --model.latent-size?"]),
        (["--list"], ["did you mean --help presets?"]),
        (["nowhere", "--help"], ["unknown preset 'nowhere'"]),
        (["--help", "xyzzy"], ["no option has the word xyzzy", "model.spectral_norm"]),
        (["--xyzzy"], ["unknown option --xyzzy", "--help"]),
        (["--steps"], ["--steps", "expected one argument"]),
        (["--steps", "many"], ["--steps must be a whole number, got 'many'"]),
        (["--steps", "0"], ["steps must be at least 1, got 0"]),
        (["--batch-size", "-3"], ["batch_size must be at least 1, got -3"]),
        (["--generator-optimizer.learning-rate", "nan"], ["learning_rate must be at least 0.0, got nan"]),
        (["--loss", "hing"], ["--loss", "invalid choice", "hinge", "did you mean hinge?"]),
        (["--model.image-size", "30"], ["image_size must be one of 28, 32, 48, 64", "got 30"]),
        (["--flip", "yes"], ["--flip", "invalid true|false value", "yes"]),
        (["--flip", "true"], ["flip must be false for fashion"]),
        (["--data", "nowhere"], ["nowhere"]),
        (["--data", "fashion_mnist", "--data-dir", "/nowhere"], ["/nowhere"]),
        (["--mesh", "model=2"], ["mesh must be data=N", "'model=2'"]),
        (["--mesh", "data=1000"], ["needs 1000 devices"]),
        (["--mesh", "data=3"], ["batch_size must be a multiple of the mesh's 3 devices, got 4"]),
        (["--device", "gpu"], ["device must be auto, cpu, cuda or cuda:N, got gpu"]),
        (["--device", "cpu"], ["device is for train_torch.py, got cpu", "JAX_PLATFORMS"]),
        (["--resume", "must"], ["has no checkpoint", "must"]),
        (["--workdir", "/proc/run"], ["cannot write /proc/run"]),
        (["--model.num-classes", "7"], ["model.num_classes must be 10 for fashion, got 7"]),
    ],
)
def test_training_refuses_in_one_line(script: Script, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    outcome = script("train_jax.py", *TINY_OPTIONS, *arguments)
    assert outcome.is_one_line("train_jax.py", *words), outcome
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data=nowhere", "--seed=1"], "data 'nowhere' is no known data set"),
        (["--mesh=data=1000", "--seed=1"], "needs 1000 devices"),
        (["--device=cpu", "--seed=1"], "device is for"),
        (["--evaluate-every=3", "--evaluate-metrics=no", "--seed=1"], "unknown metric 'no'"),
        (["--data=empty", "--seed=1"], "empty holds no images"),
        (["--data=broken", "--seed=1"], "broken.png"),
        (["--model.num-classes=7", "--seed=1"], "model.num_classes must be 10 for fashion, got 7"),
        (["--evaluate-every=3", "--evaluate-num=1", "--seed=1"], "evaluate_num"),
        (["--resume=never", "--seed=1"], "--resume is never"),
        (["--seed=1"], "holds another run"),
    ],
)
def test_what_is_wrong_is_told_before_what_is_other_than_in_the_run_that_is_there(
    script: Script, tmp_path: Path, tiny_run: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/broken.png").write_bytes(b"no image")
    outcome = script("train_jax.py", *TINY_OPTIONS, "--steps=6", "--workdir", tiny_run, *arguments)
    assert outcome.is_one_line(words), outcome


def test_an_option_of_true_or_false_alone_is_true() -> None:
    parser = parser_of("train")
    for words, value in (
        (["--skip-broken"], True),
        (["--skip-broken", "false"], False),
        (["--skip_broken=true"], True),
    ):
        assert parser.parse(words).skip_broken is value


def test_what_other_programs_call_a_thing_leads_to_what_there_is() -> None:
    options = {*flatten(TrainConfig()), *flatten(RunConfig())}
    of_commands = {"out", "grid", "npz", "labels", "num", "metrics", "truncation", "help presets"}
    for table, known in (
        (other_names.OPTIONS, options | of_commands),
        (other_names.PRESETS, names()),
        (other_names.DATA, NAMED),
        (other_names.TARGETS, [*CHIPS, *(f"{c.name}:{c.layouts[0]}" for c in CHIPS.values() if c.layouts)]),
        (other_names.METRICS, [*scores.names("classifier"), *scores.names("inception"), *scores.names("other")]),
    ):
        assert {there for meant in table.values() for there in meant} <= set(known)
        assert all(word == word.lower().replace("-", "_") for word in table)


def test_bad_files_are_refused_in_one_line(script: Script, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8b\x08 not an archive")
    (tmp_path / "file").write_text("x")
    for source, word in (("empty", "no image"), ("broken.npz", "broken.npz"), ("broken.tar.gz", "broken.tar.gz")):
        outcome = script("train_jax.py", *TINY_OPTIONS, "--data", tmp_path / source)
        assert outcome.is_one_line(word), outcome
    outcome = script("train_jax.py", *TINY_OPTIONS, "--workdir", tmp_path / "file")
    assert outcome.is_one_line("is a file"), outcome
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_images_trains_when_it_is_dry(script: Script, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 30, 3), 200, np.uint8)).save(tmp_path / "pictures" / name / "1.png")
    outcome = script("train_jax.py", *TINY_OPTIONS, "--data", tmp_path / "pictures", "--dry-run")
    assert outcome.code == 0, outcome


def test_dry_run_tells_and_trains_nothing(script: Script, tmp_path: Path) -> None:
    outcome = script("train_jax.py", "cifar10_resnet", "--batch_size=32", "--dry-run", "--json", "out.json")
    assert outcome.code == 0, outcome
    told = json.loads((tmp_path / "out.json").read_text())
    assert json.loads(outcome.out) == told
    # The published counts (torch-mimicry's), less the authors' missing final bias.
    assert (told["g_params"], told["d_params"]) == (4_276_739, 1_053_824)
    assert told["config"]["batch_size"] == 32
    assert told["gflop_per_step"] > 100
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_help_names_every_option(script: Script) -> None:
    outcome = script("train_jax.py", "--help", "all")
    assert outcome.code == 0
    for kind in (TrainConfig, RunConfig):
        for option in flatten(kind()):
            assert f"--{option.replace('_', '-')} " in outcome.out, option


@pytest.mark.parametrize("name", ["train_jax.py", "train_torch.py"])
def test_help_is_one_screen_of_what_people_use(
    script: Script, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = script(name, "--help").out
    assert len(text.splitlines()) <= 90
    assert 20 <= len(re.findall(r"^  --[a-z]", text, re.MULTILINE)) <= 35
    examples = [line.split("    (")[0] for line in text.splitlines() if line.startswith("  python ")]
    assert len(examples) == 3
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full((70, 70, 3), 200, np.uint8)).save(tmp_path / "photos/1.png")
    for example in examples:
        outcome = script(name, *shlex.split(example)[2:], "--dry-run", "--json=-")
        assert outcome.code == 0, outcome
    assert f"update [{preset('fashion').steps}]" in text
    assert "update [100000]" in re.sub(r"\s+", " ", script(name, "cifar10_cnn", "--help").out)


def test_the_rest_of_the_help_is_found_by_word(script: Script) -> None:
    def listed(*words: str) -> set[str]:
        return set(re.findall(r"^  --([\w.-]+)", script("train_jax.py", "--help", *words).out, re.MULTILINE))

    rates = {"generator-optimizer.learning-rate", "discriminator-optimizer.learning-rate"}
    assert listed("lr") == rates
    assert {o.replace("-", "_") for o in listed("penalty")} == {f"penalty.{f}" for f in flatten(PenaltyConfig())}
    assert {o.replace("-", "_") for o in listed("model")} == {f"model.{f}" for f in flatten(ModelConfig())}
    assert {"weight-clip"} <= listed("clip")
    assert {"penalty.kind"} <= listed("dragan")  # a choice
    presets = script("train_jax.py", "--help", "presets").out
    assert [line.split()[0] for line in presets.splitlines()] == names()
    assert "scripts/train_jax.py wgan_gp" in script("train_jax.py", "--help", "wgan_gp").out
    assert "--truncation" in script("sample.py", "--help", "latents").out


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "scripts").glob("*.py")))
def test_every_script_has_help_and_refuses_what_it_does_not_know(script: Script, name: str) -> None:
    assert script(name, "--help").code == 0
    outcome = script(name, "--no-such-option")
    assert outcome.code == 2, outcome
    assert outcome.err.count("\n") == 1, outcome


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["no workdir nowhere", "train first"]),
        (["."], ["no checkpoint in ."]),
        (["RUN", "--step", "5"], ["no checkpoint of step 5", "there are: 3, 6"]),
        (["RUN", "--step", "first"], ["step must be latest, best or a number, got 'first'"]),
        (["RUN", "--step", "best"], ["has an evaluated metric"]),
        (["RUN", "--num", "0"], ["--num must be at least 1, got 0"]),
        (["RUN", "--num", "x"], ["--num must be a whole number, got 'x'"]),
        (["RUN", "--grid", "a.jpg"], ["--grid", "a.jpg does not end in .png"]),
        (["RUN", "--json", "/dev/null"], ["--json", "/dev/null", "it is no file"]),
        (["RUN", "--seed", "-1"], ["--seed must be from 0", "-1"]),
        (["RUN", "--labels", "1"], ["unconditional"]),
        (["RUN", "--labels", "shoe"], ["--labels must be numbers", "'shoe'"]),
        (["RUN", "--grid", "/proc/x/y.png"], ["cannot write /proc/x/y.png"]),
    ],
)
def test_sampling_refuses_in_one_line(script: Script, tiny_run: Path, arguments: list[str], words: list[str]) -> None:
    outcome = script("sample.py", *(str(tiny_run) if a == "RUN" else a for a in arguments))
    assert outcome.is_one_line("sample.py", *words), outcome


def test_a_result_takes_the_place_of_nothing_else(script: Script, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    config, picture = tiny_run / "config.json", tiny_run / "samples" / "000003.png"
    before = config.read_bytes(), picture.read_bytes()
    for option, path, words in (
        ("--json", config, "belongs to the run"),
        ("--json", tiny_run / "checkpoints" / "a.json", "belongs to the run"),
        ("--grid", picture, "belongs to the run"),
        ("--json", "notes.txt", "is there already and does not end in .json"),
        ("--json", "notes.txt/a.json", "notes.txt is a file"),
        ("--npz", "notes.txt", "does not end in .npz"),
        ("--json", ".", "it is a folder"),
    ):
        outcome = script("sample.py", tiny_run, "--num=2", option, path)
        assert outcome.is_one_line(option, words), outcome
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert (config.read_bytes(), picture.read_bytes()) == before


def test_what_is_sampled_is_told_as_json(script: Script, tiny_run: Path, tmp_path: Path) -> None:
    for _ in range(2):  # a second time, over its own results
        outcome = script("sample.py", tiny_run, "--num=2", "--grid=a.png", "--json=-")
        assert json.loads(outcome.out) == {"step": 6, "num": 2, "files": ["a.png"]}, outcome
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
