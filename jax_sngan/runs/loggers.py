"""Where a run's numbers and pictures go beside metrics.jsonl: what a logger is, and TensorBoard's. Knows no jax."""

import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jax_sngan.runs import pictures
from jax_sngan.runs.log import Values


@runtime_checkable
class Logger(Protocol):
    """What a run tells its numbers and pictures to: any object that has these two methods.

    Two more are called where an object has them: `back(step)`, when the run goes back to an earlier step after a NaN
    and what it has told since is void; `close()`, at the end. All of a run's calls come from one thread of one process.
    """

    def numbers(self, step: int, values: Values) -> None:
        """A line of the log: numbers by name (docs/watching.md), and arrays [n] of which a histogram is made."""

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """Images uint8 [n, h, w, c], or points float [n, 1, 1, 2].

        name: `real` (once, with the first samples), `samples` (of the averaged generator), `samples_raw` (of its own
        weights).
        """


def back(logger: Logger, step: int) -> None:
    """Tells a logger that the run goes on from an earlier step, if it wants to know."""
    if hasattr(logger, "back"):
        logger.back(step)


def close(logger: Logger) -> None:
    """Tells a logger that no more is to come, if it wants to know."""
    if hasattr(logger, "close"):
        logger.close()


class TensorBoard:
    """TensorBoard's files: numbers as scalars, arrays as histograms, images as grids."""

    def __init__(self, folder: Path, start: int = 0):
        """Writes into a folder; what earlier files in it have past step `start` is void."""
        self._folder, self._start = folder, start
        self._writer: Any = None

    @property
    def _board(self) -> Any:
        if self._writer is None:  # with the first numbers: not in what ends before them
            purge = self._start + 1 if self._start else None
            self._writer = _tensorboardx().SummaryWriter(str(self._folder), purge_step=purge)
        return self._writer

    def numbers(self, step: int, values: Values) -> None:
        """See Logger."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self._board.add_histogram(name, value, step)
            else:
                self._board.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """See Logger."""
        grid = np.asarray(pictures.grid(images, scale=2))
        self._board.add_image(name, grid[..., None] if grid.ndim == 2 else grid, step, dataformats="HWC")

    def back(self, step: int) -> None:
        """See Logger."""
        self.close()
        self._start = step

    def close(self) -> None:
        """See Logger."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _tensorboardx() -> Any:
    """The module, without torch: it would load that wherever it is installed, seconds for nothing that is used here."""
    hidden = "torch" not in sys.modules and "tensorboardX" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it is an ImportError, which is caught there
    try:
        import tensorboardX
    finally:
        if hidden:
            del sys.modules["torch"]
    return tensorboardX
