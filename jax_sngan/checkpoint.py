"""Orbax checkpoints: a run's state with its config and its last metrics, each under a sha256 manifest.

A checkpoint is a folder WORKDIR/checkpoints/STEP. It gets that name, in one rename, when all its files and their
manifest are written; nothing of it is used before every file was found as the manifest has it. Of several processes
each writes its part of the state, and the first the manifest, when all have; all call the same methods in one order.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
import orbax.checkpoint as ocp

from jax_sngan import manifest, processes
from jax_sngan.checkpoint_steps import check_step, choose_step, problem_of, scored, set_aside
from jax_sngan.config import TrainConfig, from_dict, to_dict
from jax_sngan.errors import UserError
from jax_sngan.models import Variables, allow_dtype
from jax_sngan.out_of_memory import out_of_memory
from jax_sngan.provenance import provenance
from jax_sngan.state import TrainState, create_state


def to_tree(state: TrainState) -> dict[str, Any]:
    """The state as nested dicts of arrays, the form in the files: it does not depend on our classes."""
    return {
        name: part._asdict() if isinstance(part, (Variables, optax.ScaleByAdamState)) else part
        for name, part in state._asdict().items()
    }


def from_tree(tree: dict[str, Any]) -> TrainState:
    """The inverse of to_tree."""
    kinds: dict[str, Callable[..., Any]] = {
        "generator": Variables,
        "discriminator": Variables,
        "generator_opt": optax.ScaleByAdamState,
        "discriminator_opt": optax.ScaleByAdamState,
    }
    return TrainState(**{name: kinds[name](**part) if name in kinds else part for name, part in tree.items()})


class SealedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """Orbax's way from a temporary name to the final one, with a stop between: there the manifest is written."""

    @classmethod
    def from_final(cls, final_path: Any, **options: Any) -> Any:
        """See Orbax's class. An item's folder (state, config, …) goes the plain way: the step's manifest covers it."""
        if not final_path.name.isdigit():
            return ocp.path.atomicity.AtomicRenameTemporaryPath.from_final(final_path, **options)
        path = super().from_final(final_path.with_name(f"{final_path.name}{UNSEALED}"), **options)
        path.sealed = final_path
        return path

    def get_final(self) -> Any:
        """The name of the complete checkpoint."""
        return self.sealed

    async def finalize(self) -> None:
        """All files are written: the manifest, then the step's own name."""
        await super().finalize()
        unsealed = self._final_path
        manifest.write(Path(unsealed), int(self.sealed.name))
        os.replace(unsealed, self.sealed)


UNSEALED = ".unsealed"


class LatestAndBest(ocp.checkpoint_managers.PreservationPolicy):
    """Keeps the latest checkpoints, and the one with the lowest score among those that there are.

    Orbax's BestN reads an item `metrics` of a form of its own; our checkpoints have had another under that name.
    """

    def __init__(self, latest: int, scores: dict[int, float]):
        """scores: by step, of the evaluated checkpoints; filled as they come."""
        self._latest, self._scores = latest, scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each checkpoint (PolicyCheckpointInfo)."""
        steps = [c.step for c in checkpoints]
        kept = set(sorted(steps)[-self._latest :])
        if scored := [s for s in steps if s in self._scores]:
            kept.add(min(scored, key=lambda s: self._scores[s]))
        return [s in kept for s in steps]


class Chosen(NamedTuple):
    """One of a run's checkpoints, and what is needed to read it."""

    step: int
    config: TrainConfig
    like: TrainState  # shapes and types, on one device


