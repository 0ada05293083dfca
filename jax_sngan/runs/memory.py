"""Checkpoints of a run without a folder: its last states, kept on the host."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.state import TrainState
from jax_sngan.runs.selection import kept


class _Kept(NamedTuple):
    state: TrainState  # numpy arrays
    metrics: dict[str, float]
    unlogged: list[dict[str, float]]
    rollbacks: int


class MemoryCheckpoints:
    """As checkpoint.Checkpoints, without files."""

    folder = Path("memory")  # for the texts of errors

    def __init__(self, keep: int):
        """keep: how many of the latest stay, beside the best."""
        self.scores: dict[int, float] = {}
        self._keep, self._kept = keep, dict[int, _Kept]()

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return sorted(self._kept)

    def problem(self, step: int) -> str | None:
        """None: nothing can damage it."""

    def set_aside(self, step: int, ending: str) -> Path:
        """Forgets a checkpoint."""
        del self._kept[step]
        return self.folder / f"{step}.{ending}"

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        return self._kept[step].metrics

    def unlogged(self, step: int) -> list[dict[str, float]]:
        """The numbers of the steps between the last log and a checkpoint."""
        return self._kept[step].unlogged

    def rollbacks(self, step: int) -> int:
        """How often the run had gone back after a NaN."""
        return self._kept[step].rollbacks

    def save(
        self,
        state: TrainState,
        config: TrainConfig,
        metrics: dict[str, float],
        unlogged: list[dict[str, float]],
        *,
        origin: dict[str, Any] | None = None,
        rollbacks: int = 0,
        gan: str | None = None,
    ) -> None:
        """Keeps a copy of the state; those that it takes the place of are forgotten (selection.kept)."""
        step = int(state.step)
        if step in self._kept:
            return
        self._kept[step] = _Kept(jax.device_get(state), metrics, list(unlogged), rollbacks)
        if "best_metric" in metrics:
            self.scores[step] = metrics["best_metric"]
        stay = kept(self.steps(), self._keep, self.scores)
        self._kept = {s: of for s, of in self._kept.items() if s in stay}
        self.scores = {s: score for s, score in self.scores.items() if s in stay}

    def wait(self) -> None:
        """Returns at once: nothing is written in the background."""

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The whole state; like: its shapes and types with shardings."""
        return jax.tree.map(lambda a, of: jax.device_put(a, of.sharding), self._kept[step].state, like)
