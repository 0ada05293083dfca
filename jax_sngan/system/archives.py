"""Archives from anywhere, read with suspicion: members of tar and zip. Nothing is extracted to disk."""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from jax_sngan.system.archive_links import NoFiles
from jax_sngan.system.budget import Budget
from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import open_regular

# How the stream of its own bytes is had from each kind of tar.
_STREAMS: dict[str, Callable[[BinaryIO], Any]] = {
    ".tar": lambda file: file,
    **dict.fromkeys((".tar.gz", ".tgz"), lambda file: gzip.GzipFile(fileobj=file)),
    **dict.fromkeys((".tar.xz", ".txz"), lzma.LZMAFile),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.BZ2File),
}
SUFFIXES = (*_STREAMS, ".zip")

HEADER = 2**16  # bytes between two members of a tar: headers and long names are below a hundredth of it
HEADER_COST = 8  # what a byte of a header counts as: lists of attributes take so much longer than contents
PIECE = 2**20  # bytes of a zip's member that are unpacked at once
LONGEST_NAME = 4096  # characters, with its folders; Linux opens no longer one


def suffix(path: Path) -> str | None:
    """Which of SUFFIXES a path ends in; None if in none."""
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)


def damaged(path: Path, error: BaseException | str) -> UserError:
    """The line for a file that is not what its name says."""
    reason = error if isinstance(error, str) else " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path} is damaged or incomplete: {reason}")


def members(
    path: Path, wanted: Callable[[str], bool], largest: int, others: NoFiles | None = None
) -> Iterator[tuple[str, bytes | None]]:
    """The files in a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip, in its order, in one pass.

    Args:
      path: the archive.
      wanted: whether a member's contents are to be read.
      largest: bytes that a wanted member may have.
      others: takes links and devices; without it they are refused.
    Yields:
      (name, contents); contents are None where not wanted.
    Raises:
      UserError: the archive is empty, damaged, cut short or a bomb, or a member leads outside, is larger than allowed,
        or is packed by another method than deflate in a zip.
    """
    read = _zip_members if suffix(path) == ".zip" else _tar_members
    try:
        with open_regular(path) as file:
            if not os.fstat(file.fileno()).st_size:
                raise UserError(f"{path} is damaged or incomplete: it is an empty file")
            yield from read(path, file, wanted, largest, others)
    except UserError:
        raise
    except FileNotFoundError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}") from e
    except Exception as e:  # damaged archives make the readers raise nearly anything (zlib.error, struct.error, ...)
        raise damaged(path, e) from e


def _checked(path: Path, name: str) -> str:
    """A member's name with forward slashes, if it stays inside the archive."""
    if len(name) > LONGEST_NAME:
        raise UserError(f"{path} holds a name of {len(name)} characters; at most {LONGEST_NAME} are read")
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise UserError(f"{path} holds {name[:80]!r}, a path that leads outside the archive: it is not read")
    return "/".join(part for part in parts if part not in ("", "."))


def _check_size(path: Path, name: str, size: int, largest: int) -> None:
    if size > largest:
        raise UserError(f"{path}: {name[:80]!r} has {size} bytes; at most {largest} are read")


class _Metered:
    """A decompressing stream that gives no more than was allowed: a tar header that claims gigabytes stops here,
    before tarfile has gathered them in memory."""

    def __init__(self, stream: BinaryIO, path: Path, budget: Budget) -> None:
        self.stream, self.path, self.budget = stream, path, budget
        self.given = 0
        self.allowed = HEADER
        self.tail = b""  # the last blocks given, to see how the tar ends

    def read(self, size: int, /) -> bytes:
        data = self.stream.read(size)
        self.given += len(data)
        self.budget.bytes(len(data))
        if self.given > self.allowed:
            raise damaged(self.path, f"a header of more than {HEADER} bytes")
        self.tail = (self.tail + data)[-2 * tarfile.RECORDSIZE :]
        return data


