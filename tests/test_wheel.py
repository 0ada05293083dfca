"""The package as it is installed: a wheel that needs nothing of the checkout, and a source archive that is whole."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT, TINY_OPTIONS

pytest.importorskip("setuptools", minversion="77")


def not_source(folder: str, names: list[str]) -> set[str]:
    """What a checkout holds beside its files (.gitignore)."""
    at_root = (".git", ".venv*", "runs", "build", "dist") if Path(folder) == ROOT else ()
    return set(shutil.ignore_patterns(*at_root, "*.egg-info", "__pycache__", ".*_cache")(folder, names))


def done(command: list[object], folder: Path, environment: dict[str, str] | None = None) -> str:
    """What a command printed, or why it failed."""
    result = subprocess.run(
        [str(c) for c in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=110
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, since building leaves files in it."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "repo", ignore=not_source))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done([*build, "--wheel-dir=dist", "."], source)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment with the wheel; all else is as in the one that runs this."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index"]
    done([*pip, wheel], folder)
    own = done([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (Path(own) / "others.pth").write_text("\n".join(others))  # after the wheel's own; their .pth files are not read
    return python.parent


@pytest.fixture(scope="module")
def environment(programs: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in programs.items() if not name.startswith("PYTHON")}


def test_the_wheel_holds_the_packages_and_what_they_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        metadata = next(file.read(name).decode() for name in file.namelist() if name.endswith("/METADATA"))
    there = {
        path.relative_to(ROOT).as_posix()
        for package in ("jax_sngan", "torch_ref", "parity_kit")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there
    assert {"jax_sngan/py.typed", "jax_sngan/datasets/fashion10k.npz", "jax_sngan/datasets/LICENSE"} <= held
    for wanted in ("Classifier: Typing :: Typed", "Project-URL: ", "Provides-Extra: parity", "License-Expression: MIT"):
        assert wanted in metadata


def test_the_wheel_alone_trains_and_samples(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    sngan, python = installed / "sngan", installed / "python"
    assert "\n  train " in done([sngan, "--help"], tmp_path, environment)
    assert "usage: sngan train [PRESET]" in done([sngan, "train", "--help"], tmp_path, environment)
    done([sngan, "train", *TINY_OPTIONS, "--steps=2", "--workdir=run"], tmp_path, environment)
    readme = (tmp_path / "run/README.txt").read_text()
    assert "sngan train" in readme
    assert "scripts" not in readme
    done([python, "-m", "jax_sngan", "sample", "run", "--num=2", "--grid=a.png"], tmp_path, environment)
    assert (tmp_path / "a.png").stat().st_size
    program = "import jax_sngan as sn; print(sn.__file__, sn.load('run').sample(2).shape)"
    loaded = subprocess.run(
        [python, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    told = loaded.stdout
    assert loaded.stderr == ""  # no warning of another library's
    assert told.startswith(f"{installed.parent}/lib")
    assert told.endswith("(2, 28, 28, 1)\n")
    program = "import jax_sngan as sn; run = sn.pretrained('fashion'); print(run, run.sample(64).shape)"
    assert done([python, "-c", program], tmp_path, environment).endswith("no discriminator) (64, 28, 28, 1)\n")
    done([sngan, "sample", "fashion", "--pretrained", "--grid=garments.png"], tmp_path, environment)
    assert (tmp_path / "garments.png").stat().st_size


def test_each_package_can_be_imported_or_says_which_extra_to_take(
    wheel: Path, installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as file:
        packages = {name.partition("/")[0] for name in file.namelist() if ".dist-info/" not in name}
        folders = {f"torch_ref.{name.split('/')[1]}" for name in file.namelist() if name.startswith("torch_ref/")}
    computing = {f for f in folders if not f.endswith(".py")} - {"torch_ref.commands"}
    for module in sorted({*packages, *computing, "torch_ref.commands.train"}):
        lacks = module == "parity_kit" or module in computing
        program = f"import sys; sys.modules['torch'] = None; import {module}"
        result = subprocess.run(
            [installed / "python", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        last = result.stderr.rpartition("Error: ")[2]
        assert result.returncode == lacks, result.stderr
        assert not lacks or last.endswith("the extra `parity` brings: pip install 'jax-sngan[parity]'\n"), last


def test_the_source_archive_is_whole_and_its_tests_run(source: Path, tmp_path: Path) -> None:
    done([sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')"], source)
    with tarfile.open(next((source / "dist").glob("*.tar.gz"))) as file:
        file.extractall(tmp_path, filter="data")
    root = next(tmp_path.iterdir())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:  # a checkout, not an archive that was unpacked
        tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
        held = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
        assert tracked <= held
        extra = {name for name in held - tracked if not re.match(r"PKG-INFO|setup\.cfg|[^/]*\.egg-info/", name)}
        untracked = {name for name in extra if not (ROOT / name).exists()}
        assert untracked == set()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_sngan.py",
        "-k",
        "three_ways",
    ]
    assert "1 passed" in done(command, root, environment)


def test_the_version_is_said_once_and_the_same(wheel: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.name.startswith(f"jax_sngan-{version}-")
    assert f'__version__ = "{version}"' in (ROOT / "jax_sngan/__init__.py").read_text()
