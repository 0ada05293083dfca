"""What a file from elsewhere may cost: bytes, members and pixels, counted as they are given out, never as promised.

Each limit is a floor, which any file may take, and a share of the file's own size, which lets large data sets through
and keeps small files small. Work is counted, not clocked: what is refused on a slow machine is refused on a fast one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jax_sngan.system import machine
from jax_sngan.system.errors import UserError

FLOOR = 2**28  # bytes: what any file may unpack to, however well it is compressed
RATIO = 200  # above FLOOR, how many times larger than itself a file may unpack to; images gain 2 to 20
MEMBERS = 10_000  # files in any archive
MEMBER_BYTES = 16  # above MEMBERS, an archive's bytes for each of its files; an image has at least twice as many
PIXELS = 2**30  # decoded from any folder or archive, and from one file in its passes: about 20 seconds of one core
PIXELS_A_BYTE = 1000  # above PIXELS, for each byte of the files; photos have 2 to 20, a blank page has 300
MEMORY_SHARE = 2  # what is unpacked into memory may take the machine's memory divided by this
DECODING_SHARE = 8  # what decoding takes for itself, of all threads and workers together, likewise


def of_memory() -> int:
    """Bytes that may be unpacked into memory."""
    return machine.memory() // MEMORY_SHARE


class Budget:
    """What is left to one file, folder or archive. Threads may share it.

    Each method takes a part, and raises UserError where less is left; the line names the source and the limit.
    """

    def __init__(self, source: str | Path, given: int, *, in_memory: bool = False):
        """
        Args:
          source: what it is called in an error.
          given: its bytes on disk.
          in_memory: what it unpacks to is kept.
        """
        self.source = source
        most = max(FLOOR, RATIO * given)
        self._most = {
            "bytes": min(most, of_memory()) if in_memory else most,
            "files": MEMBERS + given // MEMBER_BYTES,
            "pixels": max(PIXELS, PIXELS_A_BYTE * given),
        }
        self._taken = dict.fromkeys(self._most, 0)
        self._lock = threading.Lock()

    def bytes(self, count: int) -> None:
        """Takes bytes that were unpacked or are about to be."""
        self._take("bytes", count, "unpacks to more than {most} bytes, the most that are read from a file of its size")

    def files(self, count: int = 1) -> None:
        """Takes members of an archive."""
        self._take("files", count, "holds more than {most} files, the most that are read from an archive of its size")

    def pixels(self, count: int) -> None:
        """Takes pixels, each as often as it is decoded."""
        self._take("pixels", count, "decodes to more than {most} pixels, the most that are read from files of its size")

    def check_bytes(self, count: int) -> None:
        """Passes where so many bytes are left; takes none of them."""
        self.bytes(count)
        with self._lock:
            self._taken["bytes"] -= count

    def _take(self, what: str, count: int, told: str) -> None:
        if count < 0:
            raise UserError(f"{self.source} is damaged or incomplete: it has a part of {count} {what}")
        with self._lock:
            most = self._most[what]
            if self._taken[what] + count > most:
                raise UserError(f"{self.source} {told.format(most=most)}")
            self._taken[what] += count


class InFlight:
    """Bytes that decoders hold at the same time; who would take more waits for the others."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held = 0
        self._processes = 1

    def share(self, processes: int) -> None:
        """Leaves this process its part, where so many decode."""
        self._processes = max(1, processes)

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Bytes for the block. One that is larger than all there are is let through when it is alone."""
        with self._condition:
            self._condition.wait_for(lambda: not self._held or self._held + count <= self._allowed())
            self._held += count
        try:
            yield
        finally:
            with self._condition:
                self._held -= count
                self._condition.notify_all()

    def _allowed(self) -> int:
        return machine.memory() // DECODING_SHARE // self._processes


DECODING = InFlight()
