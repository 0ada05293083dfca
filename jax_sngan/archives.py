"""Archives from anywhere, read with suspicion: members of tar and zip, arrays of npz. Nothing is extracted to disk."""

import bz2
import gzip
import lzma
import math
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np

from jax_sngan import machine
from jax_sngan.errors import UserError

# How each kind of tar is opened as a stream of its own bytes.
_OPENERS: dict[str, Callable[..., Any]] = {
    ".tar": open,
    **dict.fromkeys((".tar.gz", ".tgz"), gzip.open),
    **dict.fromkeys((".tar.xz", ".txz"), lzma.open),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.open),
}
SUFFIXES = (*_OPENERS, ".zip")

HEADER = 2**20  # bytes between two members of a tar: headers and long names are below a thousandth of it
FLOOR = 2**28  # bytes: what any archive may unpack to, however well it is compressed
RATIO = 200  # above FLOOR, how many times larger than itself an archive may unpack to; images gain 2 to 20


def suffix(path: Path) -> str | None:
    """Which of SUFFIXES a path ends in; None if in none."""
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)


def damaged(path: Path, error: BaseException | str) -> UserError:
    """The line for a file that is not what its name says."""
    reason = error if isinstance(error, str) else " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path} is damaged or incomplete: {reason}")


def members(path: Path, wanted: Callable[[str], bool], largest: int) -> Iterator[tuple[str, bytes | None]]:
    """The files in a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip, in its order, in one pass.

    Args:
      path: the archive.
      wanted: whether a member's contents are to be read.
      largest: bytes that a wanted member may have.
    Yields:
      (name, contents); contents are None where not wanted.
    Raises:
      UserError: the archive is damaged, cut short or a bomb, or a member leads outside, is a link or a device, or is
        larger than allowed.
    """
    read = _zip_members if suffix(path) == ".zip" else _tar_members
    try:
        yield from read(path, wanted, largest)
    except UserError:
        raise
    except Exception as e:  # damaged archives make the readers raise nearly anything (zlib.error, struct.error, ...)
        raise damaged(path, e) from e


def _checked(path: Path, name: str) -> str:
    """A member's name with forward slashes, if it stays inside the archive."""
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise UserError(f"{path} holds {name[:80]!r}, a path that leads outside the archive: it is not read")
    return "/".join(part for part in parts if part not in ("", "."))


def _check_size(path: Path, name: str, size: int, largest: int) -> None:
    if size > largest:
        raise UserError(f"{path}: {name[:80]!r} has {size} bytes; at most {largest} are read")


def _most(path: Path) -> int:
    """Bytes that an archive may unpack to."""
    return max(FLOOR, RATIO * path.stat().st_size)


def _check_total(path: Path, total: int, most: int) -> None:
    if total > most:
        raise UserError(f"{path} unpacks to more than {most} bytes, {RATIO} times its size: it is not read")


class _Metered:
    """A decompressing stream that gives no more than was allowed: a tar header that claims gigabytes stops here,
    before tarfile has gathered them in memory."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream, self.path = stream, path
        self.given = 0
        self.allowed = 0
        self.tail = b""  # the last blocks given, to see how the tar ends

    def read(self, size: int, /) -> bytes:
        data = self.stream.read(size)
        self.given += len(data)
        if self.given > self.allowed:
            raise damaged(self.path, f"a header of more than {HEADER} bytes")
        self.tail = (self.tail + data)[-2 * tarfile.RECORDSIZE :]
        return data


def _tar_members(path: Path, wanted: Callable[[str], bool], largest: int) -> Iterator[tuple[str, bytes | None]]:
    with _OPENERS[suffix(path) or ".tar"](path, "rb") as stream:
        metered = _Metered(stream, path)
        metered.allowed = HEADER
        total, most = 0, _most(path)
        with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r|") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or a million members stay in memory
                name = _checked(path, member.name)
                total += member.size
                _check_total(path, total, most)
                metered.allowed = tar.offset + HEADER
                if member.isdir():
                    continue
                if not member.isreg():
                    raise UserError(f"{path}: {name[:80]!r} is a link or a device: it is not read")
                if not wanted(name):
                    yield name, None
                    continue
                _check_size(path, name, member.size, largest)
                contents = tar.extractfile(member)
                data = contents.read() if contents else b""
                if len(data) != member.size:
                    raise damaged(path, f"{name[:80]!r} is cut short")
                yield name, data
            # tarfile takes a missing, short or damaged header for the end; the true end is a block of zeros.
            end = metered.tail[len(metered.tail) - (metered.given - tar.offset) :][: tarfile.BLOCKSIZE]
            if len(end) != tarfile.BLOCKSIZE or any(end):
                raise damaged(path, "its end is missing")
        while data := stream.read(HEADER):  # to the last byte, where gzip and xz keep their checksums
            total += len(data)
            _check_total(path, total, most)


def _zip_members(path: Path, wanted: Callable[[str], bool], largest: int) -> Iterator[tuple[str, bytes | None]]:
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        _check_total(path, sum(entry.file_size for entry in entries), _most(path))
        for entry in entries:
            name = _checked(path, entry.filename)
            mode = stat.S_IFMT(entry.external_attr >> 16)
            if mode not in (0, stat.S_IFREG):
                raise UserError(f"{path}: {name[:80]!r} is a link or a device: it is not read")
            if wanted(name):
                yield name, _zip_contents(path, archive, entry, largest)
            else:
                archive.open(entry).close()  # compares the name with its second copy: a flipped bit could hide an image
                yield name, None


def _zip_contents(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytes:
    _check_size(path, entry.filename, entry.file_size, largest)
    with archive.open(entry) as f:
        data = f.read(entry.file_size)  # to the end, where the checksum is compared
    if len(data) != entry.file_size:
        raise damaged(path, f"{entry.filename[:80]!r} is cut short")
    return data


RANDOM_ACCESS = (".tar", ".zip")  # where a member can be read without those before it


class Place(NamedTuple):
    """Where a member's contents lie in an archive of RANDOM_ACCESS."""

    offset: int  # of the contents (.tar) or of the member's own header (.zip), bytes
    stored: int  # bytes there
    size: int  # bytes of the contents
    crc: int  # CRC-32 of the contents; -1: a .tar keeps none
    deflated: int  # 1: compressed by deflate


