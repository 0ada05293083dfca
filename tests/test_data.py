"""Images come as they are in their source; the embedded ones are what they were; what is wrong is said in one line."""

import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    load,
    noise,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    refusal,
)

from jax_sngan.data import datasets, official
from jax_sngan.system import budget, machine, npz
from jax_sngan.system.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
needs_debian = pytest.mark.skipif(
    not official.DEBIAN["fashion_mnist"].is_dir(), reason="needs the Debian package dataset-fashion-mnist"
)


def test_embedded_images_are_1000_a_class_with_labels():
    got = datasets.load_data("fashion", image_size=28, channels=1)
    assert got.images.shape == (10_000, 28, 28, 1)
    assert got.images.dtype == np.uint8
    assert got.labels.dtype == np.int32
    assert np.bincount(got.labels).tolist() == [1_000] * 10
    assert got.name == "fashion"
    assert got.classes[0] == "T-shirt/top"
    assert got.classes[9] == "Ankle boot"
    assert not got.flip


def test_embedded_images_are_the_ones_that_were_chosen():
    # Whoever changes the file changes every result that was measured on it.
    assert datasets.load_data("fashion", image_size=28, channels=1).checksum() == (
        "777870279ccd3c6ff0ad11360fdb64190ad6073bdad5f03bdafa421d2280374e"
    )


@needs_debian
def test_embedded_images_are_training_images_and_no_test_image():
    embedded = datasets.load_data("fashion", image_size=28, channels=1)
    train = datasets.load_data("fashion_mnist", image_size=28, channels=1)
    test = datasets.load_data("fashion_mnist", image_size=28, channels=1, split="test")
    (places,) = npz.read_npz(ROOT / "jax_sngan/datasets/fashion10k.npz", ("indices",))
    np.testing.assert_array_equal(embedded.images, train.images[places])
    np.testing.assert_array_equal(embedded.labels, train.labels[places])
    unseen = {image.tobytes() for image in test.images}
    assert not any(image.tobytes() in unseen for image in embedded.images)


def test_embedded_images_have_no_test_split():
    assert "fashion_mnist" in refusal("fashion", split="test")


def test_licence_and_origin_lie_beside_the_embedded_images():
    folder = ROOT / "jax_sngan/datasets"
    assert "Zalando SE" in (folder / "LICENSE").read_text()
    assert "Permission is hereby granted" in (folder / "LICENSE").read_text()
    assert "make_fashion10k.py" in (folder / "README.md").read_text()


@needs_debian
def test_the_script_makes_the_embedded_file_again(tmp_path, monkeypatch, capsys):
    from jax_sngan.commands import make_fashion10k as script

    def run(*options):
        monkeypatch.setattr("sys.argv", ["make_fashion10k.py", *options])
        return script.main()

    assert run("--verify") == 0
    kept = dict(np.load(script.TARGET))
    kept["labels"][5] += 1
    np.savez(tmp_path / "other.npz", **kept)
    assert run("--verify", "--target", str(tmp_path / "other.npz")) == 1
    assert "labels differ" in capsys.readouterr().out
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        run("--verify", "--source", str(tmp_path))


def test_checksum_sees_every_pixel_label_and_shape():
    def checksum(images, labels):
        return datasets.Dataset("x", images, labels, (), True).checksum()

    images, labels = noise(4, 2, 3, 1), np.zeros(4, np.int32)
    before = checksum(images, labels)
    assert before == checksum(images.copy(order="F"), labels)
    other = images.copy()
    other[3, 1, 2, 0] ^= 1
    assert checksum(other, labels) != before
    assert checksum(images, np.array([0, 0, 0, 1], np.int32)) != before
    assert checksum(images.reshape(4, 3, 2, 1), labels) != before


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int32)),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, np.int32)),
    ],
)
def test_dataset_refuses_other_arrays(images, labels):
    with pytest.raises(ValueError, match="must be"):
        datasets.Dataset("x", images, labels, (), True)


@pytest.mark.parametrize("options", [{"channels": 2}, {"image_size": 0}, {"split": "validation"}])
def test_load_refuses_options_that_mean_nothing(options):
    assert refusal("fashion", **options)


