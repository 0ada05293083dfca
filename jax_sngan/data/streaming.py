"""Images that stay on disk: decoded when they are asked for, in training by processes that read ahead (grain).

grain shards pieces of steps over its workers, hands arrays over in shared memory and keeps their order. Which images a
step takes is not its business: `plan` says so, from (step, rollbacks) alone, and the pipeline begins at any step
without going through those before it. So a streamed run has the images of a memory-resident one and resumes to the bit.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from PIL import Image

from jax_sngan.data import resize
from jax_sngan.data.resize import BrokenImage
from jax_sngan.system.budget import DECODING
from jax_sngan.system.errors import UserError
from jax_sngan.system.machine import cores

PIECE = 64  # images that a worker hands over at once: small enough that all workers share one step
AHEAD = 2  # steps that are decoded beforehand
MOST_WORKERS = 16  # by default
SHARED_MEMORY = "/dev/shm"  # through which grain's workers hand arrays over; 64 MB in a container of Docker's
_UNTOLD = "ignore:resource_tracker:UserWarning"  # as Python's option -W has it

Plan = Callable[[int, int], np.ndarray]  # step, rollbacks -> the rows [n] that it takes


class Files(Protocol):
    """Image files in an order of their own; small enough to be sent to every worker."""

    def __len__(self) -> int: ...
    def read(self, row: int) -> tuple[str, bytes]:
        """The name and contents of one. Raises UserError if it can't be read."""
        ...


class ImageArray(Protocol):
    """What is indexed by rows to give images: an array, or StreamedImages."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def ndim(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Any: ...


class StreamedImages:
    """Looks like an array uint8 [n, size, size, channels] of which each part is decoded when it is asked for."""

    ndim = 4
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, files: Files, size: int, channels: int, where: str):
        """where: the folder or archive, for errors."""
        self.files, self.where = files, where
        self.shape = (len(files), size, size, channels)
        self._reader: _Reader | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """uint8 [m, size, size, channels] of a slice or of row numbers [m], by threads.

        Raises:
          UserError: a file can't be read; the line names it.
        """
        wanted = np.arange(len(self))[rows]
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        with warnings.catch_warnings(), ThreadPoolExecutor(min(8, cores())) as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # resize.decode has a lower limit
            for i, image in enumerate(pool.map(self.decode, wanted)):
                images[i] = image
        return images

    def decode(self, row: int) -> np.ndarray:
        """One of them, uint8 [size, size, channels]; raises as indexing does."""
        name, data = self.files.read(int(row))
        return resize.decode(data, name, self.shape[1], self.shape[3])

    def of_step(self, rows: np.ndarray, step: int, rollbacks: int) -> np.ndarray:
        """The images of rows [m]: read ahead within `reading_ahead`, else decoded now.

        Raises:
          UserError: a file can't be read, or a worker has ended.
          ValueError: the plan has other rows for this step.
        """
        if self._reader is None:
            return self[rows]
        if not np.array_equal(rows, self._reader.plan(step, rollbacks)):
            raise ValueError(f"step {step} asks for other images than the plan that is read ahead by")
        return self._reader.take(step, rollbacks)

    @contextmanager
    def reading_ahead(self, plan: Plan, steps: int, workers: int | None) -> Iterator[None]:
        """Within the block, `of_step` of steps in a row is fed by workers.

        Args:
          plan: the rows of each step; sent to the workers.
          steps: those of the whole run.
          workers: processes; 0: threads of this one; None: as many as there are other cores, at least 1.
        """
        count = max(1, min(cores() - 1, MOST_WORKERS)) if workers is None else workers
        self._reader = _Reader(self, plan, steps, count)
        try:
            yield
        finally:
            reader, self._reader = self._reader, None
            reader.close()
        if told := reader.told():
            print(told, flush=True)


def take(images: ImageArray, rows: np.ndarray, step: int, rollbacks: int) -> np.ndarray:
    """The images of rows [m] that a training step takes; raises as StreamedImages.of_step."""
    if isinstance(images, StreamedImages):
        return images.of_step(rows, step, rollbacks)
    return np.asarray(images[rows])


class _Pieces:
    """Random access to the parts of all steps, part by part: a source of grain's."""

    def __init__(self, images: StreamedImages, plan: Plan, rollbacks: int, steps: int, parts: int):
        self.files, self.where, self.shape = images.files, images.where, images.shape
        self.plan, self.rollbacks, self.steps, self.parts = plan, rollbacks, steps, parts

    def __len__(self) -> int:
        return self.steps * self.parts

    def __getitem__(self, index: int) -> np.ndarray:
        step, part = divmod(int(index), self.parts)
        rows = np.array_split(self.plan(step, self.rollbacks), self.parts)[part]
        images = StreamedImages(self.files, self.shape[1], self.shape[3], self.where)
        return np.stack([images.decode(row) for row in rows])

    def __repr__(self) -> str:
        return f"images of {self.where}"


