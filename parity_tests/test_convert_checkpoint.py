"""convert_checkpoint.py as a person calls it: a run that changes frameworks, other programs' files, and refusals."""

import json
import os
import pickle
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import jax_sngan
from jax_sngan.config.reference_programs import PROTOCOLS
from jax_sngan.config.schema import ModelConfig, TrainConfig, replace
from jax_sngan.core.state import TrainState
from jax_sngan.interop import public_programs, torch_layout
from jax_sngan.interop.public_programs import PROGRAMS
from jax_sngan.runs.checkpoint import Checkpoints
from parity_tests.configs import BASE, RESNET, U_FIRST
from parity_tests.processes import ROOT, assert_same_logs, lines, start
from parity_tests.tolerances import TRAJECTORY_F64
from parity_tests.trees import assert_agree, assert_same, biases_before_batch_norm, random_state, random_variables
from torch_ref.runs import checkpoint as reference

SCRIPT = ROOT / "scripts" / "convert_checkpoint.py"
OPTIONS = [
    "--model.generator-width=2", "--model.discriminator-width=2", "--model.latent-size=4", "--batch-size=4",
    "--n-dis=1", "--steps=100", "--log-every=20", "--sample-every=0", "--checkpoint-every=50", "--model.dtype=float64",
]  # fmt: skip


