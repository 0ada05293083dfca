"""Images that stay on disk are those in memory, in the same order, to the bit; workers end with the run and name what
is wrong. The long tests print figures: `pytest -m long -s tests/test_streams.py`."""

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from image_files import (
    PACKERS,
    encoded,
    left_over,
    load,
    noise,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
    refusal,
)

import jax_sngan
from conftest import TINY, TINY_OPTIONS, start
from jax_sngan import archives, evaluate, inputs, provenance, streams
from jax_sngan.checkpoint import Checkpoints, shapes
from jax_sngan.config import RunConfig, TrainConfig, replace
from jax_sngan.errors import UserError
from jax_sngan.folders import Stream
from jax_sngan.metrics import reference
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.train import train

IMAGES = noise(70, 8, 8, 3)
FILES = {f"{'apple' if i < 30 else 'pear'}/{i:02d}.png": encoded(image) for i, image in enumerate(IMAGES)}
COUNT = 100  # images a step: two pieces, and more than there are


def plan(step: int, rollbacks: int) -> np.ndarray:
    return inputs.image_order(0, step, COUNT, len(IMAGES), rollbacks)


@pytest.fixture(name="fruit")
def folder_of_fruit(tmp_path: Path) -> Path:
    put(tmp_path / "fruit", FILES)
    return tmp_path / "fruit"


def taken(images: streams.StreamedImages, step: int, rollbacks: int) -> np.ndarray:
    return images.of_step(plan(step, rollbacks), step, rollbacks)


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_a_stream_holds_what_memory_holds(fruit: Path, tmp_path: Path, kind: str) -> None:
    path = fruit
    if kind != "folder":
        path = tmp_path / f"fruit.{kind}"
        path.write_bytes(PACKERS[kind]({"notes.txt": b"x" * 700} | FILES))
    whole, stream = load(str(path)), load(str(path), stream="always")
    assert isinstance(stream.images, streams.StreamedImages)
    assert stream.images.shape == whole.images.shape
    np.testing.assert_array_equal(stream.images[:], IMAGES)
    np.testing.assert_array_equal(stream.images[plan(1, 0)], IMAGES[plan(1, 0)])
    np.testing.assert_array_equal(stream.labels, whole.labels)
    assert (stream.name, stream.classes, stream.flip) == (whole.name, whole.classes, whole.flip)
    assert stream.checksum() == stream.files == whole.files
    assert stream.summary() == f"{whole.summary()}, streamed"


def test_what_needs_half_of_the_memory_is_streamed(
    fruit: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "memory", lambda: 2 * IMAGES.nbytes)
    assert isinstance(load(str(fruit)).images, np.ndarray)
    monkeypatch.setattr(archives, "memory", lambda: 2 * IMAGES.nbytes - 2)
    assert isinstance(load(str(fruit)).images, streams.StreamedImages)  # not what is kept from before
    assert "--stream auto" in refusal(str(fruit), stream="never")
    shutil.rmtree(own_cache)
    assert "unpack it" in refusal(str(_packed(fruit, "tar.gz")))
    assert left_over(own_cache) == []


def _packed(folder: Path, kind: str) -> Path:
    path = folder.with_name(f"packed.{kind}")
    path.write_bytes(PACKERS[kind](FILES))
    return path


def test_what_cannot_be_streamed_says_so(fruit: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES)
    for source in ("fashion", "cifar10", "stacked_fashion", str(tmp_path / "a.npz")):
        assert "stream must be auto or never" in refusal(source, stream="always")
    assert "unpack it" in refusal(str(_packed(fruit, "tar.xz")), stream="always")