@pytest.mark.parametrize(
    ("image_key", "label_key"), [("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("x_train", "y_train")]
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read(tmp_path, image_key, label_key, save):
    images, labels = noise(6, 8, 8, 3), np.array([2, 0, 1, 2, 2, 0])
    save(tmp_path / "mine.npz", **{image_key: images, label_key: labels})
    got = load(str(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(got.images, images)
    np.testing.assert_array_equal(got.labels, labels)
    assert got.classes == ("0", "1", "2")
    assert got.name == "npz:mine"
    assert got.flip


def test_npz_may_be_grey_without_labels_and_in_any_order_of_memory(tmp_path):
    images = noise(6, 8, 8)
    np.savez(tmp_path / "mine.npz", images=np.asfortranarray(images))
    got = load(str(tmp_path / "mine.npz"), channels=1)
    np.testing.assert_array_equal(got.images[..., 0], images)
    assert got.classes == ()
    assert not got.labels.any()


def test_npz_has_a_test_split_only_under_its_names(tmp_path):
    train, test = noise(6, 8, 8, 3), noise(2, 8, 8, 3, seed=1)
    np.savez(tmp_path / "a.npz", x_train=train, x_test=test)
    np.testing.assert_array_equal(load(str(tmp_path / "a.npz"), split="test").images, test)
    np.savez(tmp_path / "b.npz", images=train)
    assert "no test images" in refusal(str(tmp_path / "b.npz"), split="test")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": noise(2, 8, 8), "y": np.arange(2)}, "looked for an array named images"),
        ({"pictures": noise(2, 8, 8), "y": np.arange(2)}, "train_images; it holds pictures, y"),
        ({"images": np.zeros((2, 8, 8), np.float32)}, "uint8 in 0 to 255, got float32"),
        ({"images": noise(2, 8)}, "got [2, 8]"),
        ({"images": noise(2, 3, 8, 8)}, "[2, 3, 8, 8], as PyTorch has them, and must be [n, h, w, c]: np.moveaxis"),
        ({"images": noise(0, 8, 8, 3)}, "got [0, 8, 8, 3]"),
        ({"images": noise(2, 8, 0, 3)}, "got [2, 8, 0, 3]"),
        ({"images": np.array([object()])}, "not plain numbers"),
        ({"images": np.array(["a"])}, "uint8 in 0 to 255, got <U1"),
        ({"images": noise(64, 48, 3)}, "one picture of 3 channels, or 64 grey images of 48 x 3?"),
    ],
)
def test_npz_of_another_content_is_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "mine.npz", **arrays)
    line = refusal(str(tmp_path / "mine.npz"))
    assert "mine.npz" in line
    assert said in line


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_may_be_names(tmp_path, kind):
    labels, others = np.array(["class10", "class2"], kind), np.array([["class2"], ["class1"]], kind)
    np.savez(tmp_path / "a.npz", images=noise(2, 8, 8, 3), labels=labels, x_test=noise(2, 8, 8, 3), y_test=others)
    for split, numbers in (("train", [2, 1]), ("test", [1, 0])):
        got = load(str(tmp_path / "a.npz"), split=split)
        assert (got.classes, got.labels.tolist()) == (("class1", "class2", "class10"), numbers)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([1]), "labels must be 2, one an image, got 1"),
        (
            np.array([0.0, 1.0]),
            "labels must be integers [n] or [n, 1], or rows with a single 1 [n, k], got float64 [2]",
        ),
        (np.array([[1, 1], [0, 1]]), "got int64 [2, 2]"),
        (np.array([0, -1]), "labels must lie in 0 to 99999, got -1 to 0"),
        (np.array([0, 10**9]), "labels must lie in 0"),
        (np.array(["cat", "dog"], object), "array 'labels.npy' holds object, not plain numbers or texts"),
    ],
)
def test_wrong_labels_stop_only_what_needs_them(tmp_path, labels, said, capsys):
    np.savez(tmp_path / "mine.npz", images=noise(2, 8, 8, 3), labels=labels)
    got = load(str(tmp_path / "mine.npz"))
    assert (got.classes, got.labels.tolist()) == ((), [0, 0])
    assert said in got.unlabelled
    assert said in got.summary()
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("x_train", "y_train"), np.array([[2], [0]])),  # Keras
        (("train_images", "train_labels"), np.array([[2], [0]], np.uint8)),  # MedMNIST
        (("images", "labels"), np.array([[0, 0, 1.0], [1, 0, 0]])),
        (("images", "labels"), np.array([[False, False, True], [True, False, False]])),
    ],
)
def test_labels_as_programs_write_them(tmp_path, names, labels):
    np.savez(tmp_path / "mine.npz", **{names[0]: noise(2, 8, 8, 3), names[1]: labels})
    got = load(str(tmp_path / "mine.npz"))
    assert got.labels.tolist() == [2, 0]
    assert got.classes == ("0", "1", "2")
    assert got.summary().endswith("3 classes: 0, 1, 2 (1 of them without images: 1)")


