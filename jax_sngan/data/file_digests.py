"""The SHA-256 of every file of a folder or archive, kept in the cache: which images it shares with how it once was."""

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax_sngan.system.files import whole_file
from jax_sngan.system.npz import read_whole_npz

DECODING = 3  # goes up whenever the same files would give other pixels


class Digests(NamedTuple):
    """What decides the decoded images of a folder or archive."""

    image_size: int
    channels: int
    labels: np.ndarray  # int32 [n]
    sha256: np.ndarray  # uint8 [n, 32], of each file

    def checksum(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        n = len(self.sha256)
        digest = hashlib.sha256(f"{DECODING} {self.image_size} {self.channels} {n}".encode())
        digest.update(np.ascontiguousarray(self.labels, "<i4").data)
        digest.update(np.ascontiguousarray(self.sha256).data)
        return digest.hexdigest()

    def images(self) -> np.ndarray:
        """[n] one value for each image with its label; equal for equal ones."""
        rows = np.concatenate([self.sha256, self.labels.astype("<i4")[:, None].view(np.uint8)], axis=1)
        return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}")[:, 0]


def keep(cache: Path, digests: Digests) -> str:
    """Puts them into the cache, under their checksum, which is returned; what can't be written is only not kept."""
    checksum = digests.checksum()
    target = _path(cache, checksum)
    try:
        if not target.is_file():
            with whole_file(target) as f:
                np.savez(f, size=np.array([digests.image_size, digests.channels]), labels=digests.labels,
                         sha256=digests.sha256)  # fmt: skip
    except OSError as error:
        print(f"note: {target} cannot be written ({error.strerror})", file=sys.stderr)
    return checksum


def kept(cache: Path, checksum: str) -> Digests | None:
    """Those of a checksum, None where they are not there, or damaged."""
    try:
        found = read_whole_npz(_path(cache, checksum))
        size = found["size"]
        digests = Digests(int(size[0]), int(size[1]), found["labels"], found["sha256"])
        return digests if digests.checksum() == checksum else None
    except Exception:  # absent, or damaged in any way
        return None


def _path(cache: Path, checksum: str) -> Path:
    return cache / f"files-{checksum}.npz"
