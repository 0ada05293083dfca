"""Images that stay on disk are those in memory, in the same order, to the bit; workers name what is wrong."""

import multiprocessing
import os
import re
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

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

from jax_sngan.core import inputs
from jax_sngan.data import streaming
from jax_sngan.metrics import reference
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.runs import provenance
from jax_sngan.system import machine
from jax_sngan.system.errors import UserError

IMAGES = noise(70, 8, 8, 3)
FILES = {f"{'apple' if i < 30 else 'pear'}/{i:02d}.png": encoded(image) for i, image in enumerate(IMAGES)}
COUNT = 100  # images a step: two pieces, and more than there are


def plan(step: int, rollbacks: int) -> np.ndarray:
    return inputs.image_order(0, step, COUNT, len(IMAGES), rollbacks)


@pytest.fixture(name="fruit")
def folder_of_fruit(tmp_path: Path) -> Path:
    put(tmp_path / "fruit", FILES)
    return tmp_path / "fruit"


def taken(images: streaming.StreamedImages, step: int, rollbacks: int) -> np.ndarray:
    return images.of_step(plan(step, rollbacks), step, rollbacks)


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_a_stream_holds_what_memory_holds(fruit: Path, tmp_path: Path, kind: str) -> None:
    path = fruit
    if kind != "folder":
        path = tmp_path / f"fruit.{kind}"
        path.write_bytes(PACKERS[kind]({"notes.txt": b"x" * 700} | FILES))
    whole, stream = load(str(path)), load(str(path), stream="always")
    assert isinstance(stream.images, streaming.StreamedImages)
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
    monkeypatch.setattr(machine, "memory", lambda: 2 * IMAGES.nbytes)
    assert isinstance(load(str(fruit)).images, np.ndarray)
    monkeypatch.setattr(machine, "memory", lambda: 2 * IMAGES.nbytes - 2)
    assert isinstance(load(str(fruit)).images, streaming.StreamedImages)  # not what is kept from before
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
        patch.setattr("jax_sngan.data.image_files.FolderFiles.read", lambda *_: pytest.fail("read again"))
        assert load(str(fruit), stream="always").checksum() == first
    os.utime(fruit / "apple/00.png", (1, 1))  # as a copy of the folder has it
    assert load(str(fruit), stream="always").checksum() == first
    assert load(str(fruit), stream="always", image_size=4).checksum() != first
    (fruit / "apple/00.png").write_bytes(FILES["apple/01.png"])
    assert load(str(fruit), stream="always").checksum() != first
    kept = next(own_cache.rglob("fruit-*.json"))
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
    assert isinstance(images, streaming.StreamedImages)
    with images.reading_ahead(plan, 1000, workers):
        for step, rollbacks in ((7, 0), (8, 0), (9, 0), *(((3, 1), (4, 1)) if workers == 0 else ())):
            np.testing.assert_array_equal(taken(images, step, rollbacks), IMAGES[plan(step, rollbacks)])
        with pytest.raises(ValueError, match="other images than the plan"):
            images.of_step(plan(9, 0), 10, 0)
        assert len(multiprocessing.active_children()) == workers
    assert multiprocessing.active_children() == []
    assert re.search(r"waited \d+\.\d% of the time", capsys.readouterr().out)
    np.testing.assert_array_equal(taken(images, 9, 0), IMAGES[plan(9, 0)])  # without workers too


def test_without_grain_it_is_one_line(fruit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load(str(fruit), stream="always").images
    assert isinstance(images, streaming.StreamedImages)
    monkeypatch.setitem(sys.modules, "grain", None)  # as if it were not installed
    with images.reading_ahead(plan, 4, 0), pytest.raises(UserError, match="streamed by grain, which is not installed"):
        taken(images, 0, 0)


def test_a_damaged_image_and_a_dead_worker_are_one_line(fruit: Path) -> None:
    images = load(str(fruit), stream="always").images
    assert isinstance(images, streaming.StreamedImages)
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


def test_too_little_shared_memory_is_one_line(fruit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's default of 64 MB; here of less, for the images are small."""
    images = load(str(fruit), stream="always").images
    assert isinstance(images, streaming.StreamedImages)
    real = os.statvfs("/dev/shm")
    small = SimpleNamespace(f_bavail=1, f_frsize=real.f_frsize)
    monkeypatch.setattr(streaming.os, "statvfs", lambda _: small)
    with (
        images.reading_ahead(plan, 4, 2),
        pytest.raises(UserError, match=r"/dev/shm has 0 MB left and 2 processes .*shm"),
    ):
        taken(images, 0, 0)
    with images.reading_ahead(plan, 4, 0):
        np.testing.assert_array_equal(taken(images, 0, 0), IMAGES[plan(0, 0)])  # threads need none


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