@pytest.fixture
def converter(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Calls the script in this process and in an empty folder; gives exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["scripts/convert_checkpoint.py", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return int(end.value.code or 0), *capfd.readouterr()

    return call


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def saved_by_jax(workdir: Path, config: TrainConfig, step: int) -> TrainState:
    with Checkpoints(workdir) as checkpoints:
        return jax.tree.map(np.asarray, checkpoints.restore(step, checkpoints.choose(step).like))


def go_on(folder: Path, converted: str) -> str:
    """Runs the command that the conversion printed, with this run's logs and checkpoints."""
    (line,) = (line for line in converted.splitlines() if line.startswith("go on"))
    words = line.removeprefix("go on").split()
    assert words[0] == "python"
    return finish(start(folder, str(ROOT / words[1]), *words[2:], *OPTIONS[-4:-1]))


def test_a_run_moves_between_the_frameworks_half_way(tmp_path: Path) -> None:
    """50 steps in torch and 50 in JAX are 100 steps in JAX, and the other way; the log goes on over the change, in the
    middle of one of its intervals of 20 steps."""
    jax_run = start(tmp_path, str(ROOT / "scripts/train_jax.py"), "sngan", *OPTIONS, "--workdir=jax")
    torch_run = start(tmp_path, str(ROOT / "scripts/train_torch.py"), "sngan", *OPTIONS, "--workdir=torch")
    finish(torch_run)
    finish(jax_run)
    for source, target in (("torch", "jax_half"), ("jax", "torch_half")):
        out = finish(start(tmp_path, str(SCRIPT), source, target, "--step=50"))
        assert "step 50" in out
        assert "steps       50 -> 100" in go_on(tmp_path, out)
    assert_same_logs(lines(tmp_path / "jax_half"), lines(tmp_path / "jax"))
    assert_same_logs(lines(tmp_path / "torch_half"), lines(tmp_path / "jax"))

    with Checkpoints(tmp_path / "jax") as checkpoints:
        config = checkpoints.config(100)
    whole = torch_layout.to_torch(config, saved_by_jax(tmp_path / "jax", config, 100))
    halves = {
        "jax": torch_layout.to_torch(config, saved_by_jax(tmp_path / "jax_half", config, 100)),
        "torch": reference.Checkpoints(tmp_path / "torch_half").restore(100).state,
    }
    # Biases in front of BatchNorm have a true gradient of zero: what either has for them is rounding that Adam
    # turns into steps, so their kernel gives the scale. The running mean behind such a bias averages it with the rest,
    # error for error, and in so small a network is itself near zero: the same kernel gives its scale.
    scales = biases_before_batch_norm(config.model, whole)
    scales |= {f"generator.norms.{i}.running_mean": f"generator.deconvs.{i}.weight" for i in range(2)}
    for half in halves.values():
        assert_agree(half, whole, TRAJECTORY_F64, scales)


@pytest.mark.parametrize(
    "changes", [{}, {**RESNET, **U_FIRST, "model.num_classes": 3}], ids=["standard_cnn", "resnet_u_first_classes"]
)
def test_there_and_back_changes_no_bit(changes: dict[str, Any], converter: Callable, tmp_path: Path) -> None:
    config = replace(BASE, changes | {"model.dtype": "float32", "name": "own"})
    state = jax.tree.map(np.asarray, random_state(config))
    step, metrics, unlogged = int(state.step), {"d_loss": 0.1}, [{"d_loss": 1 / 3}]
    with Checkpoints(tmp_path / "first", keep=1) as checkpoints:
        checkpoints.save(state, config, metrics, unlogged)
    (tmp_path / "first/metrics.jsonl").write_text('{"step": 2, "d_loss": 0.1}\n{"step": 9, "d_loss": 0.0}\n')
    for arguments in (["first", "lone.pt"], ["first", "workdir"], ["lone.pt", "second"], ["workdir", "third"]):
        code, _, err = converter(*arguments)
        assert code == 0, err
    assert (tmp_path / "third/metrics.jsonl").read_text() == '{"step": 2, "d_loss": 0.1}\n'
    for workdir in ("second", "third"):
        with Checkpoints(tmp_path / workdir) as checkpoints:
            assert checkpoints.steps() == [step]
            assert (checkpoints.config(step), checkpoints.metrics(step)) == (config, metrics)
            assert checkpoints.unlogged(step) == unlogged
        assert_same(saved_by_jax(tmp_path / workdir, config, step), state)


def network_config(program: str, **model: Any) -> ModelConfig:
    options = {"architecture": "resnet", "generator_width": 16, "discriminator_width": 16, "latent_size": 7, **model}
    return replace(TrainConfig(), PROTOCOLS[program] | {f"model.{n}": v for n, v in options.items()}).model


def write_files(folder: Path, program: str, config: ModelConfig) -> dict[str, dict[str, np.ndarray]]:
    """generator and discriminator as a program's own classes write them, counts of batches included."""
    rng, files = np.random.default_rng(0), {}
    for network in torch_layout.NETWORKS:
        flat = public_programs.write(program, config, network, random_variables(config, network, rng))
        flat = public_programs.own_spelling(program, config, network, flat)
        files[network] = dict(flat)
        if network == "generator":
            flat[PROGRAMS[program].separator.join(["block2", "b1", PROGRAMS[program].ignored])] = np.array(3)
        if program == "authors":
            np.savez(folder / f"{network}.npz", **flat)
        else:
            tensors = {name: torch.from_numpy(a.copy()) for name, a in flat.items()}
            model = torch.nn.Linear(2, 1)
            optimizer = torch.optim.Adam(model.parameters()).state_dict()
            contents = {"model_state_dict": tensors, "optimizer_state_dict": optimizer, "global_step": 70}
            torch.save(contents, folder / f"{network}.pth")
    return files


@pytest.mark.parametrize(
    ("program", "model"),
    [
        ("mimicry", {"image_size": 32}),
        ("mimicry", {"image_size": 32, "num_classes": 3}),
        ("mimicry", {"image_size": 128, "num_classes": 3}),
        ("authors", {"image_size": 32, "num_classes": 3}),
        ("authors", {"image_size": 64, "score_bias": True}),
    ],
)
def test_both_networks_of_another_program_come_in_and_go_out(
    program: str, model: dict[str, Any], converter: Callable, tmp_path: Path
) -> None:
    config = network_config(program, **model)
    files = write_files(tmp_path, program, config)
    suffix = {"mimicry": ".pth", "authors": ".npz"}[program]
    code, out, err = converter(f"discriminator{suffix}", "run", "--pair", f"generator{suffix}", "--data", "cifar100")
    assert code == 0, err
    assert "fresh optimisers" in out
    code, _, err = converter("run", "back", "--format", program)
    assert code == 0, err
    for network, expected in files.items():
        path = tmp_path / "back" / f"{network}{suffix}"
        if program == "authors":
            with np.load(path) as archive:
                found = dict(archive)
        else:
            contents = torch.load(path, weights_only=True)
            found = {name: t.numpy() for name, t in contents["model_state_dict"].items()}
            assert contents["global_step"] == 70
        assert found.keys() == expected.keys()
        for name, a in expected.items():
            np.testing.assert_array_equal(found[name], a, err_msg=name, strict=True)
    with Checkpoints(tmp_path / "run") as checkpoints:
        (step,) = checkpoints.steps()
        adopted = checkpoints.config(step)
    assert step == (70 if program == "mimicry" else 0)
    assert adopted.model == config
    assert adopted.data == "cifar100"


@pytest.mark.parametrize(("program", "name"), [("mimicry", "generator.pth"), ("authors", "generator.npz")])
def test_a_generator_alone_is_enough_to_sample(program: str, name: str, converter: Callable, tmp_path: Path) -> None:
    config = network_config(program, image_size=32)
    write_files(tmp_path, program, config)
    code, out, err = converter(name, "run", "--json", "told.json")
    assert code == 0, err
    assert "fresh discriminator and optimisers" in out
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["sample"] == f"python {ROOT}/scripts/sample.py run --grid grid.png"
    latents = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)
    images = jax_sngan.load(tmp_path / "run").images(latents)
    again = jax_sngan.load(tmp_path / "run", average=False).images(latents)
    np.testing.assert_array_equal(images, again)  # these programs keep no average
    assert images.shape == (3, 32, 32, 3)
    assert images.std() > 5


class Trap:
    """Unpickled, it makes a folder: what a hostile checkpoint would do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "torch_legacy", "pickle2", "pickle5"])
def test_a_hostile_file_is_refused_and_not_run(how: str, converter: Callable, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "state.pt"
    contents = {"config": {}, "metrics": {}, "unlogged": [], "state": Trap(trap)}
    if how.startswith("torch"):
        torch.save(contents, path, _use_new_zipfile_serialization=how == "torch")
    else:
        path.write_bytes(pickle.dumps(contents, protocol=int(how[-1])))
    code, _, err = converter(path, "out")
    assert (code, err.count("\n")) == (2, 1), err
    assert "nothing in it was run" in err
    assert not trap.exists()
    assert not (tmp_path / "out").exists()
    # The trap works where a file is trusted.
    torch.load(path, weights_only=False) if how.startswith("torch") else pickle.loads(path.read_bytes())  # noqa: S301
    assert trap.exists()


@pytest.fixture
def mimicry(tmp_path: Path) -> Path:
    """A folder with torch-mimicry's generator.pth and discriminator.pth for 32 pixels."""
    write_files(tmp_path, "mimicry", network_config("mimicry", image_size=32))
    return tmp_path


def changed(path: Path, entry: str, change: Callable[[dict[str, Any]], object]) -> None:
    contents = torch.load(path, weights_only=True)
    change(contents[entry])
    torch.save(contents, path)


def refused(outcome: tuple[int, str, str], folder: Path, *words: str) -> None:
    """One line that has all the words, and nothing made."""
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert all(word in err for word in words), err
    assert not [p for p in folder.iterdir() if p.name.lstrip(".").startswith("out")]


def test_what_does_not_fit_is_named(converter: Callable, mimicry: Path) -> None:
    def spoil(network: dict[str, Any]) -> None:
        network["c6.weight"] = network.pop("c5.weight")
        network["c5.bias"] = torch.zeros(2)

    changed(mimicry / "generator.pth", "model_state_dict", spoil)
    refused(
        converter("generator.pth", "out", "--pair", "discriminator.pth"),
        mimicry,
        "generator.pth: ", "missing c5.weight", "extra c6.weight", "misshapen c5.bias is float32 [2], not float32 [3]",
    )  # fmt: skip


def test_what_does_not_fit_in_a_pt_is_named(converter: Callable, tmp_path: Path) -> None:
    config = replace(BASE, {"model.dtype": "float32"})
    state = torch_layout.to_torch(config, jax.tree.map(np.asarray, random_state(config)))
    path = tmp_path / "state.pt"
    reference.save(path, reference.Checkpoint(config, {}, [], state))

    def spoil(flat: dict[str, Any]) -> None:
        del flat["generator_ema.project.bias"]
        flat["generator_opt.exp_avg_cube"] = torch.zeros(1)
        flat["discriminator_opt.count"] = torch.zeros(2, dtype=torch.int32)
        flat["discriminator.score.weight_u"] = flat["discriminator.score.weight_u"].double()

    changed(path, "state", spoil)
    refused(
        converter(path, "out"), tmp_path,
        "state.pt: ", "missing generator_ema.project.bias", "extra generator_opt.exp_avg_cube",
        "discriminator_opt.count is int32 [2], not int32 []",
        "discriminator.score.weight_u is float64 [1], not float32 [1]",
    )  # fmt: skip
    changed(path, "config", lambda c: c.update(n_dis=0))
    refused(converter(path, "out"), tmp_path, "n_dis must be at least 1, got 0")


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"config": {}, "state": {}}, "must hold config, metrics, unlogged, state"),
        ({"config": {}, "state": {}, "metrics": {}, "unlogged": 3}, "unlogged must be a list"),
        ({"config": {}, "state": {}, "metrics": {}, "unlogged": []}, "config: missing"),
        ({"fc.weight": torch.zeros(2, 2)}, "neither a network of torch-mimicry nor of the authors"),
        ({"fc.weight": 3}, "no state dict in it; its keys are fc.weight"),
        ({"fc.weight": torch.zeros(2).to_sparse()}, "fc.weight is no dense array"),
        ({"fc.weight": torch.zeros(2, dtype=torch.complex64)}, "fc.weight holds complex64, not numbers"),
        ({"model_state_dict": {}, "global_step": -1}, "global_step must be a number of steps, got -1"),
        (torch.zeros(3), "a state dict is a mapping of names to arrays, got Tensor"),
        ({"fc.weight": torch.zeros(1).expand(400_000_000)}, "tensors of 1600000000 bytes in storages of 4"),
    ],
)
def test_other_contents_are_refused(contents: Any, words: str, converter: Callable, tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "x.pt")
    refused(converter("x.pt", "out"), tmp_path, "x.pt", words)


