"""What decoding an image file would take, from its headers: pixels in all passes, and memory. Nothing is decoded here.

A format has more sides than two. A progressive JPEG goes through all its pixels with each of its scans, and may have
thousands. A TIFF is made of tiles that may be larger than the image, and of strips that may lie on each other.
"""

import re
from typing import NamedTuple

from PIL import Image

from jax_sngan.system.budget import PIXELS
from jax_sngan.system.errors import UserError

MAX_PIXELS = 2**26  # 67 million, 200 MB as RGB: above any camera's usual picture, below Pillow's own alarm
SMALL_TILE = 2**22  # pixels: a tile of a TIFF may have so many whatever the image has; else twice the image's
MOST_TILES = 2**20  # strips or tiles in a TIFF; Pillow keeps about 300 bytes for each
BYTES_A_PIXEL = 16  # at most: RGBA itself, white, what is laid over it, and the result, 4 each
BYTES_A_COEFFICIENT = 6  # a pixel of a JPEG in several scans: three components of 16 bits until the last is there

_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of a TIFF
_OFFSETS = (273, 324)  # of strips, of tiles
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])", re.DOTALL)  # of a JPEG; not a stuffed byte, not a restart


class TooDear(UserError):
    """An image takes more than is allowed."""


class Cost(NamedTuple):
    """What an image takes."""

    pixels: int  # each as often as it is decoded
    memory: int  # bytes that are held at the same time


def check_file(data: bytes, name: str) -> None:
    """Passes where a file may be opened: Pillow lists all strips of a TIFF when it opens it.

    Raises:
      TooDear: it has too many.
    """
    order = {b"II": "little", b"MM": "big"}.get(data[:2])
    if order is None or data[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return
    big = b"+" in data[2:4]  # BigTIFF: 8 bytes for each count and place
    wide, entry = (8, 20) if big else (4, 12)

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]  # one of the two above

    first = number(8 if big else 4, wide)
    entries = number(first, 8 if big else 2)
    start = first + (8 if big else 2)
    for at in range(start, min(start + entry * entries, len(data)), entry):
        if number(at, 2) in _OFFSETS and number(at + 4, wide) > MOST_TILES:
            raise TooDear(f"image {name!r} is made of {number(at + 4, wide)} pieces; at most {MOST_TILES} are read")


def of_image(image: Image.Image, data: bytes, name: str) -> Cost:
    """What an image takes that was opened and not loaded.

    Args:
      image: as Pillow opened it, before `draft`.
      data: its file.
      name: what to call the file in an error.
    Raises:
      TooDear: it has more pixels than are read, or goes through them too often.
    """
    width, height = image.size
    area = width * height
    if area > MAX_PIXELS:
        raise TooDear(f"image {name!r} is {width} x {height} pixels; at most {MAX_PIXELS} pixels are read")
    pixels, memory = area, area * BYTES_A_PIXEL
    if image.format in ("JPEG", "MPO"):
        passes = jpeg_passes(data)
        pixels = area * passes
        if passes > 1:
            memory += area * BYTES_A_COEFFICIENT
    elif image.format == "TIFF":
        tile = _tile(image, name)
        pixels = _tiff_pixels(image, data, tile)
        memory += tile * 8  # four samples of 16 bits
    if pixels > PIXELS:
        raise TooDear(
            f"image {name!r} has {width} x {height} pixels and goes through {pixels} to show them; "
            f"at most {PIXELS} are decoded"
        )
    return Cost(pixels, memory)


def jpeg_passes(data: bytes) -> int:
    """How often a JPEG goes through its components, at least 1: a scan of one in three is a third.

    Markers are followed as libjpeg follows them (ITU-T T.81, annex B): segments by their lengths, what is no marker
    is passed over.
    """
    at, components, scanned = 2, 1, 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == 0xD9:  # the end of the image: what follows is never read
            break
        if marker in (0x01, 0xD8):  # without a length
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the frame's header
            components = max(1, data[at + 7]) if len(data) > at + 7 else 1
        elif marker == 0xDA:
            scanned += data[at + 2] if len(data) > at + 2 else 0
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return max(1, -(-scanned // components))


def _tile(image: Image.Image, name: str) -> int:
    """Pixels of a TIFF's tile; 0 where it has strips, which are never larger than the image."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(_TILE_WIDTH), tags.get(_TILE_LENGTH)
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return 0
    most = max(SMALL_TILE, 2 * image.size[0] * image.size[1])
    if width * height > most:
        raise TooDear(
            f"image {name!r} of {image.size[0]} x {image.size[1]} pixels has tiles of {width} x {height}; "
            f"at most {most} pixels a tile are read"
        )
    return width * height


def _tiff_pixels(image: Image.Image, data: bytes, tile: int) -> int:
    """Pixels in all strips and tiles of a TIFF, in all their scans where they are JPEGs."""
    width, height = image.size
    listed = sum((x1 - x0) * (y1 - y0) for _, (x0, y0, x1, y1), *_ in getattr(image, "tile", ()))
    pixels = max(width * height, listed)
    if tile:
        tags = image.tag_v2  # type: ignore[attr-defined]  # where there is a tile there are tags
        pixels = max(pixels, -(-width // tags[_TILE_WIDTH]) * -(-height // tags[_TILE_LENGTH]) * tile)
    if "jpeg" in str(image.info.get("compression")):
        whole = image.info["compression"] == "tiff_jpeg"  # of old, one JPEG in all strips
        rows = getattr(image, "tag_v2", {}).get(278, height)
        piece = width * height if whole else tile or width * min(rows if isinstance(rows, int) else height, height)
        pixels = max(pixels, data.count(b"\xff\xda") * piece)
    return pixels
