"""Inputs that are wrong, made by a generator: each ends with exit code 2 and one line, or is right after all.

Made by hand they stand beside what they are inputs of: test_command_line, test_data, test_folders, test_recording, ….
The long form makes ten times as many: `pytest -m long -s tests/test_bad_inputs.py`.
"""

import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, noise, only_our_cache  # noqa: F401

from conftest import TINY
from jax_sngan.commands import cli, process
from jax_sngan.config.schema import RunConfig, TrainConfig, flatten, to_dict
from jax_sngan.core.sharding import placed_shapes
from jax_sngan.core.state import state_shapes
from jax_sngan.data import datasets
from jax_sngan.interop import recording
from jax_sngan.interop.adoption import NetworkFile, adopt
from jax_sngan.runs import manifest
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.workdir import check_start, take
from jax_sngan.system.npz import read_whole_npz

LONG = pytest.mark.long
EXAMPLES = [
    pytest.param(100, id="short"),
    pytest.param(1000, id="long", marks=LONG),
]


def refused(call: Callable[[], object]) -> bool:
    """Whether a call, made as a script makes it, ended with exit code 2 and one line; False where it went well."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        process.run(lambda: call() and None)  # any other exception than a UserError gets out, and fails the test
    if end.value.code == 0:
        return False
    assert end.value.code == 2, err.getvalue()
    line = err.getvalue()
    assert line.endswith("\n"), line
    assert line[:-1].isprintable(), repr(line)
    assert len(line) < 2000
    return True


def damaged(contents: bytes, rng: random.Random) -> bytes:
    """Contents cut, with bytes or bits changed, a piece twice, or a piece gone."""
    how, at = rng.randrange(5), rng.randrange(len(contents))
    there = bytearray(contents)
    if how == 0:
        return contents[:at]
    if how == 1:
        there[at] ^= 1 << rng.randrange(8)
    elif how == 2:
        there[at : at + 8] = rng.randbytes(8)
    elif how == 3:
        there[at:at] = contents[at : at + rng.randrange(1, 64)]
    else:
        del there[at : at + rng.randrange(1, 64)]
    return bytes(there)


def report(kind: str, found: Counter[bool], at_least: float) -> None:
    print(f"\n{kind}: {found[True]} refused in one line, {found[False]} were right")
    assert found[True] >= at_least * found.total()


OPTIONS = sorted(flatten(TrainConfig())) + sorted(flatten(RunConfig()))
VALUES = st.one_of(
    st.sampled_from(["", "-1", "nan", "inf", "-inf", "1e999", "9" * 500, "0x10", "None", "true", "two", "²", "٣"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_options(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    found = Counter[bool]()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(OPTIONS), VALUES)
    def one(name: str, value: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train_jax.py", f"--{name.replace('_', '-')}={value}"])
        found[refused(lambda: cli.training_arguments("x"))] += 1

    one()
    report("options", found, 0.5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_configs(tmp_path: Path, examples: int) -> None:
    """config.json with an entry of another kind, one too few, one too many, or damaged bytes."""
    found, rng = Counter[bool](), random.Random(0)
    names = sorted(flatten(TINY))
    take(tmp_path)  # without its mark a folder is no run's, whatever its config.json holds

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(names), JSON, st.sampled_from(["change", "remove", "add", "damage"]))
    def one(name: str, value: Any, how: str) -> None:
        config = to_dict(TINY)
        *outer, last = name.split(".")
        inner = config
        for key in outer:
            inner = inner[key]
        if how == "remove":
            del inner[last]
        elif how == "add":
            inner[last + "?"] = value
        elif how == "change":
            inner[last] = value
        text = json.dumps(config, indent=2).encode()
        (tmp_path / "config.json").write_bytes(damaged(text, rng) if how == "damage" else text)
        found[refused(lambda: check_start(tmp_path, TINY, "auto"))] += 1

    one()
    report("configs", found, 0.8)


def archive_of_images(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for i in range(4):
                archive.writestr(f"{i % 2}/{i}.png", encoded(noise(9, 9, 3, seed=i)))
        return file.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(4):
            path = Path(folder, "in", str(i % 2), f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(noise(9, 9, 3, seed=i)))
        made = shutil.make_archive(str(Path(folder, "out")), kind, str(Path(folder, "in")))
        return Path(made).read_bytes()


def files() -> Iterator[tuple[str, bytes]]:
    """Sound data of every kind, by the name that its file gets."""
    for kind, name in (("zip", "a.zip"), ("tar", "a.tar"), ("gztar", "a.tar.gz"), ("xztar", "a.tar.xz")):
        yield name, archive_of_images(kind)
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        yield f"images/a.{kind.lower()}", encoded(noise(9, 9, 3), kind)
    file = io.BytesIO()
    np.savez(file, images=noise(6, 8, 8, 3), labels=np.arange(6))
    yield "a.npz", file.getvalue()
    file = io.BytesIO()
    np.savez_compressed(file, images=noise(6, 8, 8, 3), labels=np.arange(6))
    yield "b.npz", file.getvalue()


@pytest.mark.parametrize("examples", [pytest.param(12, id="short"), pytest.param(120, id="long", marks=LONG)])
def test_archives_images_and_arrays(tmp_path: Path, examples: int) -> None:
    """Pixels of an image that was changed may still be an image; an archive has checksums."""
    for name, contents in files():
        found, rng = Counter[bool](), random.Random(name)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        source = path.parent if name.startswith("images/") else path
        for _ in range(examples):
            path.write_bytes(damaged(contents, rng))
            found[refused(partial(datasets.load_data, str(source), image_size=8, channels=3, progress=False))] += 1
        report(name, found, 0.05 if source != path else 0.5)
        shutil.rmtree(path.parent) if source != path else path.unlink()


class Bomb:
    """A pickle that would write a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "run")


