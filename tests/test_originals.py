"""MNIST's and CIFAR's own files are found, downloaded and read; damaged ones are refused."""

import gzip
import hashlib
import http.server
import pickle
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from image_files import (
    left_over,
    load,
    moved,
    noise,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
    refusal,
    tar_bytes,
)

from jax_sngan.data import datasets, official
from jax_sngan.system import downloads, files

needs_debian = pytest.mark.skipif(
    not official.DEBIAN["fashion_mnist"].is_dir(), reason="needs the Debian package dataset-fashion-mnist"
)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, prefix="train", n=20, zipped=True) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the files' own names."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = noise(n, 28, 28), np.arange(n, dtype=np.uint8) % 10
    for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
        content = idx(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return images, labels


@pytest.mark.parametrize(("below", "zipped"), [("", True), ("", False), ("MNIST/raw", False)])
def test_idx_files_are_found_and_read(tmp_path, below, zipped):
    images, labels = write_idx(tmp_path / below, zipped=zipped)
    test_images, _ = write_idx(tmp_path / below, "t10k", n=5, zipped=zipped)
    got = load("mnist", image_size=28, channels=1, data_dir=tmp_path)
    np.testing.assert_array_equal(got.images[..., 0], images)
    np.testing.assert_array_equal(got.labels, labels)
    assert got.classes == tuple("0123456789")
    assert not got.flip
    assert got.name == "mnist (20 images)"  # a figure on 20 images is not one on MNIST
    np.testing.assert_array_equal(
        load("mnist", image_size=28, channels=1, data_dir=str(tmp_path), split="test").images[..., 0], test_images
    )


@needs_debian
def test_fashion_mnist_is_found_where_debian_puts_it():
    got = datasets.load_data("fashion_mnist", image_size=32, channels=1, split="test")
    assert got.name == "fashion_mnist"
    assert got.images.shape == (10_000, 32, 32, 1)
    assert np.bincount(got.labels).tolist() == [1_000] * 10


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
GOOD = idx(noise(20, 28, 28))


def gz(content: bytes) -> bytes:
    """Without the time of day, which would be part of a test's name: workers must find the same names."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (IMAGES, gz(GOOD[:-1]), "needs 15680 bytes"),
        (IMAGES, gz(GOOD + b"x"), "there are more"),
        (IMAGES, gz(GOOD)[:-9], "damaged"),
        (IMAGES, gz(GOOD)[:-8] + b"\0" * 8, "CRC"),
        (IMAGES, GOOD, "damaged"),
        (IMAGES, b"", "damaged"),
        (IMAGES, gz(b"\0\0\x08\x03\xff"), "header of shape"),
        (IMAGES, gz(b"\0\0\x08\x03" + b"\xff" * 12), "header of shape"),
        (IMAGES, gz(b"\0\0\x08\x03" + b"\0" * 12), "header of shape"),
        (IMAGES, gz(b"\0\0\x0d\x03" + GOOD[4:]), "not an IDX file of bytes in 3 dimensions"),
        (LABELS, gz(idx(noise(19) % 10)), "19 labels"),
        (LABELS, gz(idx(np.full(20, 10, np.uint8))), "labels must lie in 0 to 9"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, name, content, said):
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    line = refusal("mnist", data_dir=tmp_path)
    assert name in line
    assert said in line


def test_missing_idx_files_are_named_with_where_to_get_them(tmp_path):
    assert "http" in refusal("mnist", data_dir=tmp_path)
    write_idx(tmp_path)
    (tmp_path / LABELS).unlink()
    line = refusal("mnist", data_dir=tmp_path)
    assert LABELS.removesuffix(".gz") in line
    assert str(tmp_path) in line


def python2_pickle(images: np.ndarray, labels: list[int]) -> bytes:
    """A CIFAR batch as Python 2 and its numpy wrote it, byte for byte of the same opcodes."""
    raw = images.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\tU\x01bq\n\x87Rq\x0b"
    layout = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    kind = b"cnumpy\ndtype\nq\x0cU\x02u1q\rK\x00K\x01\x87Rq\x0e(K\x03U\x01|q\x0f" + layout
    shape = b"M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86"
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
        + b"".join(b"K" + bytes([label]) for label in labels)
        + (b"eU\x04dataq\x06" + array + b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<I", len(raw)) + raw)
        + b"tbU\tfilenamesq\x10]q\x11U\x05a.pngq\x12au."
    )


def cifar_files(kind: str, source="cifar10", each=4) -> tuple[dict[str, bytes], dict[str, tuple]]:
    """An archive's files and, for each split, the images [n, 32, 32, 3] and labels in it."""
    names = {
        "cifar10": {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
        "cifar100": {"train": ["train"], "test": ["test"]},
    }[source]
    files, expected = {}, {}
    for split, batches in names.items():
        parts = []
        for i, name in enumerate(batches):
            rows = noise(each, 3072, seed=10 * i + len(split))
            labels = noise(each, seed=i + len(split)) % (10 if source == "cifar10" else 100)
            coarse = np.full((each, 1), 7, np.uint8)
            if kind == "binary":
                fine = np.hstack([coarse, labels[:, None]]) if source == "cifar100" else labels[:, None]
                files[f"{name}.bin"] = np.hstack([fine, rows]).tobytes()
            elif kind == "python2":
                files[name] = python2_pickle(rows, labels.tolist())
            else:
                key = b"labels" if source == "cifar10" else b"fine_labels"
                batch = {
                    b"data": rows,
                    key: labels.tolist(),
                    b"coarse_labels": [7] * each,
                    b"filenames": [b"a.png"] * each,
                }
                files[name] = pickle.dumps(batch, protocol=2)
            parts.append((rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels))
        expected[split] = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    files["readme.html"] = b"<html>"
    return files, expected


CIFAR_PLACES = {
    ("cifar10", "python"): ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    ("cifar10", "python2"): ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    ("cifar10", "binary"): ("cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
    ("cifar100", "python"): ("cifar-100-python.tar.gz", "cifar-100-python"),
    ("cifar100", "binary"): ("cifar-100-binary.tar.gz", "cifar-100-binary"),
}


@pytest.mark.parametrize("place", ["archive", "unpacked", "inside"])
@pytest.mark.parametrize(("source", "kind"), CIFAR_PLACES)
def test_cifar_archives_and_folders_are_read(tmp_path, source, kind, place):
    files, expected = cifar_files(kind, source)
    archive, folder = CIFAR_PLACES[source, kind]
    if place == "archive":
        (tmp_path / archive).write_bytes(tar_bytes({f"{folder}/{name}": c for name, c in files.items()}))
    else:
        put(tmp_path / folder, files)
    for split, (images, labels) in expected.items():
        given = tmp_path / folder if place == "inside" else tmp_path
        got = load(source, image_size=32, split=split, data_dir=given)
        np.testing.assert_array_equal(got.images, images)
        np.testing.assert_array_equal(got.labels, labels)
        assert len(got.classes) == {"cifar10": 10, "cifar100": 100}[source]
        assert got.flip


def test_cifar_figures_carry_the_number_of_images_unless_it_is_the_official_one(tmp_path, monkeypatch):
    put(tmp_path, cifar_files("binary")[0])
    assert load("cifar10", data_dir=tmp_path).name == "cifar10 (20 images)"
    monkeypatch.setitem(official.OFFICIAL_SIZES["train"], "cifar10", 20)
    assert load("cifar10", data_dir=tmp_path).name == "cifar10"


def test_missing_and_damaged_cifar_is_refused(tmp_path):
    line = refusal("cifar10", data_dir=tmp_path)
    assert "cifar-10-python.tar.gz" in line
    assert str(tmp_path) in line

    files, _ = cifar_files("python")
    whole = tar_bytes(files)
    archive = tmp_path / "cifar-10-python.tar.gz"
    for content in (whole[: len(whole) // 2], whole[:-6], b"no archive", b""):
        archive.write_bytes(content)
        assert archive.name in refusal("cifar10", data_dir=tmp_path)
    archive.write_bytes(tar_bytes({n: c for n, c in files.items() if n != "data_batch_3"}))
    assert "data_batch_3" in refusal("cifar10", data_dir=tmp_path)
    archive.write_bytes(tar_bytes(files | {"data_batch_3": files["data_batch_3"][:-1000]}))
    assert "data_batch_3" in refusal("cifar10", data_dir=tmp_path)
    archive.unlink()
    put(tmp_path, cifar_files("binary")[0])
    (tmp_path / "data_batch_2.bin").write_bytes(b"\0" * 3072)
    assert "no multiple of 3073" in refusal("cifar10", data_dir=tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(b"\x0a" * 3073)
    assert "labels must lie in 0 to 9" in refusal("cifar10", data_dir=tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    assert "data_batch_2" in refusal("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize(
    "batch",
    [
        {"labels": [0]},
        {"data": noise(1, 3071), "labels": [0]},
        {"data": noise(1, 3072).astype(np.float32), "labels": [0]},
        {"data": noise(1, 3072), "labels": [0, 1]},
        {"data": noise(1, 3072), "labels": ["a"]},
        {"data": noise(1, 3072), "labels": [-1]},
        {"data": noise(0, 3072), "labels": []},
        {"data": None, "labels": None},
        ["data"],
    ],
)
def test_batches_of_another_content_are_refused(tmp_path, batch):
    put(tmp_path, {"test_batch": pickle.dumps(batch)})
    assert "test_batch" in refusal("cifar10", data_dir=tmp_path, split="test")


def test_data_dir_must_be_a_folder_and_of_use(tmp_path):
    assert "is no folder" in refusal("cifar10", data_dir=tmp_path / "absent")
    assert "--data-dir is for the originals" in refusal("fashion", data_dir=tmp_path)


def test_an_original_given_as_data_points_to_its_name(tmp_path):
    put(tmp_path, {"cifar-10-python.tar.gz": b""})
    assert "--data cifar10 --data-dir" in refusal(str(tmp_path / "cifar-10-python.tar.gz"))


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a dict of path -> (status, headers, content) and counts."""

    def do_GET(self):
        self.server.asked.append(self.path)
        status, headers, content = self.server.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for header in ({"Content-Length": len(content)} | headers).items():
            self.send_header(*map(str, header))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        server.asked, server.answers = [], {}
        server.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cifar_offered(server, monkeypatch):
    """CIFAR-10's binary archive, to be had from the local server; its bytes and images."""
    files, expected = cifar_files("binary")
    content = tar_bytes(files)
    file = moved(downloads.CIFAR["cifar10"][0], server.url, md5=md5(content))
    monkeypatch.setitem(downloads.CIFAR, "cifar10", (file, downloads.CIFAR["cifar10"][1]))
    server.answers["/cifar-10-binary.tar.gz"] = (200, {}, content)
    return content, expected


def test_a_download_is_checked_kept_and_not_repeated(server, cifar_offered, own_cache):
    _, expected = cifar_offered
    for _ in range(2):
        got = load("cifar10", image_size=32)
        np.testing.assert_array_equal(got.images, expected["train"][0])
    assert server.asked == ["/cifar-10-binary.tar.gz"]
    assert left_over(own_cache) == ["downloads/cifar10/cifar-10-binary.tar.gz"]


def test_a_damaged_download_is_mended(server, cifar_offered, own_cache):
    content, _ = cifar_offered
    load("cifar10")
    kept = own_cache / "downloads/cifar10/cifar-10-binary.tar.gz"
    kept.write_bytes(content[:-1])
    load("cifar10")
    assert kept.read_bytes() == content
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda content: (200, {}, content[:-1] + b"x"), "wrong checksum"),
        (lambda content: (200, {"Content-Length": len(content) + 9}, content), "bytes came of"),
        (lambda content: (404, {}, b"no"), "404"),
        (lambda content: (200, {"Content-Length": "many"}, content), "many"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(server, cifar_offered, own_cache, answer, said):
    server.answers["/cifar-10-binary.tar.gz"] = answer(cifar_offered[0])
    line = refusal("cifar10")
    assert said in line
    assert "--data-dir" in line
    assert server.url in line
    assert left_over(own_cache) == []


def test_the_next_address_is_tried(server, cifar_offered, monkeypatch):
    file, other = downloads.CIFAR["cifar10"]
    monkeypatch.setitem(downloads.CIFAR, "cifar10", (moved(file, f"{server.url}gone/", server.url), other))
    assert len(load("cifar10").images) == 20
    assert server.asked == ["/gone/cifar-10-binary.tar.gz", "/cifar-10-binary.tar.gz"]


def test_idx_files_are_downloaded_from_a_file_url_too(tmp_path, monkeypatch):
    images, _ = write_idx(tmp_path)
    offered = {
        name: moved(file, tmp_path.as_uri() + "/", md5=md5((tmp_path / name).read_bytes()))
        for name, file in downloads.IDX["mnist"].items()
        if name.startswith("train")
    }
    monkeypatch.setitem(downloads.IDX, "mnist", offered)
    got = load("mnist", image_size=28, channels=1)
    np.testing.assert_array_equal(got.images[..., 0], images)


def test_without_a_network_one_line_says_what_to_get_and_where_to_put_it(own_cache, monkeypatch):
    monkeypatch.setattr(official, "DEBIAN", {})
    for source, said in (
        ("mnist", "train-images"),
        ("cifar100", "cifar-100-binary"),
        ("fashion_mnist", "dataset-fashion-mnist"),
    ):
        line = refusal(source)
        assert said in line
        assert "--data-dir" in line
        assert str(own_cache) in line


def test_official_addresses_and_checksums_are_complete():
    # The fixture moves the addresses; the published checksums stay. A typing error would make every download fail.
    sums = [f.md5 for files in downloads.IDX.values() for f in files.values()]
    sums += [f.md5 for files in downloads.CIFAR.values() for f in files]
    assert len(set(sums)) == 12
    assert all(len(s) == 32 and int(s, 16) for s in sums)


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def write() -> None:
        with files.whole_file(target) as f:
            f.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_bytes() == b"old"
    assert left_over(tmp_path) == ["x"]
