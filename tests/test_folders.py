"""Folders and archives give the same images, cached and not; none leads outside, blows up or is cut unseen."""

import gzip
import io
import os
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import (
    PACKERS,
    WHOLE_JPEG,
    WHOLE_PNG,
    encoded,
    left_over,
    load,
    noise,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
    refusal,
    zip_bytes,
)
from PIL import Image

from jax_sngan.data import datasets, image_files, image_folder, official, resize
from jax_sngan.system import archives, budget, machine
from jax_sngan.system.errors import UserError

JPEGS = Path(__file__).resolve().parents[2] / "shared/data/cifar10-jpeg.tar.xz"
needs_jpegs = pytest.mark.skipif(not JPEGS.is_file(), reason=f"needs {JPEGS}, which is not part of the repository")


@pytest.fixture
def classes_of_pngs():
    """name -> file of two classes of three images, and the images in the order of their names."""
    images = noise(6, 8, 8, 3)
    names = [f"{kind}/{i}.png" for kind in ("apple", "pear") for i in range(3)]
    return dict(zip(names, map(encoded, images), strict=True)), images


def test_class_folders_give_labels(tmp_path, classes_of_pngs):
    files, images = classes_of_pngs
    put(
        tmp_path / "fruit",
        files | {"notes.txt": b"", ".hidden/x.png": b"", "apple/._0.png": b"", "apple/data.csv": b""},
    )
    got = load(str(tmp_path / "fruit"))
    np.testing.assert_array_equal(got.images, images)
    assert got.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert got.classes == ("apple", "pear")
    assert got.name == "folder:fruit"
    assert got.flip


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["1.png", "2.png"], [0, 0], ()),
        (["all/1.png", "all/2.png"], [0, 0], ()),
        (["b/1.png", "a/2.png"], [0, 1], ("a", "b")),
        (["top/b/1.png", "top/a/2.png"], [0, 1], ("a", "b")),
        (["b/deep/1.png", "a/2.png"], [0, 1], ("a", "b")),
        (["1.png", "a/2.png"], [0, 0], ()),
        (["train/b/1.png", "train/a/2.png", "test/a/3.png"], [0, 1], ("a", "b")),
        (["set/train/b/1.png", "set/train/a/2.png", "set/val/a/3.png"], [0, 1], ("a", "b")),
        (["train/1.png", "test/2.png"], [0], ()),
        (["train/1.png", "boat/2.png"], [0, 1], ("boat", "train")),  # a class of trains, no split
    ],
)
def test_layouts_of_folders(names, labels, classes):
    listing = image_folder.arrange(names, "train", "x")
    assert listing.labels.tolist() == labels
    assert listing.classes == classes


def test_test_images_come_from_their_own_folder_alone():
    names = ["train/a/1.png", "train/b/1.png", "validation/a/2.png", "validation/b/2.png"]
    assert image_folder.arrange(names, "test", "x").names == ("validation/a/2.png", "validation/b/2.png")
    assert image_folder.arrange([*names, "test/a/3.png"], "test", "x").names == ("test/a/3.png",)
    for no_test in (["1.png"], ["a/1.png", "b/2.png"], ["train/1.png"]):
        with pytest.raises(UserError, match="test"):
            image_folder.arrange(no_test, "test", "x")


def test_order_depends_on_names_alone():
    names = ["b/1.png", "a/2.png", "a/10.png"]
    assert image_folder.arrange(names, "train", "x").names == image_folder.arrange(names[::-1], "train", "x").names