def test_a_packed_member_is_refused(converter: Callable, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(100)}, tmp_path / "stored.pt")
    with zipfile.ZipFile(tmp_path / "stored.pt") as old, zipfile.ZipFile(tmp_path / "x.pt", "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refused(converter("x.pt", "out"), tmp_path, "x.pt", "packed by method 8")


def test_a_key_of_tuples_in_tuples_is_refused(converter: Callable, tmp_path: Path) -> None:
    """torch's own reader hashes it until the stack is gone, and the process with it."""
    torch.save({"fc.weight": torch.zeros(100)}, tmp_path / "flat.pt")
    key = b")" + b"\x85" * 10**6
    with zipfile.ZipFile(tmp_path / "flat.pt") as old, zipfile.ZipFile(tmp_path / "x.pt", "w") as new:
        for name in old.namelist():
            deep = b"\x80\x02}" + key + b"K\x00s."
            new.writestr(name, deep if name.endswith("data.pkl") else old.read(name))
    (tmp_path / "y.pt").write_bytes(b"\x80\x02}" + key + b"K\x00s.")
    for name in ("x.pt", "y.pt"):
        refused(converter(name, "out"), tmp_path, name, "16 containers")


def test_damaged_files_are_refused(converter: Callable, mimicry: Path) -> None:
    whole = (mimicry / "generator.pth").read_bytes()
    for name, contents in (("cut.pth", whole[: len(whole) // 2]), ("text.pth", b"hello"), ("empty.pt", b"")):
        (mimicry / name).write_bytes(contents)
        refused(converter(name, "out"), mimicry, name)
    np.savez(mimicry / "objects.npz", a=np.array([{}], dtype=object))
    refused(converter("objects.npz", "out"), mimicry, "objects.npz", "not plain numbers")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "out"], ["no nothing; IN is a workdir"]),
        (["empty", "out"], ["no checkpoint in empty"]),
        (["generator.pth", "out", "--pair", "gone.pth"], ["no file gone.pth"]),
        (["generator.pth", "out", "--pair", "generator.pth"], ["are two generators"]),
        (["generator.pth", "out", "--pair", "other.pth"], ["not of one pair", "image_size 32 and 64"]),
        (["generator.pth", "out", "--pair", "later.pth"], ["different steps: [70, 71]"]),
        (["generator.pth", "out", "--step", "3"], ["--step needs a workdir"]),
        (["generator.pth", "out", "--format", "authors"], ["--format needs a workdir of train_jax.py"]),
        (["generator.pth", "out", "--model.latent-size", "9"], ["misshapen l1.weight"]),
        (["generator.pth", "out.pt"], ["OUT would be a folder, got out.pt"]),
        (["generator.pth", "full"], ["full exists and is not an empty folder"]),
        (["generator.pth", "generator.pth"], ["generator.pth exists"]),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: list[str], converter: Callable, mimicry: Path) -> None:
    (mimicry / "empty").mkdir()
    (mimicry / "full").mkdir()
    (mimicry / "full/keep").write_text("kept")
    (mimicry / "other").mkdir()
    write_files(mimicry / "other", "mimicry", network_config("mimicry", image_size=64))
    (mimicry / "other/discriminator.pth").rename(mimicry / "other.pth")
    contents = torch.load(mimicry / "discriminator.pth", weights_only=True)
    torch.save(contents | {"global_step": 71}, mimicry / "later.pth")
    refused(converter(*arguments), mimicry, *words)
    assert [p.name for p in (mimicry / "full").iterdir()] == ["keep"]


def test_runs_of_the_wrong_framework_or_kind_are_refused(converter: Callable, tmp_path: Path) -> None:
    config = replace(BASE, {"model.dtype": "float32"})
    state = jax.tree.map(np.asarray, random_state(config))
    with Checkpoints(tmp_path / "jax", keep=1) as checkpoints:
        checkpoints.save(state, config, {}, [])
    assert converter("jax", "torch")[0] == 0
    refused(converter("jax", "out", "--format", "mimicry"), tmp_path, "torch-mimicry has no such networks")
    refused(converter("jax", "out", "--raw"), tmp_path, "--raw needs --format")
    refused(converter("jax", "out", "--step", "8"), tmp_path, "no checkpoint of step 8", "there are: 3")
    refused(converter("torch", "out", "--step", "8"), tmp_path, "no checkpoint of step 8", "there are: 3")
    refused(converter("torch", "out", "--step", "best"), tmp_path, "evaluated metric")
    refused(converter("torch", "out", "--data", "mnist"), tmp_path, "--data needs another program's network")
    for script, workdir in (("sample.py", "torch"), ("train_jax.py", "torch"), ("train_torch.py", "jax")):
        arguments = [workdir] if script == "sample.py" else [f"--workdir={workdir}"]
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / script, *arguments],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"scripts/convert_checkpoint.py {workdir} OUT" in done.stderr
