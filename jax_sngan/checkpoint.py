"""Orbax checkpoints: a run's state with its config and its last metrics."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import optax
import orbax.checkpoint as ocp

from jax_sngan.config import TrainConfig, from_dict, to_dict
from jax_sngan.errors import UserError
from jax_sngan.models import Variables
from jax_sngan.state import TrainState


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


class Checkpoints:
    """The checkpoints of one workdir, in WORKDIR/checkpoints/STEP; a context, whose end waits for the last save."""

    def __init__(self, workdir: str | Path, keep: int | None = None):
        """keep: how many of the latest stay, beside the best; None where nothing will be saved."""
        self.folder = Path(workdir).absolute() / "checkpoints"
        self.scores: dict[int, float] = {}  # step: best_metric, of the evaluated ones
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if keep is None else LatestAndBest(keep, self.scores),
            create=keep is not None,
            read_only=keep is None,
            save_interval_steps=int(keep is not None),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        if keep is not None:
            self.scores |= known_scores(self)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()  # an async save is lost without it

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self, state: TrainState, config: TrainConfig, metrics: dict[str, float], unlogged: list[dict[str, float]]
    ) -> None:
        """Writes the state in the background; a step that is there already is left as it is.

        metrics: the last logged. unlogged: each step's numbers since then, so that a resumed run's next log is the
        mean over the same steps as the uninterrupted run's.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        if "best_metric" in metrics:
            self.scores[step] = metrics["best_metric"]
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(to_tree(state)),
                config=ocp.args.JsonSave(to_dict(config)),
                metrics=ocp.args.JsonSave(metrics),
                unlogged=ocp.args.JsonSave({"steps": unlogged}),
            ),
        )

    def wait(self) -> None:
        """Returns once the last save is on disk."""
        self._manager.wait_until_finished()

    def config(self, step: int) -> TrainConfig:
        """The config that a checkpoint was made with."""
        item = ocp.args.Composite(config=ocp.args.JsonRestore())
        return from_dict(TrainConfig, self._restore(step, item).config)

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        return self._restore(step, ocp.args.Composite(metrics=ocp.args.JsonRestore())).metrics

    def unlogged(self, step: int) -> list[dict[str, float]]:
        """The numbers of the steps between the last log and a checkpoint."""
        return self._restore(step, ocp.args.Composite(unlogged=ocp.args.JsonRestore())).unlogged["steps"]

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
        if step not in self._manager.all_steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"no checkpoint of step {step} in {self.folder}; there are: {have}")
        try:
            return read()
        except (ValueError, OSError, KeyError) as error:  # what Orbax raises for a truncated or missing file
            first = str(error).strip().splitlines()[0]
            raise UserError(f"checkpoint {self.folder / str(step)} cannot be read: {first}") from error


def shapes(state_of: Callable[[], TrainState]) -> TrainState:
    """The state's shapes and types, on one device, without computing it."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.eval_shape(state_of)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), abstract)


class HasSteps(Protocol):
    """The checkpoints of either wing."""

    folder: Path

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        ...

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        ...


def known_scores(checkpoints: HasSteps) -> dict[int, float]:
    """Step -> best_metric of the checkpoints that were evaluated; of a damaged one nothing is known."""
    found = {}
    for step in checkpoints.steps():
        with contextlib.suppress(UserError):  # restoring it says what is wrong; here it only loses its claim to be best
            metrics = checkpoints.metrics(step)
            if "best_metric" in metrics:
                found[step] = metrics["best_metric"]
    return found


def choose_step(checkpoints: HasSteps, step: str | int) -> int:
    """latest, best or a number -> the step of a checkpoint. best: the lowest value of the run's evaluated metric.

    Raises:
      UserError: another word, or best where nothing was evaluated.
    """
    steps = checkpoints.steps()
    if step == "latest":
        return steps[-1]
    if step == "best":
        scored = known_scores(checkpoints)
        if not scored:
            raise UserError(f"no checkpoint in {checkpoints.folder} has an evaluated metric; use --step latest")
        return min(scored, key=lambda s: scored[s])
    if not str(step).isdigit():
        raise UserError(f"step must be latest, best or a number, got {step!r}")
    return int(step)