def places(path: Path, wanted: Callable[[str], bool], largest: int) -> dict[str, Place]:
    """The place of each wanted member of a .tar or .zip that `members` has gone through.

    Raises:
      UserError: it is damaged, or a member can't be read at its place or is larger than allowed.
    """
    found = {}
    try:
        if suffix(path) == ".zip":
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.is_dir() or not wanted(name := _checked(path, entry.filename)):
                        continue
                    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise UserError(f"{path}: {name[:80]!r} is encrypted or not stored by deflate: unpack it")
                    _check_size(path, name, entry.file_size, largest)
                    deflated = int(entry.compress_type == zipfile.ZIP_DEFLATED)
                    found[name] = Place(entry.header_offset, entry.compress_size, entry.file_size, entry.CRC, deflated)
        else:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or a million members stay in memory
                    if not member.isreg() or not wanted(name := _checked(path, member.name)):
                        continue
                    if member.issparse():
                        raise UserError(f"{path}: {name[:80]!r} is stored with gaps: unpack it")
                    _check_size(path, name, member.size, largest)
                    found[name] = Place(member.offset_data, member.size, member.size, -1, 0)
    except UserError:
        raise
    except Exception as e:  # as in members
        raise damaged(path, e) from e
    return found


def read_at(path: Path, place: Place, name: str) -> bytes:
    """The contents of one member.

    Raises:
      UserError: they are not there, or not those that the archive says.
    """
    try:
        with open(path, "rb") as f:
            f.seek(place.offset)
            if place.crc >= 0:
                header = f.read(30)  # of the member itself: its name and extra field come before the contents
                if header[:4] != b"PK\3\4":
                    raise damaged(path, f"{name[:80]!r} is not where it should be")
                f.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
            data = f.read(place.stored)
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}") from e
    if place.deflated:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, place.size + 1)
        except zlib.error as e:
            raise damaged(path, f"{name[:80]!r}: {e}") from e
    if len(data) != place.size or (place.crc >= 0 and zlib.crc32(data) != place.crc):
        raise damaged(path, f"{name[:80]!r} is not as it was packed")
    return data


def read_npz(path: Path, *choices: tuple[str, ...]) -> list[np.ndarray | None]:
    """Arrays of numbers from an npz, without pickles, each checked against its size before it is read.

    Args:
      path: the file.
      choices: for each array, the names under which it may stand.
    Returns:
      for each of choices the array under the first name that is there; None if none is.
    Raises:
      UserError: it is damaged or no npz, or an array holds objects or is larger than the machine's memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            found = [next((there[name] for name in names if name in there), None) for names in choices]
            return [None if entry is None else _npy(path, archive, entry) for entry in found]
    except UserError:
        raise
    except Exception as e:  # as in members
        raise damaged(path, e) from e


def read_whole_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz by its name, numbers and strings, read as read_npz does.

    Raises:
      UserError: it is damaged or no npz, or an array holds objects or is larger than the machine's memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {e.filename.removesuffix(".npy"): _npy(path, archive, e, "biufU") for e in archive.infolist()}
    except UserError:
        raise
    except Exception as e:  # as in members
        raise damaged(path, e) from e


def _npy(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, kinds: str = "biuf") -> np.ndarray:
    if entry.file_size > max(FLOOR, RATIO * entry.compress_size) or entry.file_size > machine.memory() // 2:
        raise UserError(f"{path}: array {entry.filename!r} has {entry.file_size} bytes, too many to be read")
    with archive.open(entry) as f:
        try:
            version = np.lib.format.read_magic(f)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = header[version](f)
        except (ValueError, KeyError, SyntaxError, TypeError, RecursionError) as e:
            raise damaged(path, f"{entry.filename!r} is no array") from e
        if dtype.kind not in kinds:
            raise UserError(f"{path}: array {entry.filename!r} holds {dtype}, not plain numbers")
        expected = dtype.itemsize * math.prod(shape)
        data = f.read(entry.file_size)  # to the end, where the checksum is compared
    if len(data) != expected:
        raise damaged(path, f"{entry.filename!r} has {len(data)} bytes where its shape {shape} needs {expected}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