def test_a_second_start_reads_the_cache(tmp_path, classes_of_pngs, own_cache, monkeypatch, capsys):
    put(tmp_path / "fruit", classes_of_pngs[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a person looks on
    first = load(str(tmp_path / "fruit"), progress=True)
    assert "images of fruit: 100%" in capsys.readouterr().err
    assert len(left_over(own_cache)) == 1
    monkeypatch.setattr(resize, "decode", lambda *_: pytest.fail("decoded again"))
    second = load(str(tmp_path / "fruit"))
    assert second.checksum() == first.checksum()
    assert second.classes == first.classes


@pytest.mark.parametrize("change", ["file", "new", "removed", "time", "size", "channels"])
def test_the_cache_is_not_used_for_other_images(tmp_path, classes_of_pngs, change):
    put(tmp_path, classes_of_pngs[0])
    options = {"image_size": 6, "channels": 1}
    before = load(str(tmp_path), **options)
    file = tmp_path / "apple/1.png"
    if change == "file":
        file.write_bytes(encoded(noise(8, 8, 3, seed=9)))
    elif change == "new":
        put(tmp_path, {"apple/9.png": encoded(noise(8, 8, 3, seed=9))})
    elif change == "removed":
        file.unlink()
    elif change == "time":  # same size, other pixels: only the time tells
        old = file.stat()
        file.write_bytes(encoded(noise(8, 8, 3, seed=9)).ljust(old.st_size)[: old.st_size])
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    else:
        options |= {"size": {"image_size": 8}, "channels": {"channels": 3}}[change]  # more than is in the cache
    after = load(str(tmp_path), **options).checksum()
    assert after != before.checksum()
    assert after == load(str(tmp_path), cache_dir=tmp_path / "fresh", **options).checksum()


def test_the_cache_keeps_splits_apart(tmp_path):
    put(tmp_path, {"train/0.png": encoded(noise(8, 8, 3)), "test/0.png": encoded(noise(8, 8, 3, seed=1))})
    for _ in range(2):
        np.testing.assert_array_equal(load(str(tmp_path)).images[0], noise(8, 8, 3))
        np.testing.assert_array_equal(load(str(tmp_path), split="test").images[0], noise(8, 8, 3, seed=1))


def test_a_damaged_cache_is_made_anew(tmp_path, classes_of_pngs, own_cache):
    put(tmp_path, classes_of_pngs[0])
    before = load(str(tmp_path)).checksum()
    cached = own_cache / left_over(own_cache)[0]
    whole = cached.read_bytes()
    flipped = bytearray(whole)
    flipped[300] ^= 1
    for content in (whole[:500], bytes(flipped), b""):
        cached.write_bytes(content)
        assert load(str(tmp_path)).checksum() == before
        assert cached.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_only_a_note(tmp_path, classes_of_pngs, capsys):
    put(tmp_path / "fruit", classes_of_pngs[0])
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(load(str(tmp_path / "fruit"), cache_dir=tmp_path / "cache").images) == 6
    assert "note:" in capsys.readouterr().err


def test_a_failed_start_leaves_no_cache(tmp_path, classes_of_pngs, own_cache):
    put(tmp_path, classes_of_pngs[0] | {"pear/bad.png": b"no image"})
    assert "bad.png" in refusal(str(tmp_path))
    assert left_over(own_cache) == []


def test_folders_that_link_to_themselves_end(tmp_path, classes_of_pngs):
    put(tmp_path / "fruit", classes_of_pngs[0])
    (tmp_path / "fruit/pear/again").symlink_to(tmp_path / "fruit", target_is_directory=True)
    assert len(load(str(tmp_path / "fruit")).images) == 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.png", WHOLE_PNG[: len(WHOLE_PNG) // 2]),
        ("cut.jpg", WHOLE_JPEG[: len(WHOLE_JPEG) // 2]),
        ("empty.png", b""),
        ("text.jpg", b"hello"),
        ("flipped.png", WHOLE_PNG[:2000] + b"\0\0\0\0" + WHOLE_PNG[2004:]),
        ("deep.tif", encoded(np.zeros((8, 8), np.float32), "TIFF")),
        ("other.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"),
    ],
)
def test_images_that_cannot_be_read_are_named(tmp_path, name, content):
    put(tmp_path, {"good.png": WHOLE_PNG, name: content})
    assert name in refusal(str(tmp_path))


@pytest.mark.parametrize("size", [2**20, 11_000, 9_000])  # where Pillow raises, where it warns, and below
def test_absurd_dimensions_are_refused_before_memory_is_taken(tmp_path, size):
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1) + b"IDAT" + b"\0" + struct.pack(">I", zlib.crc32(b"IDAT\0"))
    )
    (tmp_path / "huge.png").write_bytes(png)
    line = refusal(str(tmp_path))
    assert "huge.png" in line
    assert "at most 67108864 pixels" in line


def test_images_that_do_not_fit_into_memory_are_refused(tmp_path, classes_of_pngs, monkeypatch):
    put(tmp_path, classes_of_pngs[0])
    monkeypatch.setattr(machine, "memory", lambda: 1000)
    assert "of memory; --stream auto" in refusal(str(tmp_path), stream="never")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    put(tmp_path, {"a.txt": b"", "b/c.txt": b""})
    line = refusal(str(tmp_path))
    assert str(tmp_path) in line
    assert ".png" in line


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_without_images_is_refused(tmp_path, kind):
    for files in ({}, {"a.txt": b"hello"}):
        (tmp_path / f"a.{kind}").write_bytes(PACKERS[kind](files))
        assert "holds no images" in refusal(str(tmp_path / f"a.{kind}"))


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_gives_what_its_folder_gives(tmp_path, classes_of_pngs, kind):
    files = {
        f"set/{split}/{name}": c for split in ("test", "train") for name, c in reversed(classes_of_pngs[0].items())
    }
    put(tmp_path / "fruit", files)
    (tmp_path / f"fruit.{kind}").write_bytes(PACKERS[kind](files | {"set/readme.txt": b"hello"}))
    for split in ("train", "test"):
        unpacked, packed = (
            load(str(tmp_path / "fruit"), split=split),
            load(str(tmp_path / f"fruit.{kind}"), split=split),
        )
        assert packed.checksum() == unpacked.checksum()
        assert packed.classes == unpacked.classes == ("apple", "pear")
        assert packed.name == "folder:fruit"


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "a/../../x.png", "..\\x.png", "C:\\x.png", "\\x.png"])
def test_members_that_lead_outside_are_refused(tmp_path, kind, name):
    (tmp_path / f"a.{kind}").write_bytes(PACKERS[kind]({"good.png": WHOLE_PNG, name: WHOLE_PNG}))
    assert "leads outside" in refusal(str(tmp_path / f"a.{kind}"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("x.png")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    assert "link or a device" in refusal(str(tmp_path / "a.tar"))


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "link or a device" in refusal(str(tmp_path / "a.zip"))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "zip"])
def test_bombs_are_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(budget, "FLOOR", 2**20)
    bomb = PACKERS[kind]({"good.png": WHOLE_PNG} | {f"{i}.png": b"\0" * 2**20 for i in range(8)})
    (tmp_path / f"a.{kind}").write_bytes(bomb)
    assert "unpacks to more than" in refusal(str(tmp_path / f"a.{kind}"))