@pytest.mark.parametrize("examples", [pytest.param(100, id="short"), pytest.param(1000, id="long", marks=LONG)])
def test_networks_of_other_programs_and_recordings(tmp_path: Path, examples: int) -> None:
    """Arrays under names that resemble the right ones, of any shape and type; damaged files; pickles."""
    names = ["l1/W", "l1/b", "c0_0/W", "block2/c1/W", "init/g/l1/W", "init/d/l5/W", "inputs/z", "meta", "block1/u", "x"]
    kinds = ["f4", "f8", "i8", "u1", "?", "U4", "c8", "M8[s]"]
    path, rng, random_arrays = tmp_path / "a.npz", random.Random(1), np.random.default_rng(1)
    found = {"conversions": Counter[bool](), "replays": Counter[bool]()}
    for i in range(examples):
        arrays: dict[str, Any] = {}
        for name in rng.sample(names, rng.randrange(1, len(names))):
            shape = tuple(rng.choice([0, 1, 2, 3, 8]) for _ in range(rng.randrange(5)))
            arrays[name] = random_arrays.integers(0, 2, shape).astype(rng.choice(kinds))
        if rng.random() < 0.3:
            arrays["meta"] = np.array(rng.choice(["{", "[]", "1", '{"adam": 3}', '{"adam": {}}', ""]))
        if i % 10 == 0:
            arrays["l1/W"] = np.array([Bomb(tmp_path / "pwned")], object)
        np.savez(path, allow_pickle=True, **arrays)
        if i % 3 == 0:
            path.write_bytes(damaged(path.read_bytes(), rng))
        found["conversions"][refused(lambda: adopt([NetworkFile(path, read_whole_npz(path), None)], {}))] += 1
        found["replays"][refused(lambda: recording.load_recording(path))] += 1
    for kind, counts in found.items():
        report(kind, counts, 1.0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("examples", [pytest.param(30, id="short"), pytest.param(300, id="long", marks=LONG)])
def test_checkpoints_with_a_manifest_of_their_own(tiny_run: Path, tmp_path: Path, examples: int) -> None:
    """Contents that are not ours under a manifest that is right: what is read then is refused, or is as it was."""
    found, rng = Counter[bool](), random.Random(2)
    folder = tmp_path / "run/checkpoints/6"
    like = placed_shapes(None, state_shapes(TINY))

    def use() -> None:
        with Checkpoints(tmp_path / "run") as checkpoints:
            checkpoints.config(6)
            checkpoints.metrics(6)
            checkpoints.unlogged(6)
            checkpoints.origin(6)
            checkpoints.restore(6, like)

    for i in range(examples):
        shutil.copytree(tiny_run / "checkpoints/6", folder)
        paths = sorted(
            p for p in folder.rglob("*") if p.is_file() and p.name not in ("manifest.json", "commit_success.txt")
        )
        # In turn those of arrays, whose names Orbax draws anew each time, and all others.
        path = rng.choice([p for p in paths if (p.parent.name == "d") == (i % 2 == 0)])
        path.write_bytes(damaged(path.read_bytes(), rng))
        manifest.write(folder, 6)
        found[refused(use)] += 1
        shutil.rmtree(tmp_path / "run")
    report("checkpoints", found, 0.1)  # most of the bytes are arrays', and another number is another number
