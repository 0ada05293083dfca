"""Small files that once took gigabytes, minutes or the whole process are refused in one line, at no cost.

Each is read in a process of limited memory and time. Nearly all are made of a few lines in hostile_files.py.
"""

import os
import re
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import (
    batch_pickle,
    colliding,
    doubled,
    encoded_again,
    idx_of_zeros,
    jpeg_of_scans,
    keyed,
    nested,
    npz_of_many,
    packed_by,
    tar_of_headers,
    tar_of_records,
    tar_with_gaps,
    tiff,
    torch_pickle,
    torch_zip,
)
from image_files import (
    encoded,
    load,
    noise,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
    refusal,
)
from readers import in_a_process

from jax_sngan.data import datasets, resize, streaming
from jax_sngan.evaluation import sources
from jax_sngan.system import budget, machine, npz
from jax_sngan.system.errors import UserError

SMALL = 2**26  # bytes that a refusal may take; the readers' own blocks are the most of it
ONE = np.float32(0).tobytes()


def torch_of(storage: bytes, length: int, shape: tuple[int, ...], strides: tuple[int, ...], times: int = 1) -> bytes:
    """A file of torch.save with tensors of one storage."""
    return torch_zip(torch_pickle({f"a{i}": ("0", length, shape, strides) for i in range(times)}), {"0": storage})


def deflated() -> bytes:
    return torch_zip(torch_pickle({"a": ("0", 2**25, (2**25,), (1,))}), {"0": bytes(2**27)}, zipfile.ZIP_DEFLATED)


def one_text() -> bytes:
    """Labels that are 500 times the same text of a megabyte."""
    return batch_pickle(b"(X\0\0\x10\0" + b"a" * 2**20 + b"q\x64" + b"h\x64" * 500 + b"l")


def shared(kind: bytes, levels: int = 27) -> bytes:
    before, last = doubled(kind, levels)
    return batch_pickle(last, before)


def tiled() -> bytes:
    return tiff(8, 8, [(259, [8]), (322, [30_000]), (323, [30_000]), (324, [-1]), (325, [9])], b"x" * 9)


def strips(side: int, count: int, rows: int) -> bytes:
    """Strips that lie on each other."""
    return tiff(side, side, [(273, [-1] * count), (278, [rows]), (279, [side * rows])], bytes(side * side))


# reader, name of the file, its contents, what the line says
CASES: dict[str, tuple[str, str, Callable[[], bytes], str]] = {
    "bzip2 in a zip": ("archive", "a.zip", lambda: packed_by(zipfile.ZIP_BZIP2, "a.png"), "method 12"),
    "LZMA in a zip": ("archive", "a.zip", lambda: packed_by(zipfile.ZIP_LZMA, "a.png"), "method 14"),
    "bzip2 in an npz": ("npz", "a.npz", lambda: packed_by(zipfile.ZIP_BZIP2, "images.npy"), "method 12"),
    "LZMA in an npz": ("npz", "a.npz", lambda: packed_by(zipfile.ZIP_LZMA, "images.npy"), "method 14"),
    "an npz of many arrays": ("npz", "a.npz", lambda: npz_of_many(5, 2**26), "unpacks to more than"),
    "a tar of headers": ("archive", "a.tar.xz", lambda: tar_of_headers(30_000), "holds more than 10"),
    "a tar of records": ("archive", "a.tar.xz", lambda: tar_of_records(90 * 512), "unpacks to more than"),
    "a tar with gaps": ("archive", "a.tar", tar_with_gaps, "stored with gaps"),
    "IDX of zeros": ("idx", "a.gz", lambda: idx_of_zeros(20_000), "unpacks to more than"),
    "a deep key": ("cifar", "b", lambda: batch_pickle(keyed(nested(10**6))), "16 containers"),
    "a deep value": ("cifar", "b", lambda: batch_pickle(nested(10**6)), "16 containers"),
    "a tuple as key": ("cifar", "b", lambda: batch_pickle(keyed(nested(3))), "damaged pickle"),
    "a shared key": ("cifar", "b", lambda: batch_pickle(keyed(doubled(b"t", 40)[1]), doubled(b"t", 40)[0]), "twice"),
    "shared lists": ("cifar", "b", lambda: shared(b"l"), "used twice"),
    "shared tuples": ("cifar", "b", lambda: shared(b"t"), "used twice"),
    "keys of one hash": ("cifar", "b", lambda: batch_pickle(colliding(100_000)), "31 bits"),
    "text spelt again": ("cifar", "b", lambda: batch_pickle(encoded_again(2**20, 2000)), "spelt as text"),
    "a text as labels": ("cifar", "b", one_text, "labels must be"),
    "opcodes alone": ("cifar", "b", lambda: b"\x80\x02" * 2_200_000, "opcodes"),
    "a TIFF's tile": ("image", "a.tif", tiled, "tiles of 30000 x 30000"),
    "strips on each other": ("image", "a.tif", lambda: strips(1000, 5000, 999), "goes through"),
    "strips without number": ("image", "a.tif", lambda: strips(8, 2**20 + 1, 1), "1048577 pieces"),
    "scans of a JPEG": ("image", "a.jpg", lambda: jpeg_of_scans(2048, 2000), "goes through"),
    "one number": ("torch", "a.pth", lambda: torch_of(ONE, 1, (4 * 10**8,), (0,)), "tensors of 1600000000 bytes"),
    "overlapping rows": ("torch", "a.pth", lambda: torch_of(2000 * ONE, 2000, (99, 99), (1, 1)), "a storage of 2000"),
    "a deflated storage": ("torch", "a.pth", deflated, "torch.save stores"),
    "one storage": ("torch", "a.pth", lambda: torch_of(bytes(2**20), 2**18, (2**18,), (1,), 200), "of 209715200 bytes"),
}