def test_a_member_larger_than_any_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "LARGEST_IMAGE", len(WHOLE_PNG) - 1)
    for kind in ("tar", "zip"):
        (tmp_path / f"a.{kind}").write_bytes(PACKERS[kind]({"good.png": WHOLE_PNG}))
        assert "at most" in refusal(str(tmp_path / f"a.{kind}"))
    put(tmp_path / "folder", {"good.png": WHOLE_PNG})
    assert "has more than" in refusal(str(tmp_path / "folder"))


def test_a_header_that_claims_gigabytes_is_refused_before_they_are_read(tmp_path, monkeypatch):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**32
    given = []
    real = archives._Metered.read
    monkeypatch.setattr(archives._Metered, "read", lambda self, size: given.append(size) or real(self, size))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + b"\0" * 2**24))
    assert "header of more than" in refusal(str(tmp_path / "a.tar.gz"))
    assert sum(given) < 2**21


@pytest.mark.parametrize("kind", PACKERS)
def test_archives_cut_anywhere_are_refused(tmp_path, classes_of_pngs, kind):
    whole = PACKERS[kind](classes_of_pngs[0])
    path = tmp_path / f"a.{kind}"
    # Half the multiples of 512 lie between two members of a plain tar, where tarfile sees nothing amiss.
    lengths = range(0, len(whole.rstrip(b"\0")) + 512, 512) if kind == "tar" else range(0, len(whole), 97)
    for length in lengths:
        path.write_bytes(whole[:length])
        assert path.name in refusal(str(path)), length


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.bz2", "zip"])
def test_archives_with_a_flipped_bit_never_give_other_pixels(tmp_path, classes_of_pngs, kind):
    files, images = classes_of_pngs
    whole = PACKERS[kind](files)
    path = tmp_path / f"a.{kind}"
    refused = 0
    for place in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        try:
            got = load(str(path), cache_dir=tmp_path / str(place))
        except UserError:
            refused += 1
        else:
            np.testing.assert_array_equal(got.images, images)
    assert refused


def test_encrypted_members_are_refused(tmp_path, classes_of_pngs):
    whole = bytearray(zip_bytes(classes_of_pngs[0]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := whole.find(signature, start)) >= 0:
            whole[start + offset] |= 1
            start += 4
    (tmp_path / "a.zip").write_bytes(whole)
    assert "encrypted" in refusal(str(tmp_path / "a.zip"))


@needs_jpegs
def test_the_first_shared_jpegs_are_what_pillow_makes_of_them(tmp_path):
    files = {}
    for name, content in archives.members(JPEGS, lambda name: name.endswith(".jpg"), 2**20):
        files[name] = content
        if len(files) == 100:
            break
    (tmp_path / "some.tar.xz").write_bytes(PACKERS["tar.xz"](files))
    got = datasets.load_data(str(tmp_path / "some.tar.xz"), image_size=32, channels=3, progress=False)
    expected = [np.asarray(Image.open(io.BytesIO(files[name]))) for name in sorted(files)]
    np.testing.assert_array_equal(got.images, expected)


@pytest.mark.long
@needs_jpegs
def test_the_shared_jpegs_are_read_from_their_archive():
    for split, each in (("test", 1_000), ("train", 5_000)):
        got = datasets.load_data(str(JPEGS), image_size=32, channels=3, split=split, progress=False)
        assert got.name == "folder:cifar10-jpeg"
        assert got.images.shape == (10 * each, 32, 32, 3)
        assert np.bincount(got.labels).tolist() == [each] * 10
        assert got.classes == official.CLASSES["cifar10"]
        # CIFAR-10's mean, as everyone normalises by; JPEG moves it little.
        np.testing.assert_allclose(got.images.mean((0, 1, 2)), (125.3, 123.0, 113.9), atol=1.5)
