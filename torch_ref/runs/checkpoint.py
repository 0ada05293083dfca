"""Checkpoints of the reference, `.pt` files: a run's state with its config and its last metrics.

A file is a plain dict: "config" as config.json has it, "metrics" {name: number}, "unlogged" [{name: number}, …] and
"state" {name: tensor} under the names of state.dump. Reading one runs no code of it.
"""

import os
import pickle
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from jax_sngan.config.schema import TrainConfig, from_dict, to_dict
from jax_sngan.interop import torch_file
from jax_sngan.runs import manifest
from jax_sngan.runs.provenance import parse, provenance
from jax_sngan.runs.selection import check_step, count, kept, numbers, problem_of, scored, steps_in
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import make_folder, read_json, remove_folder, rename_aside, sync, sync_tree, write_json


class Checkpoint(NamedTuple):
    """What one file holds."""

    config: TrainConfig
    metrics: dict[str, float]  # the last logged
    unlogged: list[dict[str, float]]  # each step's numbers since then
    state: dict[str, np.ndarray]  # as state.dump has it
    rollbacks: int = 0  # times that the run went back after a NaN: its inputs depend on it


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Writes a `.pt` file."""
    state = {name: torch.from_numpy(array.copy()) for name, array in checkpoint.state.items()}
    torch.save(checkpoint._asdict() | {"config": to_dict(checkpoint.config), "state": state}, path)


def save_network(path: str | os.PathLike[str], network: dict[str, np.ndarray], step: int) -> None:
    """Writes one network as torch-mimicry's save_checkpoint does, without an optimiser."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in network.items()}
    torch.save({"model_state_dict": tensors, "optimizer_state_dict": None, "global_step": step}, path)


def restore(path: str | os.PathLike[str]) -> Checkpoint:
    """The inverse of save. Whether the arrays are those of the config: load_state or torch_layout.from_torch says it.

    Raises:
      UserError: the file can't be read, or is no checkpoint of the reference.
    """
    return from_contents(path, read_contents(path))


