"""Pictures for people: grids as PNG, interpolations as GIF."""

import math
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from jax_sngan.system.errors import UserError
from jax_sngan.system.files import ANIMATION, write_whole

FRAME = 80  # milliseconds of one picture of an animation
FRAMES, WIDEST, SHADES = 40, 256, 64  # of the animation of a training: pictures, pixels a side, colours or greys
LINE = 14  # pixels below it, with the step
PAUSE = 1500  # milliseconds of its last picture
SIDE = 4096  # pixels of the largest grid
POINTS_SIDE = 320  # pixels of a picture of points
POINTS_REACH = 2.5  # the plane is shown from -this to +this


def count(points: bool) -> int:
    """How many samples one picture shows: 64 images, or 2,000 points."""
    return 2000 if points else 64


def most(shape: tuple[int, ...], scale: int = 2) -> int:
    """How many images [h, w, c] a picture for a person holds: 1,024, or what stands on SIDE pixels; of points all."""
    h, w, c = shape
    return 2**31 if c == 2 else max(1, min(1024, (SIDE // (scale * h)) * (SIDE // (scale * w))))


def grid(images: np.ndarray, columns: int | None = None, scale: int = 1) -> Image.Image:
    """uint8 [n, h, w, 1 or 3] -> one picture, row by row, as square as it can be; each pixel scale x scale.

    Points, float [n, 1, 1, 2], are drawn where they lie.
    """
    n, h, w, c = images.shape
    if c == 2:
        return points(images.reshape(n, 2))
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * columns, h, w, c), np.uint8)
    canvas[:n] = images
    sheet = canvas.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
    picture = Image.fromarray(sheet[:, :, 0] if c == 1 else sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def points(xy: np.ndarray) -> Image.Image:
    """Points [n, 2] of the plane as black dots; what lies outside is not seen."""
    pixel = np.floor((xy / POINTS_REACH + 1) / 2 * POINTS_SIDE)
    shown = pixel[np.all((pixel >= 0) & (pixel < POINTS_SIDE), axis=1)].astype(int)  # NaN is not shown either
    many = np.zeros((POINTS_SIDE, POINTS_SIDE))
    np.add.at(many, (POINTS_SIDE - 1 - shown[:, 1], shown[:, 0]), 1)  # y grows upwards
    return Image.fromarray((255 * 0.35**many).astype(np.uint8))


def save_grid(path: str | Path, images: np.ndarray, columns: int | None = None, scale: int = 2) -> None:
    """grid(images) as a PNG file.

    Raises:
      UserError: the file can't be written.
    """
    picture = grid(images, columns, scale)
    write_whole(path, lambda p: picture.save(p, "PNG"))


def save_animation(path: str | Path, frames: list[np.ndarray], scale: int = 2) -> None:
    """Frames, each drawn as a grid, as a GIF that repeats.

    Raises:
      UserError: the file can't be written.
    """
    pictures = [grid(f, scale=scale) for f in frames]
    write_whole(
        path,
        lambda p: pictures[0].save(p, "GIF", save_all=True, append_images=pictures[1:], duration=FRAME, loop=0),
    )


def save_training(folder: Path, last: int, *, anew: bool = True) -> Path | None:
    """A run's sample grids up to a step, always of the same latents, as one GIF beside them.

    At most FRAMES of them, evenly spaced, the first and the last among them; each made smaller, its step below it.

    Args:
      anew: also where one is there.
    Returns:
      The file; None where there are fewer than two grids.
    Raises:
      UserError: a grid can't be read, or the file can't be written.
    """
    steps = {int(p.stem): p for p in folder.glob("*.png") if re.fullmatch(r"[0-9]{6,}", p.stem)}
    there = sorted(step for step in steps if step <= last)
    path = folder / ANIMATION
    if len(there) < 2:
        return None
    if path.exists() and not anew:
        return path
    count = min(FRAMES, len(there))
    chosen = [there[round(i * (len(there) - 1) / (count - 1))] for i in range(count)]
    frames = [_with_step(steps[step], step) for step in chosen]
    pauses = [2 * FRAME] * (count - 1) + [PAUSE]
    write_whole(
        path, lambda p: frames[0].save(p, "GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    )
    return path


def _with_step(path: Path, step: int) -> Image.Image:
    """A sample grid, small, with a line below it."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError as error:  # pillow's of what is no picture, too
        raise UserError(f"cannot read {path}, a run's sample grid: {error.strerror or error}") from error
    picture.thumbnail((WIDEST, WIDEST), Image.Resampling.BOX)
    sheet = Image.new("RGB", (picture.width, picture.height + LINE), "white")
    sheet.paste(picture)
    ImageDraw.Draw(sheet).text((4, picture.height + 1), f"step {step}", fill=(60, 60, 60))
    return sheet.quantize(SHADES, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
