"""Checkpoints of the reference, `.pt` files: a run's state with its config and its last metrics.

A file is a plain dict: "config" as config.json has it, "metrics" {name: number}, "unlogged" [{name: number}, …] and
"state" {name: tensor} under the names of state.dump. Reading one runs no code of it.
"""

import contextlib
import os
import pickle
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from jax_sngan.config import TrainConfig, from_dict, to_dict
from jax_sngan.errors import UserError


class Checkpoint(NamedTuple):
    """What one file holds."""

    config: TrainConfig
    metrics: dict[str, float]  # the last logged
    unlogged: list[dict[str, float]]  # each step's numbers since then
    state: dict[str, np.ndarray]  # as state.dump has it


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Writes a `.pt` file."""
    state = {name: torch.from_numpy(array.copy()) for name, array in checkpoint.state.items()}
    torch.save(checkpoint._asdict() | {"config": to_dict(checkpoint.config), "state": state}, path)


def save_network(path: str | os.PathLike[str], network: dict[str, np.ndarray], step: int) -> None:
    """Writes one network as torch-mimicry's save_checkpoint does, without an optimiser."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in network.items()}
    torch.save({"model_state_dict": tensors, "optimizer_state_dict": None, "global_step": step}, path)


def restore(path: str | os.PathLike[str]) -> Checkpoint:
    """The inverse of save. Whether the arrays are those of the config is for state.load or convert.from_torch to say.

    Raises:
      UserError: the file can't be read, or is no checkpoint of the reference.
    """
    return from_contents(path, read_contents(path))


def from_contents(path: str | os.PathLike[str], contents: Any) -> Checkpoint:
    """What read_contents found in a checkpoint of the reference, checked; path is for the error's text.

    Raises:
      UserError: an entry is missing, left over or of another kind.
    """
    if not isinstance(contents, dict) or set(contents) != set(Checkpoint._fields):
        raise UserError(f"{path} is no checkpoint of the reference: it must hold {', '.join(Checkpoint._fields)}")
    if not isinstance(contents["unlogged"], list):
        raise UserError(f"{path}: unlogged must be a list of numbers by name")
    try:
        config = from_dict(TrainConfig, contents["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Checkpoint(
        config=config,
        metrics=_numbers(path, "metrics", contents["metrics"]),
        unlogged=[_numbers(path, "unlogged", entry) for entry in contents["unlogged"]],
        state=arrays(path, contents["state"]),
    )


def read_contents(path: str | os.PathLike[str]) -> Any:
    """What torch.save put into a file, of tensors and plain values alone; nothing else is made or run.

    Raises:
      UserError: it can't be read, is damaged, or holds anything else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of pickles that it did not write; they are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, or is damaged; nothing in it was run"
        ) from error
    except Exception as error:  # a damaged file makes torch raise nearly anything (RuntimeError, EOFError, KeyError, …)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is damaged, or torch.save did not write it: {reason}") from error


def arrays(path: str | os.PathLike[str], tensors: Any) -> dict[str, np.ndarray]:
    """A state dict as numpy arrays.

    Raises:
      UserError: it is no dict of dense tensors by name; path is for its text.
    """
    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise UserError(f"{path} holds no tensors by name")
    found = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"{path}: {name} must be a tensor, got {type(tensor).__name__}")
        try:
            found[name] = tensor.detach().numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, on no device, or of a type that numpy lacks
            raise UserError(f"{path}: {name} is no dense array of numbers ({tensor.dtype}, {tensor.layout})") from error
    return found


def _numbers(path: str | os.PathLike[str], what: str, values: Any) -> dict[str, float]:
    if not isinstance(values, dict) or not all(
        isinstance(n, str) and type(v) in (int, float) for n, v in values.items()
    ):
        raise UserError(f"{path}: {what} must be numbers by name")
    return values


class Checkpoints:
    """The checkpoints of one workdir, WORKDIR/checkpoints/STEP/state.pt."""

    def __init__(self, workdir: str | Path, keep: int | None = None):
        """keep: how many of the latest stay, beside the best; None: all."""
        self.folder, self.keep = Path(workdir) / "checkpoints", keep
        self.scores: dict[int, float] = {}  # step: best_metric, of the evaluated ones; lower is better
        for step in self.steps() if keep else []:
            with contextlib.suppress(UserError):  # a damaged one; restoring it says what is wrong
                if "best_metric" in (metrics := self.metrics(step)):
                    self.scores[step] = metrics["best_metric"]

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint; a step that is there already is left as it is."""
        step = int(checkpoint.state["step"])
        final, unfinished = self.folder / str(step), self.folder / f"{step}.unfinished"
        if final.exists():
            return
        unfinished.mkdir(parents=True, exist_ok=True)  # a folder without its last name is no checkpoint
        save(unfinished / "state.pt", checkpoint)
        os.replace(unfinished, final)
        if "best_metric" in checkpoint.metrics:
            self.scores[step] = checkpoint.metrics["best_metric"]
        best = min(self.scores, key=lambda s: self.scores[s], default=None)
        for old in self.steps()[: -self.keep] if self.keep else []:
            if old == best:
                continue
            self.scores.pop(old, None)
            (self.folder / str(old) / "state.pt").unlink()
            (self.folder / str(old)).rmdir()

    def restore(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
          UserError: there is none, or it can't be read.
        """
        if step not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"no checkpoint of step {step} in {self.folder}; there are: {have}")
        return restore(self.folder / str(step) / "state.pt")

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        return self.restore(step).metrics
