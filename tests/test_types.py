"""What editors and type checkers see of the package: its public names with their types (py.typed)."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import jax_sngan
from conftest import ROOT

# A user's program; each line of REVEALED is what mypy must find at the `reveal_type` of the same place.
PROGRAM = """
import jax_sngan as sn

config = sn.preset("cifar10_resnet")
reveal_type(config)
reveal_type(config.model.is_points)
reveal_type(sn.presets())
reveal_type(sn.load("runs/mine").sample(64, seed=0))
reveal_type(sn.gan(config))
reveal_type(sn.load_data("fashion", image_size=28, channels=1))
reveal_type(sn.nn.spectral_norm)
try:
    sn.RunConfig(log_every=1)
except sn.UserError as error:
    reveal_type(error)
"""
REVEALED = ["TrainConfig", "bool", "list[", "ndarray[", "GAN", "Dataset", "Module", "UserError"]


def mypy(folder: Path, program: str) -> list[str]:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "program.py"]
    options = ["--config-file=", f"--cache-dir={folder / 'cache'}", "--follow-imports=silent"]
    environment = {"MYPYPATH": str(ROOT), "PATH": "", "PYTHONPATH": ""}
    done = subprocess.run([*command, *options], cwd=folder, env=environment, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return [line.removeprefix("program.py:") for line in done.stdout.splitlines()]


def test_a_strict_type_checker_sees_what_a_program_uses(tmp_path: Path) -> None:
    found = mypy(tmp_path, PROGRAM)
    assert len(found) == len(REVEALED), found
    for line, wanted in zip(found, REVEALED, strict=True):
        assert 'note: Revealed type is "' in line, found
        assert wanted in line, found
    wrong = mypy(tmp_path, "import jax_sngan as sn\nsn.preset(3)\nsn.no_such_name\n")
    assert [line.partition("error: ")[2].partition(" ")[0] for line in wrong] == ["Argument", "Module"], wrong


def test_the_names_that_are_seen_are_those_that_there_are() -> None:
    tree = ast.parse((ROOT / "jax_sngan" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == sorted(jax_sngan._HOME) == sorted(jax_sngan.__all__)
    for name, whole in seen.items():
        module, _, own = whole.rpartition(".")
        assert getattr(jax_sngan, name) is getattr(importlib.import_module(module), own)


def test_the_package_says_that_it_has_types() -> None:
    assert (ROOT / "jax_sngan" / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()