def test_classes_of_an_npz_are_those_of_both_splits(tmp_path):
    images = noise(2, 8, 8, 3)
    np.savez(
        tmp_path / "a.npz", train_images=images, train_labels=[[0], [1]], test_images=images, test_labels=[[3], [1]]
    )
    assert load(str(tmp_path / "a.npz")).classes == load(str(tmp_path / "a.npz"), split="test").classes == tuple("0123")


def test_one_array_is_read_as_npy(tmp_path):
    images = noise(6, 8, 8, 3)
    np.save(tmp_path / "mine.npy", images)
    got = load(str(tmp_path / "mine.npy"))
    np.testing.assert_array_equal(got.images, images)
    assert got.name == "npz:mine"
    whole = (tmp_path / "mine.npy").read_bytes()
    for content in (whole[:-1], whole[:50], b"", b"text", whole + b"x"):
        (tmp_path / "mine.npy").write_bytes(content)
        assert "damaged" in refusal(str(tmp_path / "mine.npy"))
    np.save(tmp_path / "mine.npy", images.astype(np.float32))
    assert "must be uint8" in refusal(str(tmp_path / "mine.npy"))
    assert "no test images" in refusal(str(tmp_path / "mine.npy"), split="test")


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_an_empty_file_is_called_so(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    line = refusal(str(tmp_path / name))
    assert f"{name} is damaged or incomplete: it is an empty file" in line


def test_addresses_are_refused_as_such():
    for address in ("gs://bucket/photos", "https://example.org/a.zip", "s3://b/a.npz"):
        assert "is an address of" in refusal(address)


def test_npz_that_lies_about_its_size_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    path = tmp_path / "mine.npz"

    def write(shape, content):
        array = io.BytesIO()
        np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", array.getvalue() + content)

    write((10**7, 1000, 1000, 3), b"\0" * 100)
    assert "has 100 bytes" in refusal(str(path))
    monkeypatch.setattr(budget, "FLOOR", 2**16)
    write((100, 100, 100, 3), b"\0" * 3_000_000)
    assert "unpacks to more than" in refusal(str(path))
    monkeypatch.setattr(budget, "FLOOR", 2**28)
    monkeypatch.setattr(machine, "memory", lambda: 2**22)
    assert "unpacks to more than" in refusal(str(path))


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=noise(6, 8, 8, 3))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (whole[:-30], whole[: len(whole) // 2], bytes(flipped), b"", b"PK", pickle.dumps({})):
        path.write_bytes(content)
        assert "damaged" in refusal(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no array")
    assert "is no array" in refusal(str(path))


def test_unknown_sources_say_what_is_allowed(tmp_path):
    line = refusal("imagenet")
    for allowed in ("fashion_mnist", "mnist", "cifar10", "cifar100", ".npz", "FOLDER", ".tar.gz", ".zip"):
        assert allowed in line
    assert "no file or folder" in refusal(str(tmp_path / "absent"))
    (tmp_path / "a.pdf").write_bytes(b"")
    assert "of a kind that is not read" in refusal(str(tmp_path / "a.pdf"))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=300))
def test_any_text_as_source_is_refused_in_one_line(text):
    source = f"no such {text}"
    with pytest.raises(UserError) as error:
        load(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["", "\0", "a\nb", "~nobody/x", "x" * 5000, "/" * 300 + "absent"])
def test_odd_sources_are_refused_in_one_line(source):
    with pytest.raises(UserError) as error:
        load(source)
    assert "\n" not in str(error.value)
