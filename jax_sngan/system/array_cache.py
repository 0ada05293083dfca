"""Arrays that take long to make, kept in the package's cache: used only while they are whole, else made again."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_sngan.system.cache_folder import cache_folder
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_whole
from jax_sngan.system.npz import read_whole_npz

FORM = 1  # part of every key: raise it with any change to how the files are laid out
_CHECKSUM = "sha256"  # the array that holds it; no name of another

Arrays = Mapping[str, NDArray[Any]]


def kept_arrays(
    kind: str,
    key: str,
    make: Callable[[], Arrays],
    *,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Arrays:
    """The arrays of a kept file; where there is none, or it is damaged, made now and kept.

    Args:
      kind: what they are; names their folder in the cache.
      key: all that decides their numbers.
      make: makes them; by name.
      folder: where the files are; default: in the package's cache.
      say: takes a line where a file is damaged or cannot be written; default: standard error.
    """
    say = say or partial(print, file=sys.stderr)
    digest = hashlib.sha256(f"{FORM} {kind} {key}".encode()).hexdigest()
    path = (folder or cache_folder() / kind) / f"{digest[:32]}.npz"
    if path.exists():
        try:
            return _read(path, digest)
        except Exception as error:  # a damaged archive makes its readers raise nearly anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            say(f"{path} is damaged ({reason}); it is made again")
    arrays = make()
    named: dict[str, Any] = {**arrays, _CHECKSUM: np.array(_checksum(digest, arrays))}
    try:
        write_whole(path, lambda p: np.savez(p, **named))
    except UserError as error:
        say(f"{kind}: not kept: {error}")
    return arrays


def _read(path: Path, digest: str) -> Arrays:
    arrays = read_whole_npz(path)
    if str(arrays.pop(_CHECKSUM)) != _checksum(digest, arrays):
        raise ValueError("its checksum is wrong")
    return arrays


def _checksum(digest: str, arrays: Arrays) -> str:
    found = hashlib.sha256(digest.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype.str} {value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()
