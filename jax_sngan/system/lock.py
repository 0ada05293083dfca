"""One run a workdir: a lock on its folder, which the system gives back when the process ends, however it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from jax_sngan.system.errors import UserError
from jax_sngan.system.files import make_folder
from jax_sngan.system.terminal import shown

NAME = ".lock"  # stays behind, empty; it is the lock on it that counts


class Lock:
    """A lock that this process holds."""

    def __init__(self, path: Path, inode: int):
        self._path, self._inode = path, inode

    def check(self) -> None:
        """Passes where the workdir is still the folder that was locked.

        Raises:
          UserError: it was moved or removed.
        """
        try:
            there = os.stat(self._path).st_ino
        except OSError:
            there = None
        if there != self._inode:
            raise UserError(f"workdir {self._path.parent} is gone: it was moved or removed while the run wrote to it")


class LockedElsewhere(Lock):
    """The lock is held by another process of the same run."""

    def __init__(self) -> None:
        """There is nothing to look at."""

    def check(self) -> None:
        """Passes: the process that holds it looks."""


@contextmanager
def locked(workdir: Path) -> Iterator[Lock]:
    """Makes the folder where it is not there, and locks it until the block ends, whatever name it was reached by.

    Where the file system has no locks, it says so and goes on.

    Raises:
      UserError: another process has it, or it can't be made or written to.
    """
    path = Path(os.path.realpath(workdir)) / NAME
    lock = filelock.FileLock(path, timeout=0)
    try:
        make_folder(workdir)
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(
            f"another run works in {workdir}; wait for its end, stop it, or give another --workdir"
        ) from error
    except NotImplementedError:
        print(
            f"note: the file system of {shown(workdir)} has no locks; see to it that one run works there",
            file=sys.stderr,
        )
    except OSError as error:
        raise UserError(f"cannot write {workdir}: {error.strerror or error}") from error
    try:
        path.touch()
        yield Lock(path, os.stat(path).st_ino)
    finally:
        lock.release()
