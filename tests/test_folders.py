"""Folders and archives give the same images, cached and not; none leads outside, blows up or is cut unseen."""

import gzip
import io
import json
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

from jax_sngan.data import datasets, image_files, layout, official, resize
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
    found = layout.arrange(names, "train", "x")
    assert found.labels.tolist() == labels
    assert found.classes == classes


def told(names: list[str], split: str = "train", **options):
    """(images by class, what is told) of a layout of files."""
    found = layout.arrange(names, split, "x", **options)
    classes = found.classes or ("",)
    groups = {c: [n for n, i in zip(found.names, found.labels, strict=True) if i == k] for k, c in enumerate(classes)}
    return {c: names for c, names in groups.items() if names or found.classes}, found.told()


def of(folder: str, *classes: str) -> list[str]:
    """One image in each class of a folder."""
    return [f"{folder}/{c}/1.png" for c in classes]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"), ("Train", "Test"), ("TRAIN", "VAL"), ("train", "validation"), ("train", "valid"),
        ("training_set", "test_set"), ("seg_train", "seg_test"), ("train2017", "val2017"), ("train-images", "dev"),
        ("trainset", "testset"), ("Training Data", "Testing Data"), ("train", "eval"), ("x_train", "x_test"),
        ("1_train", "2_test"), ("train256", "val256"), ("Train (1)", "Test (1)"), ("DIV2K_train_HR", "DIV2K_valid_HR"),
    ],
)  # fmt: skip
def test_splits_go_by_the_names_that_people_use(train, test):
    names = of(train, "cat", "dog") + of(test, "cat", "dog") + ["preview.png", "pred/7.png"]
    for split, folder in (("train", train), ("test", test)):
        images, line = told(names, split)
        assert images == {"cat": [f"{folder}/cat/1.png"], "dog": [f"{folder}/dog/1.png"]}
        for words in (f"2 {train}", f"2 {test}", "1 pred", "of 6 files", "1 image ('preview.png') beside them"):
            assert words in line


def test_kaggles_splits_in_folders_of_their_own_names():
    names = [f"{kind}/{kind}/{c}/1.png" for kind in ("seg_train", "seg_test") for c in ("sea", "street")]
    images, line = told(["archive/" + name for name in [*names, "seg_pred/seg_pred/9.png"]])
    assert images == {c: [f"archive/seg_train/seg_train/{c}/1.png"] for c in ("sea", "street")}
    assert line == "of 5 files: 1 seg_pred, 2 seg_test, 2 seg_train"


def test_splits_below_the_classes_are_splits():
    names = [f"{c}/{kind}/{c}.png" for c in ("cat", "dog") for kind in ("train", "test")]
    for split in ("train", "test"):
        assert told(names, split)[0] == {c: [f"{c}/{split}/{c}.png"] for c in ("cat", "dog")}


def test_what_may_be_a_split_is_asked_for():
    with pytest.raises(UserError, match="'train' is called as a split is and 'final' has the same folders in it"):
        told(of("train", "cat", "dog") + of("final", "cat", "dog"))
    for names in (of("trainA", "x") + of("trainB", "x") + of("testA", "x"), of("train", "x") + of("Train", "x")):
        with pytest.raises(UserError, match="has 2 folders for train"):
            told(names + of("test", "x"))
    with pytest.raises(UserError, match="has 2 folders for train"):
        told(of("train1", "x") + of("train2", "x"))
    with pytest.raises(UserError, match="x holds Images, masks: 'masks' is no class; give the folder of images alone"):
        told(["x/Images/1.png", "x/masks/1.png"])
    for classes in ({"valid", "invalid"}, {"train_station", "litmus_test"}, {"masks", "hats"}):  # of tickets, say
        assert set(told([f"{c}/1.png" for c in classes])[0]) == classes


def test_strays_around_a_wrapping_are_named_and_what_is_in_it_kept():
    names = ["archive/" + name for name in [*of("x/train", "cat", "dog"), *of("x/test", "cat", "dog"), "cover.png"]]
    images, line = told(names)
    assert images == {c: [f"archive/x/train/{c}/1.png"] for c in ("cat", "dog")}
    assert line == "of 5 files: 2 test, 2 train, 1 image ('archive/cover.png') beside them"
    assert told(["top/1.png", "top/2.png", "cover.png"])[0] == {"": ["cover.png", "top/1.png", "top/2.png"]}
    deep = "/".join("d" * 3000)
    assert told([f"{deep}/cat/1.png", f"{deep}/dog/1.png"])[0] == {c: [f"{deep}/{c}/1.png"] for c in ("cat", "dog")}


