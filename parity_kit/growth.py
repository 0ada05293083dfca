"""How far runs of one training part, step by step: the port from torch, beside torch from itself."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MOVED = 1e-15  # by how much, relatively, a start is moved: four roundings of float64
Flat = dict[str, np.ndarray]


class Run(Protocol):
    """One of them."""

    def step(self, inputs: Any) -> None:
        """One training step."""

    def record(self) -> Flat:
        """All that is compared, copied, by the same names in each run."""


@dataclass(frozen=True)
class Growth:
    """How far runs of one training are from torch's.

    Attributes:
      steps: how many steps were done at each record.
      curves: run -> group of arrays -> largest relative error at each record. Run "jax" is the port; the others are
        torch against itself.
      arrays: group -> the array with jax's largest error at each record.
    """

    steps: list[int]
    curves: dict[str, dict[str, list[float]]]
    arrays: dict[str, list[str]]

    @property
    def largest(self) -> dict[str, str]:
        """Group -> the array with jax's largest error at the last record."""
        return {group: names[-1] for group, names in self.arrays.items()}

    def jax(self, group: str) -> list[float]:
        """The port against torch."""
        return self.curves["jax"][group]

    def torch(self, group: str, without: str = "jax") -> list[float]:
        """Torch against itself: the largest error of all runs but one, record by record."""
        own = [curves[group] for name, curves in self.curves.items() if name != without]
        return [max(errors) for errors in zip(*own, strict=True)]

    def plot(self, title: str, groups: Sequence[str], note: str) -> dict[str, Any]:
        """The port's curve of each group that there is, and torch's own: what `page` draws."""
        lines: dict[str, list[float]] = {}
        for group in (group for group in groups if group in self.curves["jax"]):
            lines[f"{group}: JAX against torch"] = self.jax(group)
            lines[f"{group}: torch against torch"] = self.torch(group)
        y_label = "relative error"
        return {"title": title, "x": self.steps, "y_label": y_label, "runs": 2, "lines": lines, "note": note}


def grow(
    reference: Run,
    runs: Mapping[str, Run],
    inputs: Iterable[Any],
    records: Collection[int],
    errors: Callable[[Flat, Flat], Mapping[str, tuple[float, str]]],
) -> Growth:
    """All runs side by side on the same inputs, each held against the reference.

    Args:
      inputs: one entry a step.
      records: after how many steps.
      errors: (a run's record, the reference's) -> group -> (its largest error, whose).
    """
    curves: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    recorded: list[int] = []
    arrays: dict[str, list[str]] = {}
    for k, given in enumerate(inputs, 1):
        for run in (reference, *runs.values()):
            run.step(given)
        if k not in records:
            continue
        recorded.append(k)
        expected = reference.record()
        for name, run in runs.items():
            for group, (error, array) in errors(run.record(), expected).items():
                curves[name].setdefault(group, []).append(error)
                if name == "jax":
                    arrays.setdefault(group, []).append(array)
    return Growth(recorded, curves, arrays)


def moved(a: np.ndarray, rng: np.random.Generator, by: float = MOVED) -> np.ndarray:
    """An array with every entry times 1 + by * N(0, 1), in its type."""
    found: np.ndarray = (a * (1 + by * rng.standard_normal(a.shape))).astype(a.dtype)
    return found
