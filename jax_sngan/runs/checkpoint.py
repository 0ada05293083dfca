"""Orbax checkpoints: a run's state with its config and its last metrics, each under a sha256 manifest.

A checkpoint is a folder WORKDIR/checkpoints/STEP. It gets that name, in one rename, when all its files and their
manifest are on the disk; nothing of it is used before every file was found as the manifest has it, and no older one is
removed before its name is on the disk too. Of several processes each writes its part of the state, and the first the
manifest, when all have; all call the same methods in one order.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from jax_sngan.config.schema import TrainConfig, to_dict
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.sharding import placed_shapes
from jax_sngan.core.state import TrainState, state_shapes
from jax_sngan.models.network import Variables, allow_dtype
from jax_sngan.runs import manifest
from jax_sngan.runs.checkpoint_items import array_names, config_of, read, reason
from jax_sngan.runs.provenance import provenance
from jax_sngan.runs.selection import check_step, choose_step, kept, problem_of, scored, steps_in
from jax_sngan.system import processes
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import make_folder, remove_folder, rename_aside, sync, sync_tree
from jax_sngan.system.out_of_memory import out_of_memory

# Orbax warns whenever a folder is opened for reading alone, which is what was asked for.
logging.getLogger("absl").addFilter(lambda record: "directory is read only" not in record.getMessage())


def to_tree(part: Any) -> Any:
    """A state, or a part of it, as nested dicts of arrays, the form in the files: it does not depend on our classes.

    A class's or a named tuple's entries go by their names, a list's and a tuple's by their numbers.
    """
    inner = jax.tree_util.tree_flatten_with_path(part, is_leaf=lambda x: x is not part)[0]
    if [path for path, _ in inner] == [()]:
        return part  # an array
    tree = {jax.tree_util.keystr(path, simple=True): to_tree(branch) for path, branch in inner}
    if isinstance(part, Variables) and not part.other:
        del tree["other"]  # as in checkpoints from before there was the entry
    return tree


def _leaves(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every array of a to_tree."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _leaves(branch, (*prefix, name))
    else:
        yield prefix


def from_tree(tree: Any, like: Any) -> Any:
    """The inverse of to_tree, for what is made like `like`."""
    paths = jax.tree_util.tree_leaves_with_path(like)

    def at(path: Any) -> Any:
        found = tree
        for key in path:
            found = found[jax.tree_util.keystr((key,), simple=True)]
        return found

    return jax.tree.unflatten(jax.tree.structure(like), [at(path) for path, _ in paths])


class SealedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """Orbax's way from a temporary name to the final one, with a stop between.

    There all is brought onto the disk and the manifest is written: a power cut leaves no name without its contents.
    """

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
        """All files are written: onto the disk with them, the manifest, then the step's own name."""
        await super().finalize()
        unsealed = Path(self._final_path)
        sync_tree(unsealed)
        manifest.write(unsealed, int(self.sealed.name))
        os.replace(unsealed, self.sealed)
        sync(unsealed.parent)


UNSEALED = ".unsealed"


class Chosen(NamedTuple):
    """One of a run's checkpoints, and what is needed to read it."""

    step: int
    config: TrainConfig
    like: TrainState  # shapes and types, on one device
    gan: GAN