def test_what_is_in_files_of_other_kinds_is_told_how_to_have(tmp_path):
    for name, need in (("x.zip", "unpack first"), ("t.tfrecord-00000-of-00002", "write the images into a folder")):
        folder = tmp_path / name.partition(".")[0]
        put(folder, {name: b""})
        end = name[name.index(".") :]
        assert f"1 {end} (to read them: {need})" in refusal(str(folder))
    put(tmp_path, {"a.parquet": b"PAR1"})
    assert "of a kind that is not read: write the images into a folder" in refusal(str(tmp_path / "a.parquet"))


def test_strays_beside_classes_are_named_and_the_classes_kept():
    images, line = told(["cat/1.png", "dog/1.png", "cover.jpg", "notes.txt", "Thumbs.db", "cat/@eaDir/1.png/a.jpg"])
    assert images == {"cat": ["cat/1.png"], "dog": ["dog/1.png"]}
    assert line == "of 6 files: 2 images, 1 image ('cover.jpg') beside them, 2 hidden, 1 .txt"
    images, line = told(["cat/1.png", "dog/1.png", "1.png", "2.png"])
    assert len(images[""]) == 4
    assert line == "no classes, for 2 images lie beside the folders"


def test_classes_are_numbered_by_name_over_all_splits():
    names = of("train", "cat", "dog") + of("test", "dog", "frog")
    for split, labels in (("train", [0, 1]), ("test", [1, 2])):
        found = layout.arrange(names, split, "x")
        assert found.classes == ("cat", "dog", "frog")
        assert found.labels.tolist() == labels
    one = layout.arrange(of("train", "dog") + of("test", "cat", "dog"), "train", "x")
    assert (one.classes, one.labels.tolist()) == (("cat", "dog"), [1])


def test_classes_stand_in_natural_order():
    classes = [str(i) for i in range(12)] + ["a2", "a10", "a010", "b"]
    assert layout.arrange(of("x", *classes[::-1]), "train", "x").classes == (*classes[:13], "a010", "a10", "b")


def test_one_class_in_two_spellings_is_one():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    names = [f"{composed}/1.png", f"{decomposed}/2.png", "tea/1.png"]
    found = layout.arrange(names, "train", "x")
    assert found.classes == (composed, "tea")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.names == tuple(names)  # as they are called on the disk


def test_what_is_left_out_is_counted():
    names = ["1.png", "b.PSD", "c.psd", "clip.mp4", "raw", ".x.png", "__MACOSX/1.png", ".DS_Store", "a/desktop.ini"]
    _, line = told(names, others={"gone.png": "a link to nothing"})
    assert line == (
        "of 10 files: 1 images, 4 hidden, 2 .psd, 1 .mp4, 1 without ending, "
        "1 that are no files ('gone.png' is a link to nothing)"
    )
    with pytest.raises(
        UserError, match=r"holds no images; .*\(of 1 files: 0 images, 1 .heic \(to read them: pip install"
    ):
        told(["a.heic"])


def test_styleganadas_labels_are_read(tmp_path):
    files = {f"0000{i // 2}/img{i}.png": encoded(noise(8, 8, 3, seed=i)) for i in range(4)}

    def labels(value):
        return files | {"dataset.json": json.dumps({"labels": value}).encode()}

    pairs = [[name, i % 2 * 2] for i, name in enumerate(files)]
    for kind in ("folder", "zip", "wrapped"):
        path = tmp_path / kind if kind != "zip" else tmp_path / "a.zip"
        if kind == "zip":
            path.write_bytes(zip_bytes(labels(pairs)))
        else:
            put(path / ("set" if kind == "wrapped" else ""), labels(pairs))
        got = load(str(path))
        assert got.labels.tolist() == [0, 2, 0, 2]
        assert got.classes == ("0", "1", "2")
        assert "1 dataset.json" in got.summary()
        assert "3 classes: 0, 1, 2 (1 of them without images: 1)" in got.summary()
        assert "sets none apart" in refusal(str(path), split="test")
    for number, (value, said) in enumerate(
        [
            (pairs[1:], "has no label for 1 image ('00000/img0.png')"),
            ([[name, [0.5]] for name in files], "must label with numbers"),
            ([*pairs, pairs[0]], "labels an image twice"),
            (3, "must hold"),
        ]
    ):
        path = tmp_path / f"wrong{number}.zip"
        path.write_bytes(zip_bytes(labels(value)))
        assert f"dataset.json {said}" in refusal(str(path))
    (tmp_path / "none.zip").write_bytes(zip_bytes(labels(None)))
    assert load(str(tmp_path / "none.zip")).classes == ()  # parts are no classes
    (tmp_path / "other.zip").write_bytes(zip_bytes(files | {"dataset.json": b'{"title": "x"}'}))
    assert load(str(tmp_path / "other.zip")).classes == ("00000", "00001")


