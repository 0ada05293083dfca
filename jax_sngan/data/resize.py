"""Images made to fit a network: decoded, cropped square, resized, grey or RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jax_sngan.data import image_cost, image_formats
from jax_sngan.system.budget import DECODING, Budget
from jax_sngan.system.errors import UserError

_GREY = ("1", "L", "LA", "La", "I", "F")
_PHOTOMETRIC = 262  # a TIFF's tag; 0: white is zero, which Pillow heeds in 8 bits alone
_LFS = b"version https://git-lfs.github.com/spec"


class BrokenImage(UserError):
    """One image file cannot be read; those beside it may."""


def decode(data: bytes, name: str, size: int, channels: int, budget: Budget | None = None) -> np.ndarray:
    """One image file as an array: the central square, resized by antialiased bicubic interpolation.

    An image of `size` x `size` pixels keeps its pixels. The camera's orientation is followed, transparency becomes
    white, 16 bits become the higher 8 of them in every format, of an animation the first picture is taken.

    Args:
      data: the file's bytes.
      name: what to call the file in an error.
      size: pixels a side of the result.
      channels: 1 (luminance, ITU-R 601) or 3 (RGB).
      budget: what is left to the folder or archive that it is from.
    Returns:
      uint8 [size, size, channels].
    Raises:
      BrokenImage: it is no image, is cut short, or takes more than data/image_cost.py allows.
      UserError: it takes more than the budget.
    """
    with _opened(data, name) as (image, full):
        if budget is not None:
            budget.pixels(full.pixels)
        # JPEG only: a large photo is decoded at the smallest fraction that still has twice the pixels needed.
        before = image.width * image.height
        image.draft(None, (2 * size, 2 * size))
        spared = (before - image.width * image.height) * image_cost.BYTES_A_PIXEL
        with DECODING.hold(full.memory - spared):
            ImageOps.exif_transpose(image, in_place=True)
            square = _square(_as_mode(image, name, "L" if channels == 1 else "RGB"), size)
            return np.asarray(square).reshape(size, size, channels)


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """(pixels of the shorter side, channels: 1 where it is grey, else 3) of an image file, which is not decoded.

    Raises:
      BrokenImage: as decode, of what the headers tell.
    """
    with _opened(data, name) as (image, _):
        return min(image.size), 1 if image.mode in _GREY or image.mode.startswith("I;16") else 3


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[tuple[Image.Image, image_cost.Cost]]:
    """An image, opened and not decoded, and what it takes; whatever is wrong with it is a UserError."""
    try:
        if not data:
            raise BrokenImage(f"image {name!r} is an empty file")
        if data.startswith(_LFS):
            raise BrokenImage(f"image {name!r} is a pointer of Git LFS, not the image: run git lfs pull")
        image_cost.check_file(data, name)
        with Image.open(io.BytesIO(data), formats=image_formats.readers(name)) as image:
            yield image, image_cost.of_image(image, data, name)
    except image_cost.TooDear as e:
        raise BrokenImage(str(e)) from e
    except UserError:
        raise
    except UnidentifiedImageError as e:  # its own text is of the object in memory
        raise BrokenImage(f"image {name!r} cannot be read: it is no image of a kind that is read, or damaged") from e
    except Image.DecompressionBombError as e:
        raise BrokenImage(
            f"image {name!r} has absurd dimensions; at most {image_cost.MAX_PIXELS} pixels are read"
        ) from e
    except Exception as e:  # a damaged file makes Pillow raise nearly anything (SyntaxError, struct.error, ...)
        raise BrokenImage(f"image {name!r} cannot be read: {' '.join(str(e).split())[:200] or type(e).__name__}") from e


def _as_mode(image: Image.Image, name: str, mode: str) -> Image.Image:
    """The image as `mode`, "L" or "RGB"."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow's own conversion clips 16 bits at 255 instead of scaling them. A PGM's are in 32, from 0 to 65,535.
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        white_is_zero = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]
        image = Image.fromarray(255 - high if white_is_zero else high)
    elif image.mode in ("I", "F"):
        raise BrokenImage(f"image {name!r} has 32 bits or signed numbers a pixel; 8 or 16 bits are read")
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow has no way from there to grey
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        # Dropping alpha would uncover whatever colour lies under it.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _square(image: Image.Image, size: int) -> Image.Image:
    """The central square, resized; Pillow widens the kernel when it shrinks, so nothing aliases."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if side == size:
        return image.crop((left, top, left + side, top + side))
    # `box` crops and resizes at once: a 1 x 60,000 strip is never enlarged as a whole.
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def fit(images: np.ndarray, size: int, channels: int, *, pad: bool = False) -> np.ndarray:
    """Decoded images brought to a size and a number of channels.

    Args:
      images: uint8 [n, h, w, c], c 1 or 3.
      size: pixels a side of the result.
      channels: 1 (luminance, ITU-R 601) or 3 (grey is repeated).
      pad: the background is black, as in MNIST: where the images are smaller by up to a quarter (28 in 32), zeros
        around them keep every pixel as it was, and a blur would be the first thing that D learns. Further apart
        (28 in 64) the border would be most of the image, so they are resized as all others are.
    Returns:
      uint8 [n, size, size, channels].
    """
    height, width = images.shape[1:3]
    longest = max(height, width)
    if pad and longest <= size <= longest * 5 // 4:
        top, left = (size - height) // 2, (size - width) // 2
        images = np.pad(images, ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0)))
    elif (height, width) != (size, size):
        resized = np.empty((len(images), size, size, images.shape[3]), np.uint8)
        for i, image in enumerate(images):
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            resized[i] = np.asarray(_square(picture, size)).reshape(resized.shape[1:])
        images = resized
    if images.shape[3] == channels:
        return images
    return np.repeat(images, 3, axis=3) if channels == 3 else _luminance(images)


def _luminance(images: np.ndarray) -> np.ndarray:
    """[n, h, w, 3] -> [n, h, w, 1], to the bit what Pillow's convert("L") computes."""
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for start in range(0, len(images), 1024):  # in pieces: the 32-bit intermediate is four times the images
        wide = images[start : start + 1024].astype(np.uint32)
        total = wide[..., 0] * 19595 + wide[..., 1] * 38470 + wide[..., 2] * 7471 + 0x8000
        grey[start : start + 1024, ..., 0] = total >> 16
    return grey