def _tar_members(
    path: Path, file: BinaryIO, wanted: Callable[[str], bool], largest: int, others: NoFiles | None
) -> Iterator[tuple[str, bytes | None]]:
    budget = Budget(path, os.fstat(file.fileno()).st_size)
    with _STREAMS[suffix(path) or ".tar"](file) as stream:
        metered = _Metered(stream, path, budget)
        with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r|") as tar:
            before = 0
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or a million members stay in memory
                budget.files()
                budget.bytes((HEADER_COST - 1) * max(0, member.offset_data - before))
                before = tar.offset
                name = _checked(path, member.name)
                budget.check_bytes(member.size)
                metered.allowed = tar.offset + HEADER
                if member.isdir():
                    continue
                if not member.isreg():
                    if others is None:
                        raise UserError(f"{path}: {name[:80]!r} is a link or a device: it is not read")
                    if member.issym() or member.islnk():
                        others.link(name, member.linkname, hard=member.islnk())
                    else:
                        others.kinds[name] = "a FIFO" if member.isfifo() else "a device"
                    continue
                if not wanted(name):
                    yield name, None
                    continue
                _check_size(path, name, member.size, largest)
                _check_whole(path, name, member)
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
            budget.bytes(len(data))


def _check_whole(path: Path, name: str, member: tarfile.TarInfo) -> None:
    if member.issparse():  # its zeros are not in the archive: nothing would bound them
        raise UserError(f"{path}: {name[:80]!r} is stored with gaps: unpack it")


def _zip_members(
    path: Path, file: BinaryIO, wanted: Callable[[str], bool], largest: int, others: NoFiles | None
) -> Iterator[tuple[str, bytes | None]]:
    budget = Budget(path, os.fstat(file.fileno()).st_size)
    with zipfile.ZipFile(file) as archive:
        budget.files(len(archive.infolist()))
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        budget.check_bytes(sum(entry.file_size for entry in entries))
        for entry in entries:
            name = _checked(path, entry.filename)
            mode = stat.S_IFMT(entry.external_attr >> 16)
            if mode not in (0, stat.S_IFREG):
                if others is None:
                    raise UserError(f"{path}: {name[:80]!r} is a link or a device: it is not read")
                if mode == stat.S_IFLNK:
                    _check_size(path, name, entry.file_size, LONGEST_NAME)
                    target = b"".join(contents(path, archive, entry, budget)).decode("utf-8", "surrogateescape")
                    others.link(name, target, hard=False)
                else:
                    others.kinds[name] = "a FIFO" if mode == stat.S_IFIFO else "a device"
                continue
            if wanted(name):
                _check_size(path, name, entry.file_size, largest)
                yield name, b"".join(contents(path, archive, entry, budget))
            else:
                archive.open(entry).close()  # compares the name with its second copy: a flipped bit could hide an image
                yield name, None


def check_method(path: Path, entry: zipfile.ZipInfo) -> None:
    """Passes where a zip's member is stored as it is or deflated: Python unpacks bzip2 and LZMA without any limit.

    Raises:
      UserError: it is packed by another method.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{path}: {entry.filename[:80]!r} is packed by method {entry.compress_type}; those that are read are "
            f"{zipfile.ZIP_STORED} (stored) and {zipfile.ZIP_DEFLATED} (deflated): pack it again"
        )


def contents(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: Budget) -> Iterator[bytes]:
    """What a member of a zip holds, in pieces, each taken from the budget; to the end, where its checksum is compared.

    Raises:
      UserError: it is packed by a method that is not read, is cut short, or the budget is spent.
    """
    check_method(path, entry)
    given = 0
    with cast(zipfile.ZipExtFile, archive.open(entry)) as f:
        while data := f.read1(PIECE):  # read() gathers, at a cost of the square
            given += len(data)
            budget.bytes(len(data))
            yield data
    if given != entry.file_size:
        raise damaged(path, f"{entry.filename[:80]!r} is cut short")


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
        file = open_regular(path)
        if suffix(path) == ".zip":
            with file, zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    if entry.is_dir() or not wanted(name := _checked(path, entry.filename)):
                        continue
                    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                        continue
                    if entry.flag_bits & 1:
                        raise UserError(f"{path}: {name[:80]!r} is encrypted: unpack it")
                    check_method(path, entry)
                    _check_size(path, name, entry.file_size, largest)
                    _check_size(path, name, entry.compress_size, 2 * largest)  # deflate adds a thousandth at most
                    if not 0 <= entry.header_offset < os.fstat(file.fileno()).st_size:
                        raise damaged(path, f"{name[:80]!r} lies outside of it")
                    deflated = int(entry.compress_type == zipfile.ZIP_DEFLATED)
                    found[name] = Place(entry.header_offset, entry.compress_size, entry.file_size, entry.CRC, deflated)
        else:
            with file, tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or a million members stay in memory
                    if not member.isreg() or not wanted(name := _checked(path, member.name)):
                        continue
                    _check_whole(path, name, member)
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
        with open_regular(path) as f:
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
