"""Opening files from elsewhere: regular files alone, never a FIFO, a device or a folder."""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from jax_sngan.system.errors import UserError

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def other_kind(path: str | Path) -> str | None:
    """What stands at a path in place of a regular file, "a FIFO" say; None where one does. Links are followed."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "a link to nothing" if os.path.islink(path) else "not there"
    except OSError as error:
        return f"not to be looked at ({error.strerror or error})"
    return None if stat.S_ISREG(mode) else _named(mode)


def remote(path: str | Path) -> str | None:
    """The scheme of what is an address and no path of this machine, gs of gs://bucket/run say; else None.

    As a Path an address has one slash left. Windows' drives have one letter.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(path))
    return found[1] if found else None


def check_local(path: str | Path, what: str) -> None:
    """Passes where a path is of this machine.

    Raises:
      UserError: it is an address.
    """
    if (scheme := remote(path)) is not None:
        raise UserError(
            f"{what} must be a path on this machine, got an address of {scheme} ({path}): mount it, or copy it here"
        )


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file, open for reading.

    Looked at before it is opened, since a FIFO waits for its other end and a device may act; and once more when it is
    open, without waiting, since another may have taken its place.

    Raises:
      UserError: something else stands there.
      OSError: it is not there or can't be read.
    """
    _check(path, os.stat(path).st_mode)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(path, os.fstat(handle).st_mode)
        os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is {_named(mode)}, not a file: it is not read")


def _named(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")