class _Reader:
    """Workers that decode the images of the steps to come."""

    def __init__(self, images: StreamedImages, plan: Plan, steps: int, workers: int):
        self.images, self.plan, self.steps, self.workers = images, plan, steps, workers
        self.parts = -(-len(plan(0, 0)) // PIECE)
        self.waited = self.since = 0.0  # seconds; since: when the first images were there
        self.taken = 0  # steps since then
        self._next: tuple[int, int] | None = None
        self._iterator: Any = None

    def take(self, step: int, rollbacks: int) -> np.ndarray:
        """A step's images. Any other than the one after the last (a start, a rollback) begins the pipeline anew."""
        try:
            if (step, rollbacks) == self._next:
                began = time.monotonic()
                parts = [next(self._iterator) for _ in range(self.parts)]
                self.waited += time.monotonic() - began
                self.taken += 1
            else:
                self.close()
                with _signals_blocked():
                    self._iterator = self._start(step, rollbacks)
                    parts = [next(self._iterator) for _ in range(self.parts)]
                self.waited, self.taken, self.since = 0.0, 0, time.monotonic()
        except BrokenImage as error:
            raise BrokenImage(
                f"{error}; mend or remove it, or leave out all such by --skip-broken: the same command goes on from "
                "the last checkpoint"
            ) from error
        except RuntimeError as error:
            raise UserError(
                f"a process that decodes images of {self.images.where} has ended ({error}); fewer --stream-workers "
                "need less memory, and the same command goes on from the last checkpoint"
            ) from error
        self._next = (step + 1, rollbacks)
        return np.concatenate(parts)

    def _start(self, step: int, rollbacks: int) -> Any:
        try:
            import grain  # here: a run from memory does without
        except ModuleNotFoundError as error:
            raise UserError(
                f"{self.images.where} is streamed by grain, which is not installed: pip install it, or --stream never"
            ) from error
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain reads its settings there, and this program parses its own options
            flags.FLAGS.mark_as_parsed()
        pieces = _Pieces(self.images, self.plan, rollbacks, self.steps, self.parts)
        ahead = AHEAD * self.parts
        self._check_shared_memory(ahead)
        threads = min(8, cores(), ahead) if self.workers == 0 else 0  # a worker decodes one image after another
        dataset = (
            grain.MapDataset.source(pieces)
            .slice(slice(step * self.parts, None))
            .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead if threads else 0))
        )
        if self.workers:
            each = self._each(ahead)
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self.workers, per_worker_buffer_size=each), _begin
            )
        return iter(dataset)

    def _each(self, ahead: int) -> int:
        """Pieces that a worker decodes beforehand."""
        return max(AHEAD, -(-ahead // self.workers))

    def _check_shared_memory(self, ahead: int) -> None:
        """Passes where workers can hand over what they decode; too small a /dev/shm ends them without a word.

        Raises:
          UserError: they can't.
        """
        if not self.workers or not os.path.isdir(SHARED_MEMORY):
            return
        piece = min(PIECE, len(self.plan(0, 0))) * int(np.prod(self.images.shape[1:]))
        needed = piece * (self.workers * (self._each(ahead) + 1) + self.parts)
        found = os.statvfs(SHARED_MEMORY)
        free = found.f_bavail * found.f_frsize
        if needed > free:
            raise UserError(
                f"{SHARED_MEMORY} has {free / 1e6:.0f} MB left and {self.workers} processes that decode images need "
                f"{needed / 1e6:.0f} MB there: docker run --shm-size={-(-2 * needed // 2**30)}g, or fewer "
                "--stream-workers (0: threads, which need none)"
            )

    def close(self) -> None:
        """Ends the workers; each finishes its piece."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = self._next = None

    def told(self) -> str:
        """A line on how long steps waited; "" before there were any."""
        if not self.taken:
            return ""
        share = self.waited / (time.monotonic() - self.since)
        by = f"{self.workers} processes" if self.workers else "threads"
        return f"images      the steps waited {share:.1%} of the time for them (decoded by {by})"


def _begin(worker: int, workers: int) -> None:
    """In a new worker: it takes its part of the memory for decoding, and ends with its parent, however that ends."""
    DECODING.share(workers)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # resize.decode has a lower limit
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes begun within never see SIGINT or SIGTERM: a terminal and SLURM send them to all, and what is to be done
    then the trainer decides. Here they reach another thread, or wait for the end of the block."""
    # What is decoded and not taken when a run ends early the tracker removes; with this it does so without a word.
    if _UNTOLD not in sys.warnoptions:
        sys.warnoptions.append(_UNTOLD)
    multiprocessing.get_context("spawn").Event()  # starts Python's resource tracker, which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