def from_contents(path: str | os.PathLike[str], contents: Any) -> Checkpoint:
    """What read_contents found in a checkpoint of the reference, checked; path is for the error's text.

    Raises:
      UserError: an entry is missing, left over or of another kind.
    """
    required = set(Checkpoint._fields) - {"rollbacks"}  # files from before there were any have none
    if not isinstance(contents, dict) or not required <= set(contents) <= set(Checkpoint._fields):
        raise UserError(f"{path} is no checkpoint of the reference: it must hold {', '.join(Checkpoint._fields)}")
    rollbacks = count(f"{path}: rollbacks", contents.get("rollbacks", 0))
    if not isinstance(contents["unlogged"], list):
        raise UserError(f"{path}: unlogged must be a list of numbers by name")
    try:
        config = from_dict(TrainConfig, contents["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Checkpoint(
        config=config,
        metrics=numbers(f"{path}: metrics", contents["metrics"]),
        unlogged=[numbers(f"{path}: unlogged", entry) for entry in contents["unlogged"]],
        state=arrays(path, contents["state"]),
        rollbacks=rollbacks,
    )


def read_contents(path: str | os.PathLike[str]) -> Any:
    """What torch.save put into a file, of tensors and plain values alone; nothing else is made or run.

    Raises:
      UserError: it can't be read, is damaged, or holds anything else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of pickles that it did not write; they are refused
            torch_file.check(Path(path))
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
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
    """A state dict as numpy arrays; bfloat16 and float16 as float32, which holds them.

    Raises:
      UserError: it is no dict of dense tensors by name; path is for its text.
    """
    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise UserError(f"{path} holds no tensors by name")
    dense = [t for t in tensors.values() if isinstance(t, torch.Tensor) and t.layout == torch.strided]
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in dense}
    needed, most = sum(t.nbytes for t in dense), torch_file.SHARED * sum(stored.values())
    if needed > most:  # strides of 0 repeat a number as often as one likes
        raise UserError(f"{path} holds tensors of {needed} bytes in storages of {sum(stored.values())}")
    found = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"{path}: {name} must be a tensor, got {type(tensor).__name__}")
        try:
            wide = tensor.dtype in (torch.bfloat16, torch.float16)  # float32 holds both; numpy has no bfloat16
            found[name] = (tensor.detach().float() if wide else tensor.detach()).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, on no device, or of a type that numpy lacks
            raise UserError(f"{path}: {name} is no dense array of numbers ({tensor.dtype}, {tensor.layout})") from error
    return found


class Checkpoints:
    """The checkpoints of one workdir, WORKDIR/checkpoints/STEP: state.pt, provenance.json and their manifest."""

    def __init__(self, workdir: str | Path, keep: int | None = None):
        """keep: how many of the latest stay, beside the best; None: all."""
        self.folder, self.keep = Path(workdir) / "checkpoints", keep
        self._problems: dict[int, str | None] = {}
        self.scores = scored(self) if keep else {}

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, sound or not, ascending."""
        return steps_in(self.folder)

    def problem(self, step: int) -> str | None:
        """What is wrong with a step's files; None where they are sound. Each step is read once."""
        if step not in self._problems:
            self._problems[step] = problem_of(self.folder / str(step), step, _read)
        return self._problems[step]

    def set_aside(self, step: int, ending: str) -> Path:
        """Renames a checkpoint, so that its step can be written anew; returns where it is now."""
        self._problems.pop(step, None)
        self.scores.pop(step, None)
        return rename_aside(self.folder / str(step), ending)

    def save(self, checkpoint: Checkpoint, origin: dict[str, Any] | None = None) -> None:
        """Writes a checkpoint; a step that is there already is left as it is.

        origin: provenance.provenance(); None: of nothing but this code.

        Raises:
          UserError: it can't be written.
        """
        step = int(checkpoint.state["step"])
        final, unfinished = self.folder / str(step), self.folder / f"{step}.unfinished"
        if final.exists():
            return
        self._problems.pop(step, None)
        try:
            make_folder(self.folder)
            unfinished.mkdir()  # a folder without its last name is no checkpoint
            save(unfinished / "state.pt", checkpoint)
            write_json(unfinished / "provenance.json", origin or provenance("torch", None, None))
            sync_tree(unfinished)
            manifest.write(unfinished, step)
            os.replace(unfinished, final)
            sync(self.folder)
            if "best_metric" in checkpoint.metrics:
                self.scores[step] = checkpoint.metrics["best_metric"]
            there = self.steps()
            stay = kept(there, self.keep, self.scores) if self.keep else there
            for old in set(there) - set(stay):
                self.scores.pop(old, None)
                remove_folder(self.folder / str(old))
        except (OSError, RuntimeError) as error:  # RuntimeError: what torch.save makes of a full disk
            reason = str(error).strip().splitlines()[0]
            left = f"the checkpoint of step {self.steps()[-1]} is intact" if self.steps() else "there is none before it"
            raise UserError(f"a checkpoint cannot be written to {self.folder}: {reason}; {left}") from error

    def wait(self) -> None:
        """Returns at once: `save` has written all when it returns."""

    def restore(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
          UserError: there is none, or it is damaged or can't be read.
        """
        check_step(self, step)
        return restore(self.folder / str(step) / "state.pt")

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        return self.restore(step).metrics

    def origin(self, step: int) -> dict[str, Any]:
        """Which data, code and libraries made a checkpoint."""
        check_step(self, step)
        return _origin(self.folder / str(step))


def _read(folder: Path) -> None:
    """Passes where a checkpoint's files are ours; state.pt holds the config and the metrics beside the arrays."""
    restore(folder / "state.pt")
    _origin(folder)


def _origin(folder: Path) -> dict[str, Any]:
    return parse(read_json(folder / "provenance.json"))