class Checkpoints:
    """The checkpoints of one workdir, in WORKDIR/checkpoints/STEP; a context, whose end waits for the last save."""

    def __init__(self, workdir: str | Path, keep: int | None = None):
        """keep: how many of the latest stay, beside the best; None where nothing will be saved."""
        self.folder = Path(workdir).absolute() / "checkpoints"
        self._keep = keep
        self._problems: dict[int, str | None] = {}
        self.scores: dict[int, float] = {}
        self._saving: int | None = None  # the last that was begun
        self._manager = self._open()
        if keep is not None:
            self.scores |= scored(self)

    def _open(self) -> Any:
        """Orbax's manager of the steps that are there now."""
        writes = self._keep is not None
        if writes:
            processes.first_does(lambda: make_folder(self.folder))
        self._steps: list[int] = processes.first_does(lambda: steps_in(self.folder))
        options = ocp.CheckpointManagerOptions(
            create=writes,
            read_only=not writes,
            save_interval_steps=int(writes),
            temporary_path_class=SealedPath,
            single_host_load_and_broadcast=processes.count() > 1,  # a network's file system may show them others late
            lightweight_initialize=True,  # else it reads files that may be damaged, before anyone has looked
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._writing(self._close)  # an async save is lost without it
        except UserError:
            if kind is None:  # else it was told already, and Orbax tells it twice
                raise

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, sound or not, ascending."""
        return list(self._steps)

    def problem(self, step: int) -> str | None:
        """What is wrong with a step's files; None where they are sound. Each step is read once."""
        if step not in self._problems:
            self._problems[step] = processes.first_does(lambda: problem_of(self.folder / str(step), step, read))
        return self._problems[step]

    def set_aside(self, step: int, ending: str) -> Path:
        """Renames a checkpoint, so that its step can be written anew; returns where it is now."""
        aside = Path(processes.first_does(lambda: str(rename_aside(self.folder / str(step), ending))))
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
        gan: str | None = None,
    ) -> None:
        """Writes the state in the background; a step that is there already is left as it is.

        metrics: the last logged. unlogged: each step's numbers since then, so that a resumed run's next log is the
        mean over the same steps as the uninterrupted run's. origin: provenance.provenance(); None: of nothing but
        this code. rollbacks: how often the run went back after a NaN: its inputs depend on it. gan: where it is not the
        config's, what to call it by: --gan's MODULE:NAME, or any words.

        Raises:
          UserError: this or the last checkpoint can't be written.
        """
        step = int(state.step)
        if step in self._steps:
            return
        self.wait()
        self._problems.pop(step, None)
        if "best_metric" in metrics:
            self.scores[step] = metrics["best_metric"]
        progress = {"steps": list(unlogged), "rollbacks": rollbacks}  # the loop adds to its list while this is written
        self._saving = step
        items = {
            "config": to_dict(config),
            "metrics": metrics,
            "unlogged": progress,
            "provenance": origin or provenance("jax", None, None),
        } | ({"gan": {"name": gan}} if gan is not None else {})
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(to_tree(state)),
            **{name: ocp.args.JsonSave(item) for name, item in items.items()},
        )
        self._writing(lambda: self._manager.save(step, args=args))
        self._steps = sorted([*self._steps, step])

    def wait(self) -> None:
        """Returns once the last save is on disk; those that it takes the place of are gone then.

        Raises:
          UserError: it can't be written.
        """
        self._writing(self._finish)

    def _finish(self) -> None:
        self._manager.wait_until_finished()
        if self._keep is None or self._saving is None:
            return
        stay = kept(self._steps, self._keep, self.scores)
        if processes.is_first() and (self.folder / str(self._saving)).is_dir():  # else it failed, and the older stay
            for step in set(self._steps) - set(stay):
                remove_folder(self.folder / str(step))
        self.scores = {step: score for step, score in self.scores.items() if step in stay}
        self._steps = stay

    def _close(self) -> None:
        self._finish()
        self._manager.close()

    def _writing(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:  # ValueError: what tensorstore makes of a full disk
            there = steps_in(self.folder)  # the one that failed is not among them
            left = f"the checkpoint of step {there[-1]} is intact" if there else "there is none before it"
            raise UserError(f"a checkpoint cannot be written to {self.folder}: {reason(error)}; {left}") from error

    def choose(
        self, step: str | int, gan: GAN | Callable[[TrainConfig], GAN] | None = None, *, needs: str | None = None
    ) -> Chosen:
        """The checkpoint that latest, best or a number names; lets this process compute in its type.

        Args:
          gan: the GAN, or what makes it from the config, of a run that was not its config's. Nothing is imported on a
            checkpoint's word.
          needs: what this is for, where nothing but a config's networks will do.
        Raises:
          UserError: as selection.choose_step; it is of another version; it needs a gan, or was made without one.
        """
        number = choose_step(self, step)
        config, name = self.config(number), self.gan_name(number)
        its = f"checkpoint {self.folder / str(number)} is of a GAN of its own, {name}"
        if name is not None and needs:
            raise UserError(f"{needs} needs one of this package's networks; {its}")
        if name is not None and gan is None:
            raise UserError(f"{its}: give it again, by --gan or gan=")
        if name is None and gan is not None:
            raise UserError(f"gan must be left out: checkpoint {self.folder / str(number)} is of its config's GAN")
        made = as_gan(config) if gan is None else gan if isinstance(gan, GAN) else gan(config)
        allow_dtype(made)
        return Chosen(number, config, placed_shapes(None, state_shapes(made)), made)

    def config(self, step: int) -> TrainConfig:
        """The config that a checkpoint was made with."""
        return config_of(self._item(step, "config"))

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics saved with a checkpoint."""
        return self._item(step, "metrics")

    def unlogged(self, step: int) -> list[dict[str, float]]:
        """The numbers of the steps between the last log and a checkpoint."""
        return self._item(step, "unlogged")["steps"]

    def rollbacks(self, step: int) -> int:
        """How often the run had gone back after a NaN."""
        return self._item(step, "unlogged").get("rollbacks", 0)

    def gan_name(self, step: int) -> str | None:
        """What the run's GAN was called by; None: it is its config's."""
        found = self._item(step, "gan")
        return None if found is None else str(found["name"])

    def origin(self, step: int) -> dict[str, Any]:
        """Which data, code and libraries made a checkpoint."""
        return self._item(step, "provenance")

    def _item(self, step: int, name: str) -> Any:
        """What a sound checkpoint holds beside its arrays, read by the first process."""
        check_step(self, step)
        return processes.first_does(lambda: read(self.folder / str(step))[name])

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The whole state; like: a state, or its shapes and types with shardings.

        Raises:
          UserError: it can't be read, or is that of another GAN.
        """
        check_step(self, step)
        own = set(_leaves(to_tree(like)))
        there = set(map(tuple, processes.first_does(lambda: array_names(self.folder / str(step)))))  # JSON has lists
        if other := sorted(own ^ there):
            name = ".".join(other[0])
            raise UserError(
                f"checkpoint {self.folder / str(step)} is of another GAN: {name} is "
                f"{'not in it' if other[0] in own else 'in it alone'}"
            )
        item = ocp.args.Composite(state=ocp.args.StandardRestore(to_tree(like)))
        state: TrainState = from_tree(self._guarded(step, lambda: self._manager.restore(step, args=item)).state, like)
        return state

    def restore_part(self, step: int, like: TrainState, *names: str) -> list[Any]:
        """The parts of the state that TrainState calls by these names; no other is read."""
        part = {name: to_tree(getattr(like, name)) for name in names}
        args = ocp.args.PyTreeRestore(
            item=part, restore_args=ocp.checkpoint_utils.construct_restore_args(part), partial_restore=True
        )
        with ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                read_only=True, create=False, save_interval_steps=0, lightweight_initialize=True
            ),
            item_handlers={"state": ocp.PyTreeCheckpointHandler()},
        ) as manager:
            tree = self._guarded(step, lambda: manager.restore(step, args=ocp.args.Composite(state=args))).state
        return [from_tree(tree[name], getattr(like, name)) for name in names]

    def _guarded(self, step: int, restore: Callable[[], Any]) -> Any:
        check_step(self, step)
        try:
            return restore()
        except Exception as error:  # Orbax raises nearly anything for files that are not what it expects
            if out_of_memory(error):
                raise
            raise UserError(f"checkpoint {self.folder / str(step)} cannot be read: {reason(error)}") from error
