"""Runs whose images stay on disk are those from memory to the bit; their workers end with them and keep up.

The long tests print figures: `pytest -m long -s tests/test_streamed_runs.py`.
"""

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
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import logs
import numpy as np
import pytest
from image_files import (
    encoded,
    load,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
)

import jax_sngan
from conftest import TINY, TINY_OPTIONS, start
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.core import inputs
from jax_sngan.data import streaming
from jax_sngan.data.image_folder import Stream
from jax_sngan.evaluation import evaluate
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.training.trainer import train


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


@pytest.fixture(name="no_classifier", scope="module")
def evaluation_without_a_classifier(squares: Extractor) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "open_extractor", lambda *_: squares)
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
        expected = {}
        for name in {name: 0 for one in steps for name in one}:
            values = [one[name] for one in steps if name in one]
            expected[name] = values[-1] if of_the_state(name) else math.fsum(values) / len(values)
        assert found[step] == expected
    pictures = sorted(p.name for p in (each / "samples").iterdir())
    assert pictures == sorted(p.name for p in (other / "samples").iterdir())
    assert pictures == ["000003.png", "000006.png", "training.gif"]
    for name in pictures:
        assert (each / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes(), name
    states = []
    for workdir in (each, other):
        with Checkpoints(workdir) as checkpoints:
            states.append(checkpoints.restore(6, checkpoints.choose(6).like))
    jax.tree.map(np.testing.assert_array_equal, *states)


def of_the_state(name: str) -> bool:
    """Whether a number is of the state at its line, not of the steps since the line before (docs/watching.md)."""
    return "_sigma/" in name or name.endswith(("_learning_rate", "_distance"))


def lines_of(workdir: Path) -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
    """Numbers and scores by step."""
    found: tuple[dict[int, dict[str, float]], ...] = ({}, {})
    for values in logs.lines(workdir):
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
    assert isinstance(images, streaming.StreamedImages)
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


def jpeg_rows(step: int, rollbacks: int) -> np.ndarray:
    """320 of the 2,000 JPEGs."""
    return inputs.image_order(0, step, 320, 2000, rollbacks)


def decoded_alone(images: streaming.StreamedImages, rows: np.ndarray) -> tuple[float, float]:
    """In a process of its own: the seconds, and those of its processor, that images take with nothing around them."""
    began, cpu = time.monotonic(), time.process_time()
    for row in rows:
        images.decode(row)
    return time.monotonic() - began, time.process_time() - cpu


def _processor_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.long
@needs_proc
def test_the_reader_is_at_the_decoders_limit(tmp_path: Path) -> None:
    """A process that only decodes, and a reader's with one worker, in turn on the same cores.

    Measured in processor seconds, of which work beside it takes none: those of the worker and of this process, which
    only takes the images. Hands over 320 a step, as the CNN's test below takes.
    """
    jpegs(tmp_path / "jpegs", 2000)
    images = load(str(tmp_path / "jpegs"), image_size=64, stream="always").images
    alone = load(str(tmp_path / "jpegs"), image_size=64, stream="always").images
    assert isinstance(images, streaming.StreamedImages)
    rounds, steps = 5, 8
    bare, read = np.zeros(2), np.zeros(3)  # seconds; processor seconds of the decoder, and of this process
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(decoded_alone, (alone, jpeg_rows(0, 0)))
        before = {p.pid for p in multiprocessing.active_children()}
        with images.reading_ahead(jpeg_rows, 10_000, 1):
            step = 0
            images.of_step(jpeg_rows(step, 0), step, 0)
            worker = next(p.pid for p in multiprocessing.active_children() if p.pid not in before)
            for _ in range(rounds):
                bare += pool.apply(decoded_alone, (alone, np.concatenate([jpeg_rows(k, 0) for k in range(steps)])))
                for timed in (streaming.AHEAD + 1, steps):  # the first take what was decoded meanwhile
                    start = np.array([time.monotonic(), _processor_seconds(worker or 0), time.process_time()])
                    for _ in range(timed):
                        step += 1
                        images.of_step(jpeg_rows(step, 0), step, 0)
                read += np.array([time.monotonic(), _processor_seconds(worker or 0), time.process_time()]) - start
    n = rounds * steps * len(jpeg_rows(0, 0))
    per_second, bare_per_second = n / (read[1] + read[2]), n / bare[1]
    print(f"\ndecoding alone: {bare_per_second:.0f} images a processor second ({n / bare[0]:.0f} a second)")
    print(f"through the reader: {per_second:.0f}, both processes together ({n / read[0]:.0f} a second)")
    print(f"of it the process that takes the images: {read[2] / (read[1] + read[2]):.1%}")
    assert per_second > 0.85 * bare_per_second  # the images are copied twice, and two runs differ by some per cent


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