def test_every_file_that_pillow_reads_is_read(tmp_path):
    image = noise(8, 8, 3)
    kinds = {"jfif": "JPEG", "avif": "AVIF", "tga": "TGA", "jp2": "JPEG2000", "pnm": "PPM", "png": "PNG", "qoi": "QOI"}
    put(tmp_path, {f"1.{end}": encoded(image, kind) for end, kind in kinds.items()} | {"1.heic": b"x"})
    got = load(str(tmp_path))
    assert len(got) == len(kinds)
    assert "of 8 files: 7 images, 1 .heic" in got.summary()


def test_a_damaged_file_is_not_taken_for_a_format_without_a_signature(tmp_path):
    image = encoded(noise(8, 8, 3), "TGA")
    put(tmp_path, {"a.png": image})
    assert "it is no image of a kind that is read" in refusal(str(tmp_path))
    put(tmp_path, {"a.png": b"", "b.tga": image})
    assert "a.png' is an empty file" in refusal(str(tmp_path))
    put(tmp_path, {"a.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"})
    assert "run git lfs pull" in refusal(str(tmp_path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_file_that_is_cut_off_is_seen_before_it_is_streamed(tmp_path, kind):
    data = encoded(noise(40, 40, 3), kind)
    (tmp_path / f"whole.{kind}").write_bytes(data + b"\0" * 99 * (kind != "WEBP"))  # as some programs leave it
    assert len(load(str(tmp_path), stream="always")) == 1
    (tmp_path / f"cut.{kind}").write_bytes(data[: len(data) * 2 // 3])
    assert f"cut.{kind}' cannot be read" in refusal(str(tmp_path), stream="always")


def test_all_broken_images_are_named_at_once_and_may_be_left_out(tmp_path, classes_of_pngs, capsys):
    files, images = classes_of_pngs
    put(tmp_path / "x", files | {"apple/1.png": b"", "pear/0.png": files["pear/0.png"][:-40]})
    for stream in ("never", "always"):
        line = refusal(str(tmp_path / "x"), stream=stream)
        assert "2 of 6 images are broken: 'apple/1.png', 'pear/0.png'" in line
        for _ in range(2):  # the second time from the cache
            got = load(str(tmp_path / "x"), stream=stream, skip_broken=True)
            np.testing.assert_array_equal(got.images[:], images[[0, 2, 4, 5]])
            assert got.labels.tolist() == [0, 0, 1, 1]
            assert "of 6 files: 4 images, 2 broken images ('apple/1.png', 'pear/0.png')" in got.summary()
            assert "2 broken images" in capsys.readouterr().err
    put(tmp_path / "y", {"a.png": b"", "b.png": b"x"})
    assert "2 of 2 images are broken" in refusal(str(tmp_path / "y"), skip_broken=True)


def test_test_images_come_from_their_own_folder_alone():
    names = ["train/a/1.png", "train/b/1.png", "validation/a/2.png", "validation/b/2.png"]
    assert layout.arrange(names, "test", "x").names == ("validation/a/2.png", "validation/b/2.png")
    assert layout.arrange([*names, "test/a/3.png"], "test", "x").names == ("test/a/3.png",)
    for no_test in (["1.png"], ["a/1.png", "b/2.png"], ["train/1.png"]):
        with pytest.raises(UserError, match="test"):
            layout.arrange(no_test, "test", "x")


def test_order_depends_on_names_alone():
    names = ["b/1.png", "a/2.png", "a/10.png"]
    assert layout.arrange(names, "train", "x").names == layout.arrange(names[::-1], "train", "x").names


def test_a_second_start_reads_the_cache(tmp_path, classes_of_pngs, own_cache, monkeypatch, capsys):
    put(tmp_path / "fruit", classes_of_pngs[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a person looks on
    first = load(str(tmp_path / "fruit"), progress=True)
    assert "images of fruit: 100%" in capsys.readouterr().err
    assert [name.partition("-")[0] for name in left_over(own_cache)] == ["folders/files", "folders/fruit"]
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
    cached = own_cache / left_over(own_cache)[1]
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


def linked_tar(path: Path, links: list[tuple[str, str, bytes]], files: dict[str, bytes]) -> None:
    """A tar of files and, behind them, links: name, target, kind."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)


def linked_zip(path: Path, links: list[tuple[str, str, bytes]], files: dict[str, bytes]) -> None:
    """The same as a zip, whose links are all symbolic."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target, _ in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)


LINKS = [  # name, target, kind in a tar
    ("set/dog/2.png", "../cat/1.png", tarfile.SYMTYPE),
    ("set/frog", "cat", tarfile.SYMTYPE),
    ("set/dog/gone.png", "nowhere.png", tarfile.SYMTYPE),
    ("set/dog/out.png", "../../../etc/x.png", tarfile.SYMTYPE),
    ("set/dog/again", "../../set", tarfile.SYMTYPE),
]


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("stream", ["never", "always"])
def test_links_are_the_same_in_folders_and_archives(tmp_path, kind, stream, capsys):
    """Those to files and to folders of classes are followed, of what leads nowhere a line tells."""
    images = noise(2, 8, 8, 3)
    files = {"set/cat/1.png": encoded(images[0]), "set/dog/1.png": encoded(images[1])}
    path = tmp_path / ("x" if kind == "folder" else f"x.{kind}")
    if kind == "folder":
        put(path, files)
        for name, target, _ in LINKS:
            (path / name).symlink_to(target)
    else:
        {"tar": linked_tar, "zip": linked_zip}[kind](path, LINKS, files)
    for _ in range(2):  # the second time from the cache
        got = load(str(path), stream=stream)
        assert got.classes == ("cat", "dog", "frog")
        assert got.labels.tolist() == [0, 1, 1, 2]
        np.testing.assert_array_equal(got.images[:], images[[0, 1, 0, 0]])
        told = capsys.readouterr().err
        assert "'set/dog/gone.png' is a link to nothing" in told
        assert "set/dog/again' is a link to a folder above" in told
        assert "set/dog/out.png' is a link" in told
        assert "of 7 files: 4 images, 3 that are no files" in got.summary()


def test_hard_links_of_a_tar_are_the_files_that_they_name(tmp_path):
    image = noise(8, 8, 3)
    linked_tar(tmp_path / "a.tar", [("a/2.png", "a/1.png", tarfile.LNKTYPE)], {"a/1.png": encoded(image)})
    for stream in ("never", "always"):
        np.testing.assert_array_equal(load(str(tmp_path / "a.tar"), stream=stream).images[:], [image, image])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_out_and_devices_in_an_archive_are_never_read(tmp_path, kind):
    linked_tar(tmp_path / "a.tar", [("x.png", "/etc/passwd", kind)], {})
    assert "holds no images" in refusal(str(tmp_path / "a.tar"))
    linked_zip(tmp_path / "a.zip", [("x.png", "/etc/passwd", kind)], {})
    assert "'x.png' is a link out of the archive" in refusal(str(tmp_path / "a.zip"))


def test_links_that_multiply_are_refused(tmp_path):
    levels = [(f"{i}/{side}", f"../{i + 1}", tarfile.SYMTYPE) for i in range(30) for side in "ab"]
    linked_tar(tmp_path / "a.tar", levels, {"30/x.png": WHOLE_PNG})
    assert "stand for too many files" in refusal(str(tmp_path / "a.tar"))
    put(tmp_path / "b", {"30/x.png": WHOLE_PNG})
    for name, target, _ in levels:
        (tmp_path / "b" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "b" / name).symlink_to(target)
    assert "links lead to the same folder" in refusal(str(tmp_path / "b"))


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