class Checkpoints:
    """The checkpoints of one workdir, in WORKDIR/checkpoints/STEP; a context, whose end waits for the last save."""

    def __init__(self, workdir: str | Path, keep: int | None = None):
        """keep: how many of the latest stay, beside the best; None where nothing will be saved."""
        self.folder = Path(workdir).absolute() / "checkpoints"
        self._keep = keep
        self._problems: dict[int, str | None] = {}
        self.scores: dict[int, float] = {}  # the policy that the manager is made with reads it too
        self._manager = self._open()
        if keep is not None:
            self.scores |= scored(self)

    def _open(self) -> Any:
        """Orbax's manager of the steps that are there now."""
        keep = self._keep
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if keep is None else LatestAndBest(keep, self.scores),
            create=keep is not None,
            read_only=keep is None,
            save_interval_steps=int(keep is not None),
            temporary_path_class=SealedPath,
            single_host_load_and_broadcast=processes.count() > 1,  # a network's file system may show them others late
            lightweight_initialize=True,  # else it reads files that may be damaged, before anyone has looked
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._writing(self._manager.close)  # an async save is lost without it
        except UserError:
            if kind is None:  # else it was told already, and Orbax tells it twice
                raise

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, sound or not, ascending."""
        return sorted(map(int, self._manager.all_steps()))  # told by another process they are numpy's

    def problem(self, step: int) -> str | None:
        """What is wrong with a step's files; None where they are sound. Each step is read once."""
        if step not in self._problems:
            self._problems[step] = processes.first_does(lambda: problem_of(self.folder / str(step), step))
        return self._problems[step]

    def set_aside(self, step: int, ending: str) -> Path:
        """Renames a checkpoint, so that its step can be written anew; returns where it is now."""
        aside = Path(processes.first_does(lambda: str(set_aside(self.folder / str(step), ending))))
        self._manager.close()
        self._manager = self._open()  # its reload() would read the others' files
        self._problems.pop(step, None)
        self.scores.pop(step, None)
        return aside

    def save(
        self,
        state: TrainState,
        config: TrainConfig,
        metrics: dict[str, float],
        unlogged: list[dict[str, float]],
        *,
        origin: dict[str, Any] | None = None,
        rollbacks: int = 0,
    ) -> None:
        """Writes the state in the background; a step that is there already is left as it is.

        metrics: the last logged. unlogged: each step's numbers since then, so that a resumed run's next log is the
        mean over the same steps as the uninterrupted run's. origin: provenance.provenance(); None: of nothing but
        this code. rollbacks: how often the run went back after a NaN: its inputs depend on it.

        Raises:
          UserError: this or the last checkpoint can't be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._problems.pop(step, None)
        if "best_metric" in metrics:
            self.scores[step] = metrics["best_metric"]
        numbers = {"steps": list(unlogged), "rollbacks": rollbacks}  # the loop adds to its list while this is written
        self._writing(
            lambda: self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(to_tree(state)),
                    config=ocp.args.JsonSave(to_dict(config)),
                    metrics=ocp.args.JsonSave(metrics),
                    unlogged=ocp.args.JsonSave(numbers),
                    provenance=ocp.args.JsonSave(origin or provenance("jax", None, None)),
                ),
            ),
        )

    def wait(self) -> None:
        """Returns once the last save is on disk.

        Raises:
          UserError: it can't be written.
        """
        self._writing(self._manager.wait_until_finished)

    def _writing(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:  # ValueError: what tensorstore makes of a full disk
            kept = sorted(int(p.name) for p in self.folder.glob("*") if p.name.isdigit())  # Orbax may have dropped some
            left = f"the checkpoint of step {kept[-1]} is intact" if kept else "there is none before it"
            raise UserError(f"a checkpoint cannot be written to {self.folder}: {_reason(error)}; {left}") from error

    def choose(self, step: str | int) -> Chosen:
        """The checkpoint that latest, best or a number names; lets this process compute in its type.

        Raises:
          UserError: as checkpoint_steps.choose_step, or it is of another version.
        """
        number = choose_step(self, step)
        config = self.config(number)
        allow_dtype(config.model)
        return Chosen(number, config, shapes(partial(create_state, config)))

    def config(self, step: int) -> TrainConfig:
        """The config that a checkpoint was made with."""
        item = ocp.args.Composite(config=ocp.args.JsonRestore())
        try:
            return from_dict(TrainConfig, self._restore(step, item).config)
        except UserError as error:
            raise UserError(f"{self.folder / str(step)} is of another version of jax-sngan: {error}") from error

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        return self._restore(step, ocp.args.Composite(metrics=ocp.args.JsonRestore())).metrics

    def unlogged(self, step: int) -> list[dict[str, float]]:
        """The numbers of the steps between the last log and a checkpoint."""
        return self._progress(step)["steps"]

    def rollbacks(self, step: int) -> int:
        """How often the run had gone back after a NaN."""
        return self._progress(step).get("rollbacks", 0)

    def _progress(self, step: int) -> dict[str, Any]:
        return self._restore(step, ocp.args.Composite(unlogged=ocp.args.JsonRestore())).unlogged

    def origin(self, step: int) -> dict[str, Any] | None:
        """Which data, code and libraries made a checkpoint; None if it is older than that entry."""
        if not (self.folder / str(step) / "provenance").is_dir():
            return None
        return self._restore(step, ocp.args.Composite(provenance=ocp.args.JsonRestore())).provenance

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The whole state; like: a state, or its shapes and types with shardings."""
        item = ocp.args.Composite(state=ocp.args.StandardRestore(to_tree(like)))
        return from_tree(self._restore(step, item).state)

    def restore_generator(self, step: int, like: TrainState) -> tuple[Variables, dict[str, Any]]:
        """The generator's variables and its averaged parameters alone: no optimiser, no discriminator is read."""
        tree = to_tree(like)
        part = {"generator": tree["generator"], "generator_ema": tree["generator_ema"]}
        args = ocp.args.PyTreeRestore(
            item=part, restore_args=ocp.checkpoint_utils.construct_restore_args(part), partial_restore=True
        )
        with ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0),
            item_handlers={"state": ocp.PyTreeCheckpointHandler()},
        ) as manager:
            tree = self._guarded(step, lambda: manager.restore(step, args=ocp.args.Composite(state=args))).state
        return Variables(**tree["generator"]), tree["generator_ema"]

    def _restore(self, step: int, args: Any) -> Any:
        return self._guarded(step, lambda: self._manager.restore(step, args=args))

    def _guarded(self, step: int, read: Callable[[], Any]) -> Any:
        check_step(self, step)
        try:
            return read()
        except Exception as error:  # Orbax raises nearly anything for files that are not what it expects
            if out_of_memory(error):
                raise
            raise UserError(f"checkpoint {self.folder / str(step)} cannot be read: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """An error's first line; of tensorstore's, which names a file three times, what the system said."""
    text = str(error).strip() or type(error).__name__
    said = re.search(r"OS error \d+: (?:[A-Z]+ )?([^\]]+)", text)
    return said[1] if said else text.splitlines()[0][:300]


def shapes(state_of: Callable[[], TrainState]) -> TrainState:
    """The state's shapes and types, on one device, without computing it."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.eval_shape(state_of)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), abstract)