@pytest.mark.parametrize("kind", CASES)
def test_small_files_are_refused_before_they_cost_anything(kind: str, tmp_path: Path) -> None:
    reader, name, make, said = CASES[kind]
    path = tmp_path / name
    path.write_bytes(make())
    assert path.stat().st_size < 2**24
    told = in_a_process(reader, path, memory=2**30, seconds=30)
    assert told["outcome"] == "refused"
    assert name in told["line"]
    assert re.search(said, told["line"]), told["line"]
    if kind not in ("IDX of zeros", "an npz of many arrays"):
        assert told["bytes"] < SMALL + 4 * path.stat().st_size, told


@pytest.fixture
def in_time() -> Iterator[None]:
    """What waits for the other end of a FIFO fails after 30 seconds."""

    def end(*_: Any) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(name="mixed")
def folder_of_everything(tmp_path: Path) -> Path:
    """Two images, and what only has an image's name."""
    folder = tmp_path / "mixed"
    put(folder, {"y.png": encoded(noise(8, 8, 3)), "z.png": encoded(noise(8, 8, 3, seed=1))})
    os.mkfifo(folder / "a.png")
    (folder / "b.png").mkdir()
    (folder / "c.png").symlink_to("/dev/zero")
    (folder / "d.png").symlink_to("nowhere")
    return folder


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("stream", ["never", "always"])
def test_what_is_no_file_is_passed_over_and_named(mixed: Path, stream: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time from the cache
        got = load(str(mixed), stream=stream)
        np.testing.assert_array_equal(got.images[:], [noise(8, 8, 3), noise(8, 8, 3, seed=1)])
        line = capsys.readouterr().err
        assert line.startswith(f"note: {mixed}: passed over")
        for told in ("'a.png' is a FIFO", "'b.png' is a folder", "'c.png' is a device", "'d.png' is a link to nothing"):
            assert told in line
        assert line.count("\n") == 1


@pytest.mark.usefixtures("in_time")
def test_scores_pass_over_what_is_no_file(mixed: Path) -> None:
    assert sources.GivenImages(mixed).total == 2
    for name in ("y.png", "z.png"):
        (mixed / name).unlink()
    with pytest.raises(UserError, match="holds no images"):
        sources.GivenImages(mixed)


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("name", ["a.npz", "a.tar", "a.tar.gz", "a.zip", "a.pth", "fifo"])
def test_a_fifo_is_never_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert f"{name}' is a FIFO" in refusal(str(path))
    for read in (sources.GivenImages, npz.read_whole_npz, _torch_file):
        with pytest.raises(UserError, match=r"is a FIFO|must be a run's"):
            read(path)


def _torch_file(path: Path) -> Any:
    from jax_sngan.interop import torch_file

    return torch_file.read(path)


@pytest.mark.usefixtures("in_time")
def test_a_stream_whose_file_becomes_a_fifo_names_it(tmp_path: Path) -> None:
    put(tmp_path / "folder", {"a.png": encoded(noise(8, 8, 3)), "b.png": encoded(noise(8, 8, 3))})
    images = load(str(tmp_path / "folder"), stream="always").images
    assert isinstance(images, streaming.StreamedImages)
    (tmp_path / "folder/a.png").unlink()
    os.mkfifo(tmp_path / "folder/a.png")
    with pytest.raises(UserError, match=r"a\.png is a FIFO"):
        images[:]


@pytest.mark.parametrize(("memory", "together"), [(1, 1), (2, 2), (100, 4)])
def test_decoders_share_the_memory(monkeypatch: pytest.MonkeyPatch, memory: int, together: int) -> None:
    """Four threads; as many decode at once as the memory is for."""
    image = encoded(noise(50, 50, 4))
    one = 50 * 50 * 16
    monkeypatch.setattr(machine, "memory", lambda: memory * one * budget.DECODING_SHARE)
    inside, most, lock = 0, 0, threading.Lock()
    real = resize._as_mode

    def counted(*arguments: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        try:
            return real(*arguments)
        finally:
            with lock:
                inside -= 1

    monkeypatch.setattr(resize, "_as_mode", counted)
    threads = [threading.Thread(target=resize.decode, args=(image, "x", 8, 3)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == together


def test_an_image_takes_no_more_than_is_held_for_it(tmp_path: Path) -> None:
    """The dearest way through: transparency, which is laid over white."""
    from PIL import Image

    side = 4096
    path = tmp_path / "a.png"
    Image.new("RGBA", (side, side)).save(path, compress_level=1)
    told = in_a_process("image", path, seconds=60)
    assert told["outcome"] == "read"
    assert told["bytes"] < 16 * side * side + 2**24  # in turn grey and in colour


def test_a_folder_decodes_no_more_pixels_than_its_size_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "folder", {f"{i}.png": encoded(np.zeros((300, 300, 3), np.uint8)) for i in range(8)})
    assert len(load(str(tmp_path / "folder")).images) == 8
    monkeypatch.setattr(budget, "PIXELS", 500_000)
    monkeypatch.setattr(budget, "PIXELS_A_BYTE", 10)
    assert "decodes to more than 500000 pixels" in refusal(str(tmp_path / "folder"), image_size=4)


def test_files_wait_in_memory_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from jax_sngan.data import image_folder

    monkeypatch.setattr(image_folder, "CHUNK_BYTES", 100)
    sizes = [10, 90, 1, 200, 100, 1, *[1] * 70]
    chunks = list(image_folder._chunks((i, "", bytes(n)) for i, n in enumerate(sizes)))
    assert [i for chunk in chunks for i, _, _ in chunk] == list(range(len(sizes)))
    assert [[len(d) for _, _, d in chunk] for chunk in chunks][:4] == [[10, 90], [1], [200], [100]]
    assert max(map(len, chunks)) == 64


def test_progressive_jpegs_of_usual_scans_are_read(tmp_path: Path) -> None:
    """Pillow's own have ten scans; those of one component count for a third."""
    from jax_sngan.data import image_cost

    images = noise(64, 64, 3)
    assert image_cost.jpeg_passes(encoded(images, "JPEG")) == 1
    assert image_cost.jpeg_passes(encoded(images, "JPEG", progressive=True)) == 5
    assert image_cost.jpeg_passes(encoded(images[..., 0], "JPEG", progressive=True)) == 6
    put(tmp_path / "folder", {"a.jpg": encoded(images, "JPEG", progressive=True)})
    assert datasets.load_data(str(tmp_path / "folder"), image_size=64, channels=3, progress=False).images.shape == (
        1,
        64,
        64,
        3,
    )
