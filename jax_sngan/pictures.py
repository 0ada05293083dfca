"""Pictures for people: grids as PNG, interpolations as GIF."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from jax_sngan.files import write_whole


def grid(images: np.ndarray, columns: int | None = None, scale: int = 1) -> Image.Image:
    """uint8 [n, h, w, 1 or 3] -> one picture, row by row, as square as it can be; each pixel scale x scale."""
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * columns, h, w, c), np.uint8)
    canvas[:n] = images
    sheet = canvas.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
    picture = Image.fromarray(sheet[:, :, 0] if c == 1 else sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_grid(path: str | Path, images: np.ndarray, columns: int | None = None, scale: int = 2) -> None:
    """grid(images) as a PNG file.

    Raises:
      UserError: the file can't be written.
    """
    picture = grid(images, columns, scale)
    write_whole(path, lambda p: picture.save(p, "PNG"))


def save_animation(path: str | Path, frames: list[np.ndarray], scale: int = 2, seconds_a_frame: float = 0.08) -> None:
    """Frames, each uint8 [n, h, w, c] drawn as a grid, as a GIF that repeats.

    Raises:
      UserError: the file can't be written.
    """
    pictures = [grid(f, scale=scale) for f in frames]
    write_whole(
        path,
        lambda p: pictures[0].save(
            p, "GIF", save_all=True, append_images=pictures[1:], duration=int(1000 * seconds_a_frame), loop=0
        ),
    )