def test_the_checksum_is_of_the_files_and_kept(fruit: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(str(fruit), stream="always").checksum()
    with monkeypatch.context() as patch:
        patch.setattr("jax_sngan.folders.FolderFiles.read", lambda *_: pytest.fail("read again"))
        assert load(str(fruit), stream="always").checksum() == first
    os.utime(fruit / "apple/00.png", (1, 1))  # as a copy of the folder has it
    assert load(str(fruit), stream="always").checksum() == first
    assert load(str(fruit), stream="always", image_size=4).checksum() != first
    (fruit / "apple/00.png").write_bytes(FILES["apple/01.png"])
    assert load(str(fruit), stream="always").checksum() != first
    kept = next(own_cache.rglob("*.sha256"))
    kept.write_text("damaged")
    load(str(fruit), stream="always")


def test_other_files_are_other_data_to_a_checkpoint(fruit: Path) -> None:
    whole, stream = (load(str(fruit), stream=how).identity() for how in ("never", "always"))
    (fruit / "apple/00.png").write_bytes(FILES["apple/01.png"])
    other, other_stream = (load(str(fruit), stream=how).identity() for how in ("never", "always"))
    before = whole.copy()
    del before["files_sha256"]  # as checkpoints were before there were streams

    def check(a: dict[str, str], b: dict[str, str]) -> list[str]:
        return provenance.check(*(provenance.provenance("jax", data, None) for data in (a, b)), "it")

    for a, b in ((whole, whole), (stream, stream), (whole, stream), (stream, whole), (before, whole)):
        assert check(a, b) == []
    for a, b in ((whole, other), (stream, other_stream), (whole, other_stream), (stream, other), (before, stream)):
        with pytest.raises(UserError, match="trained on other data: folder:fruit: 70 images"):
            check(a, b)


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_are_read_ahead_from_any_step_and_after_a_rollback(
    fruit: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    images = load(str(fruit), stream="always").images
    assert isinstance(images, streams.StreamedImages)
    with images.reading_ahead(plan, 1000, workers):
        for step, rollbacks in ((7, 0), (8, 0), (9, 0), *(((3, 1), (4, 1)) if workers == 0 else ())):
            np.testing.assert_array_equal(taken(images, step, rollbacks), IMAGES[plan(step, rollbacks)])
        with pytest.raises(ValueError, match="other images than the plan"):
            images.of_step(plan(9, 0), 10, 0)
        assert len(multiprocessing.active_children()) == workers
    assert multiprocessing.active_children() == []
    assert re.search(r"waited \d+\.\d% of the time", capsys.readouterr().out)
    np.testing.assert_array_equal(taken(images, 9, 0), IMAGES[plan(9, 0)])  # without workers too


def test_a_damaged_image_and_a_dead_worker_are_one_line(fruit: Path) -> None:
    images = load(str(fruit), stream="always").images
    assert isinstance(images, streams.StreamedImages)
    bad = fruit / "pear/69.png"
    bad.write_bytes(FILES["pear/69.png"][:-40])
    rows = partial(_rows_in_turn, 35)  # the damaged one is the last of every second step
    with images.reading_ahead(rows, 1000, 1):
        images.of_step(rows(2, 0), 2, 0)
        with pytest.raises(UserError, match=rf"^image '{re.escape(str(bad))}' cannot be read: ") as error:
            images.of_step(rows(3, 0), 3, 0)
        assert str(error.value).isprintable()
    bad.write_bytes(FILES["pear/69.png"])
    with images.reading_ahead(rows, 1000, 1):
        images.of_step(rows(2, 0), 2, 0)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        with pytest.raises(UserError, match=r"^a process that decodes images of .*fruit has ended .*-9.*--stream-w"):
            [images.of_step(rows(step, 0), step, 0) for step in range(3, 100)]
    assert multiprocessing.active_children() == []


def _rows_in_turn(count: int, step: int, _: int) -> np.ndarray:
    return np.arange(step * count, (step + 1) * count) % len(IMAGES)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_streamed_archive_that_changes_is_refused(fruit: Path, kind: str) -> None:
    path = _packed(fruit, kind)
    images = load(str(path), stream="always").images
    contents = bytearray(path.read_bytes())
    where = contents.index(FILES["apple/00.png"][50:80]) + 60
    contents[where] ^= 255
    path.write_bytes(contents)
    with pytest.raises(UserError, match=r"apple/00\.png"):
        images[:1]
    path.write_bytes(contents[:where])
    with pytest.raises(UserError, match=r"apple/00\.png"):
        images[:1]
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        images[:1]


def test_statistics_of_a_stream_are_taken_in_batches(fruit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def features(images: np.ndarray) -> tuple[np.ndarray, None]:
        seen.append(len(images))
        return images.reshape(len(images), -1).astype(np.float32), None

    monkeypatch.setattr(reference, "BATCH", 32)
    whole, stream = (
        reference.reference(load(str(fruit), stream=how), Extractor("f", "", features, None, None), "train", 60)
        for how in ("never", "always")
    )
    np.testing.assert_array_equal(whole.features, stream.features)
    assert seen == [32, 28] * 2


@pytest.fixture(name="garments", scope="module")
def folder_of_garments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 of Fashion-MNIST's images in class folders."""
    folder = tmp_path_factory.mktemp("data") / "garments"
    data = jax_sngan.load_data("fashion", image_size=28, channels=1)
    rows = np.concatenate([np.flatnonzero(data.labels == c)[:4] for c in range(10)])
    put(folder, {f"{data.labels[row]}/{row}.png": encoded(data.images[row][..., 0]) for row in rows})
    return folder


# All that draws numbers or reads images in a run, at once: labels, flips, augmentation; and run_of's evaluations.
EVERYTHING = {
    "flip": True,
    "model.num_classes": 10,
    "augment.colour": True,
    "augment.translation": 0.125,
    "augment.cutout": 0.5,
}


def everything(garments: Path) -> TrainConfig:
    return replace(TINY, {"data": str(garments), **EVERYTHING})


def squares(images: np.ndarray) -> tuple[np.ndarray, None]:
    """Features without a network: means over squares of 7 pixels."""
    return images.reshape(len(images), 4, 7, 4, 7).mean(axis=(2, 4)).reshape(len(images), 16), None


@pytest.fixture(name="no_classifier", scope="module")
def evaluation_without_a_classifier() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "open_extractor", lambda *_: Extractor("classifier", "0", squares))
        yield


def assert_same_run(each: Path, other: Path, logged: list[int]) -> None:
    """State, pictures, scores; and lines of numbers that are means over the steps since the line before.

    each: a run with a line a step. logged: the steps of the other's lines.
    """
    plain, scores = lines_of(each)
    found, found_scores = lines_of(other)
    assert found_scores == scores
    assert sorted(scores) == [2, 4, 6]
    assert list(found) == logged
    for before, step in pairwise([0, *logged]):
        steps = [plain[k] for k in range(before + 1, step + 1)]
        assert found[step] == {name: math.fsum(s[name] for s in steps) / len(steps) for name in steps[0]}
    pictures = sorted(p.name for p in (each / "samples").iterdir())
    assert pictures == sorted(p.name for p in (other / "samples").iterdir()) == ["000003.png", "000006.png"]
    for name in pictures:
        assert (each / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes(), name
    states = []
    for workdir in (each, other):
        with Checkpoints(workdir) as checkpoints:
            states.append(checkpoints.restore(6, shapes(lambda: jax_sngan.create_state(checkpoints.config(6)))))
    jax.tree.map(np.testing.assert_array_equal, *states)


def lines_of(workdir: Path) -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
    """Numbers and scores by step."""
    found: tuple[dict[int, dict[str, float]], ...] = ({}, {})
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        found["d_loss" not in values][values.pop("step")] = values
    return found[0], found[1]


def run_of(workdir: Path, stream: Stream, workers: int, **others: Any) -> RunConfig:
    return RunConfig(
        workdir=str(workdir), sample_every=3, checkpoint_every=3, keep_checkpoints=9, evaluate_every=2, evaluate_num=64,
        evaluate_metrics="fcd", stream=stream, stream_workers=workers, **others,
    )  # fmt: skip


def cut_after_step_3(workdir: Path) -> None:
    """As a crash leaves it."""
    for folder in (workdir / "checkpoints").iterdir():
        if int(folder.name) > 3:
            shutil.rmtree(folder)


@pytest.fixture(name="memory", scope="module")
def run_from_memory(garments: Path, no_classifier: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a whole run, with a line a step."""
    workdir = tmp_path_factory.mktemp("run") / "memory"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        train(everything(garments), run_of(workdir, "never", 0, log_every=1))
    return workdir


@pytest.mark.parametrize(
    ("goes_on", "workers"),
    [(False, 0), (True, 1), *(pytest.param(*how, marks=pytest.mark.long) for how in ((False, 3), (True, 2)))],
)
def test_a_streamed_run_equals_one_from_memory(
    memory: Path, garments: Path, tmp_path: Path, goes_on: bool, workers: int
) -> None:
    """With labels, augmentation and evaluation, under another --log-every and --dispatch.

    From its start, or from a checkpoint of the other; and one from memory goes on from a stream's checkpoint.
    """
    config = everything(garments)
    if goes_on:
        shutil.copytree(memory, tmp_path / "stream")
        cut_after_step_3(tmp_path / "stream")
    streamed = run_of(tmp_path / "stream", "always", workers, log_every=2, dispatch=3)
    assert train(config, streamed).step == 6
    assert_same_run(memory, tmp_path / "stream", [1, 2, 3, 4, 6] if goes_on else [2, 4, 6])
    if not goes_on:
        cut_after_step_3(tmp_path / "stream")
        assert train(config, run_of(tmp_path / "stream", "never", 0, log_every=1)).step == 6
        assert_same_run(memory, tmp_path / "stream", [2, 4, 5, 6])


def children_of(pid: int) -> list[int]:
    """Its child processes, and theirs."""
    own = [int(c) for task in Path(f"/proc/{pid}/task").glob("*") for c in (task / "children").read_text().split()]
    return own + [c for child in own for c in children_of(child)]


def readers_of(pid: int) -> list[int]:
    """Those of its child processes that decode."""
    return [c for c in children_of(pid) if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux's /proc")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, *(pytest.param(s, marks=pytest.mark.long) for s in (15, 9))])
def test_workers_end_with_the_run(garments: Path, tmp_path: Path, programs: dict[str, str], number: int) -> None:
    """As a terminal and SLURM do, the signal goes to every process of the run."""
    arguments = [
        "fashion", f"--data={garments}", "--stream=always", "--stream-workers=2", f"--workdir={tmp_path / 'run'}",
        *TINY_OPTIONS, "--steps=1000000", "--checkpoint-every=0", "--sample-every=0",
    ]  # fmt: skip
    run = start("train_jax.py", arguments, tmp_path, programs)
    try:
        while not _size(tmp_path / "run/metrics.jsonl") and run.poll() is None:
            time.sleep(0.05)
        workers = readers_of(run.pid)
        for pid in (run.pid,) if number == signal.SIGKILL else (run.pid, *workers):
            os.kill(pid, number)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert len(workers) == 2, out + err
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number == signal.SIGKILL:
        return
    assert run.returncode == 128 + number
    assert "stopped at step" in out
    assert "to go on:" in out
    assert "Traceback" not in err
    assert "leaked" not in err


def jpegs(folder: Path, count: int) -> None:
    """count garments as colour JPEGs of 64 x 64."""
    images = jax_sngan.load_data("fashion", image_size=64, channels=3).images
    put(folder, {f"{i:05d}.jpg": encoded(images[i], "JPEG", quality=90) for i in range(count)})


@pytest.mark.long
@needs_proc
def test_memory_stays_flat_over_10_000_steps(tmp_path: Path, programs: dict[str, str]) -> None:
    """A network that costs nearly nothing, so that as many images go through as can; the rate is of wall time, and a
    machine with other work has less of it."""
    jpegs(tmp_path / "jpegs", 2000)
    images = load(str(tmp_path / "jpegs"), image_size=64, stream="always").images
    assert isinstance(images, streams.StreamedImages)
    began = time.process_time()
    for row in range(2000):
        images.decode(row)
    alone = 2000 / (time.process_time() - began)
    arguments = [
        "fashion", f"--data={tmp_path / 'jpegs'}", "--stream=always", "--stream-workers=1",
        f"--workdir={tmp_path / 'run'}", "--model.architecture=mlp", "--model.image-size=64", "--model.channels=3",
        "--model.depth=1", "--model.generator-width=4", "--model.discriminator-width=4", "--model.latent-size=2",
        "--batch-size=32", "--n-dis=1", "--steps=10000", "--log-every=500", "--sample-every=0", "--checkpoint-every=0",
    ]  # fmt: skip
    run = start("train_jax.py", arguments, tmp_path, programs)
    sampled, first = [], 0.0
    while run.poll() is None:
        if _size(tmp_path / "run/metrics.jsonl"):
            first = first or time.monotonic()
            try:
                sampled.append(sum(_resident(pid) for pid in (run.pid, *readers_of(run.pid))))
            except OSError:
                continue  # a process ended in between
        time.sleep(0.5)
    seconds = time.monotonic() - first
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert len(sampled) > 20
    steady = sampled[len(sampled) // 10 : -2]
    early, late = (float(np.mean(part)) / 2**20 for part in np.array_split(np.array(steady), 10)[::9])
    rate = 9500 * 32 / seconds
    print(f"\nresident memory of the run and its worker: {early:.0f} MiB in the first tenth, {late:.0f} in the last")
    print(f"{rate:.0f} images a second, decoding alone {alone:.0f} a second of processor time")
    print(next(line for line in out.splitlines() if "waited" in line))
    assert late < early + 16


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
def test_steps_hardly_wait_for_jpegs_of_64_pixels(tmp_path: Path, programs: dict[str, str]) -> None:
    jpegs(tmp_path / "jpegs", 2000)
    arguments = [
        "fashion", f"--data={tmp_path / 'jpegs'}", "--stream=always", f"--workdir={tmp_path / 'run'}",
        "--model.image-size=64", "--model.channels=3", "--model.generator-width=16", "--model.discriminator-width=16",
        "--batch-size=64", "--n-dis=5", "--steps=40", "--log-every=10", "--sample-every=0", "--checkpoint-every=0",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "scripts/train_jax.py", *arguments], env=programs, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "waited" in line)
    print(f"\n{line}\n{next(line for line in done.stdout.splitlines() if 'steps in' in line)}")
    assert float(re.search(r"([\d.]+)%", line)[1]) < 2
