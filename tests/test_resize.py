"""Images reach their size without aliasing, shift or loss, and no image file can do harm."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, noise
from PIL import Image

from jax_sngan.data import datasets, resize
from jax_sngan.system.errors import UserError


def test_mnist_like_images_are_padded_and_keep_every_pixel():
    small = datasets.load_data("fashion", image_size=28, channels=1).images
    large = datasets.load_data("fashion", image_size=32, channels=1).images
    np.testing.assert_array_equal(large[:, 2:30, 2:30], small)
    assert large.sum(dtype=np.int64) == small.sum(dtype=np.int64)


def test_padding_stops_where_the_border_would_be_most_of_the_image():
    images = np.full((1, 28, 28, 1), 255, np.uint8)
    assert resize.fit(images, 35, 1, pad=True)[0, 0, 0, 0] == 0
    assert resize.fit(images, 64, 1, pad=True).min() == 255
    assert resize.fit(images, 32, 1, pad=False).min() == 255


def test_grey_becomes_three_equal_channels():
    grey = datasets.load_data("fashion", image_size=28, channels=1).images
    colour = datasets.load_data("fashion", image_size=28, channels=3).images
    np.testing.assert_array_equal(colour, np.broadcast_to(grey, colour.shape))


def test_colour_becomes_the_luminance_that_pillow_computes():
    images = noise(1500, 4, 4, 3)  # more than one piece
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]
    np.testing.assert_array_equal(resize.fit(images, 4, 1), expected)


def test_shrinking_does_not_alias():
    checker = np.indices((64, 64)).sum(0) % 2 * 255
    shrunk = resize.fit(checker.astype(np.uint8)[None, ..., None], 8, 1)
    assert np.abs(shrunk.astype(int) - 127).max() <= 2  # nearest neighbours would give 0 or 255


def test_crop_is_central():
    image = np.zeros((8, 20, 3), np.uint8)
    image[:, 6:14] = noise(8, 8, 3)
    np.testing.assert_array_equal(resize.fit(image[None], 8, 3)[0], image[:, 6:14])
    np.testing.assert_array_equal(resize.decode(encoded(image), "x", 8, 3), image[:, 6:14])


def test_decoding_keeps_pixels_of_the_right_size():
    image = noise(8, 8, 3)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(resize.decode(encoded(image, kind), "x", 8, 3), image)


def test_decoding_follows_the_cameras_orientation():
    image = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    np.testing.assert_array_equal(resize.decode(encoded(image, exif=exif), "x", 8, 3), np.rot90(image, -1))


def test_decoding_makes_transparency_white_and_scales_16_bits():
    clear = np.zeros((8, 8, 4), np.uint8)
    assert resize.decode(encoded(clear), "x", 8, 3).min() == 255
    deep = np.full((8, 8), 0x80FF, np.uint16)
    assert set(resize.decode(encoded(deep), "x", 8, 1).ravel()) == {0x80}


def test_a_large_photo_is_decoded_to_nearly_what_its_full_decoding_gives():
    y, x = np.mgrid[:1024, :1024] / 1024
    photo = (127 + 100 * np.stack([np.sin(5 * x), np.cos(7 * y), np.sin(4 * x * y)], -1)).astype(np.uint8)
    file = encoded(photo, "JPEG", quality=95)
    full = resize.fit(np.asarray(Image.open(io.BytesIO(file)))[None], 32, 3)[0]
    quick = resize.decode(file, "x", 32, 3)
    assert np.abs(full.astype(int) - quick).max() <= 3  # of 255: two stages of averaging for one


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_images_raise_nothing_but_user_errors(draw):
    content = bytearray(
        draw.draw(
            st.sampled_from([encoded(noise(16, 16, 3), k) for k in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")])
        )
    )
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    try:
        image = resize.decode(bytes(content), "x", 8, 3)
    except UserError as e:
        line = str(e)
    else:
        assert image.shape == (8, 8, 3)
        line = ""
    assert "\n" not in line


def deep_tiff(pixels: np.ndarray, order: str, photometric: int) -> bytes:
    """Grey of 16 bits as a microscope's program writes it; order: < or >."""
    h, w = pixels.shape
    tags = [(256, w), (257, h), (258, 16), (259, 1), (262, photometric), (273, 14 + 12 * 9), (277, 1), (278, h)]
    tags.append((279, 2 * h * w))
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + pixels.astype(f"{order}u2").tobytes()


DEEP = np.random.default_rng(0).integers(0, 2**16, (8, 8), np.uint16)


def in_a_file(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", in_a_file(Image.fromarray(DEEP), "PNG"), DEEP >> 8),
        ("a.tif", in_a_file(Image.fromarray(DEEP), "TIFF"), DEEP >> 8),
        ("a.jp2", in_a_file(Image.fromarray(DEEP), "JPEG2000"), DEEP >> 8),
        ("b.tif", deep_tiff(DEEP, ">", 1), DEEP >> 8),
        ("c.tif", deep_tiff(DEEP, "<", 0), 255 - (DEEP >> 8)),
        ("a.pgm", b"P5 8 8 65535\n" + DEEP.astype(">u2").tobytes(), DEEP >> 8),
        ("b.pgm", b"P5 8 8 4095\n" + (DEEP >> 4).astype(">u2").tobytes(), (DEEP >> 4) * 65535.0 / 4095 // 256),
        ("c.pgm", b"P2 8 8 65535\n" + " ".join(map(str, DEEP.ravel())).encode(), DEEP >> 8),
    ],
)
def test_16_bits_of_grey_are_their_higher_8_in_every_format(name, data, expected):
    for channels in (1, 3):
        got = resize.decode(data, name, 8, channels)
        np.testing.assert_array_equal(got, np.repeat(expected[..., None], channels, axis=2))
    assert resize.size_of(data, name) == (8, 1)


@pytest.mark.parametrize("name", ["65535.pgm", "4095.pgm"])
def test_the_shared_grey_of_many_bits_uses_all_of_the_8(name, shared_dir):
    got = resize.decode((shared_dir / "cases" / name).read_bytes(), name, 28, 1)
    assert (got.min(), got.max()) == (0, 255)
    assert 100 < got.mean() < 155


def test_cielab_becomes_grey_as_it_becomes_colour():
    lab = Image.merge("LAB", [Image.fromarray(noise(8, 8, seed=i)) for i in range(3)])
    data = in_a_file(lab, "TIFF")
    colour, grey = (resize.decode(data, "a.tif", 8, c) for c in (3, 1))
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(colour).convert("L")))
    assert grey.std() > 10
