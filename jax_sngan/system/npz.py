"""Arrays of numbers out of an npz from anywhere: without pickles, each counted before and while it is read."""

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from jax_sngan.system.archives import check_method, contents, damaged
from jax_sngan.system.budget import Budget
from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import open_regular

NUMBERS = "biuf"  # kinds of numpy's types: bool, integers, floating point


class NotPlain(UserError):
    """An array holds something else than what is read."""


def read_npz(path: Path, *choices: tuple[str, ...], texts: bool = False) -> list[np.ndarray | None]:
    """Arrays of numbers from an npz.

    Args:
      path: the file.
      choices: for each array, the names under which it may stand.
      texts: they may hold texts too.
    Returns:
      for each of choices the array under the first name that is there, read-only; None if none is.
    Raises:
      NotPlain: an array holds objects.
      UserError: it is damaged or no npz, or all of them are larger than a file of this size may unpack to.
    """

    def chosen(there: dict[str, zipfile.ZipInfo]) -> list[zipfile.ZipInfo | None]:
        return [next((there[name] for name in names if name in there), None) for names in choices]

    return _read(path, chosen, f"{NUMBERS}US" if texts else NUMBERS)


def names_in(path: Path) -> list[str]:
    """What the arrays of an npz are called. Raises UserError as read_npz."""
    names: list[str] = []

    def none(there: dict[str, zipfile.ZipInfo]) -> list[zipfile.ZipInfo | None]:
        names.extend(there)
        return []

    _read(path, none, NUMBERS)
    return names


def read_whole_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz by its name, numbers and strings, read as read_npz does.

    Raises:
      UserError: as read_npz.
    """
    names: list[str] = []

    def every(there: dict[str, zipfile.ZipInfo]) -> list[zipfile.ZipInfo | None]:
        names.extend(there)
        return [*there.values()]

    arrays = _read(path, every, f"{NUMBERS}U")
    return {name: a for name, a in zip(names, arrays, strict=True) if a is not None}


def _read(
    path: Path, choose: Callable[[dict[str, zipfile.ZipInfo]], list[zipfile.ZipInfo | None]], kinds: str
) -> list[np.ndarray | None]:
    try:
        with open_regular(path) as file:
            if not os.fstat(file.fileno()).st_size:
                raise damaged(path, "it is an empty file")
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            budget = Budget(path, os.fstat(file.fileno()).st_size, in_memory=True)
            budget.files(len(archive.infolist()))
            entries = choose({entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()})
            budget.check_bytes(sum(entry.file_size for entry in entries if entry is not None))
            return [None if entry is None else _array(path, archive, entry, budget, kinds) for entry in entries]
    except UserError:
        raise
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror or e}") from e
    except Exception as e:  # a damaged zip makes its reader raise nearly anything
        raise damaged(path, e) from e


def read_npy(path: Path) -> np.ndarray:
    """The array of numbers in an npy, read-only.

    Raises:
      UserError: it is damaged or no npy, holds objects, or is larger than may be unpacked into memory.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise damaged(path, "it is an empty file")
            Budget(path, size, in_memory=True).bytes(size)
            shape, fortran, dtype, starts = _header(path, path.name, file, NUMBERS)
            _check_size(path, path.name, shape, dtype, size - starts)
            data = file.read(size - starts)
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror or e}") from e
    if len(data) != size - starts:
        raise damaged(path, "it is cut short")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(path: Path, name: str, f: IO[bytes], kinds: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, whether in Fortran's order, type, where the numbers start) of an npy."""
    try:
        version = np.lib.format.read_magic(f)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = header[version](f)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError) as e:
        raise damaged(path, f"{name[:80]!r} is no array") from e
    if dtype.kind not in kinds:
        plain = "numbers or texts" if "U" in kinds else "numbers"
        raise NotPlain(f"{path}: array {name[:80]!r} holds {str(dtype)[:80]}, not plain {plain}")
    return shape, fortran, dtype, f.tell()


def _check_size(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, expected: int) -> None:
    size = dtype.itemsize * math.prod(shape)
    if size != expected or min(shape, default=0) < 0 or (not dtype.itemsize and math.prod(shape) > 1):
        told = str(list(shape))[:80]
        raise damaged(path, f"{name[:80]!r} has {expected} bytes where its shape {told} needs {size}")


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: Budget, kinds: str) -> np.ndarray:
    check_method(path, entry)
    with archive.open(entry) as f:
        shape, fortran, dtype, starts = _header(path, entry.filename, f, kinds)
    _check_size(path, entry.filename, shape, dtype, entry.file_size - starts)
    data = bytearray(entry.file_size)  # is there no more than once: a list of pieces would be twice the array
    at = 0
    for piece in contents(path, archive, entry, budget):
        data[at : at + len(piece)] = piece
        at += len(piece)
    array = np.frombuffer(data, dtype, offset=starts).reshape(shape, order="F" if fortran else "C")
    array.flags.writeable = False
    return array
