"""A search's file: the base, and trials that each change a few of its options and get a share of its processor time."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from jax_sngan.config.presets import preset
from jax_sngan.config.schema import TrainConfig, replace, to_dict
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import read_json

_KEYS = {"name", "why", "changes", "share", "seeds"}


class Trial(NamedTuple):
    """One training."""

    name: str  # what it is called in the table
    why: str  # what is asked by it
    changes: dict[str, Any]  # options of the base, by their names
    share: float  # of the processor time that the base takes for its steps
    seed: int


class Plan(NamedTuple):
    """A search."""

    base: TrainConfig
    trials: list[Trial]


def read_plan(path: Path) -> Plan:
    """The search that a file holds: {"base": PRESET, "trials": [{"name", "why", "changes", "share", "seeds"}, …]}.

    Trials are done in the file's order, the seeds of each one after another; seeds default to [0]. "common" beside them
    is changes of the base.

    Raises:
      UserError: the file can't be read or is no such search, or a change is none of an option.
    """
    told = read_json(path)
    keys = set(told) if isinstance(told, dict) else set()
    if not {"base", "trials"} <= keys <= {"base", "trials", "common"} or not isinstance(told["trials"], list):
        raise UserError(f"{path} must hold base, the name of a preset, a list of trials, and may have common")
    base = replace(preset(told["base"]), told.get("common", {}))
    trials = [trial for number, entry in enumerate(told["trials"]) for trial in _trials(path, number, entry)]
    for trial in trials:
        configured(base, trial, 1)
    named = [f"{t.name} at {t.share:g}, seed {t.seed}" for t in trials]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise UserError(f"{path} has twice: {'; '.join(twice)}")
    return Plan(base, trials)


def _trials(path: Path, number: int, entry: Any) -> list[Trial]:
    where = f"{path}: trial {number}"
    if not isinstance(entry, dict) or not {"name", "why", "changes", "share"} <= set(entry) <= _KEYS:
        raise UserError(f"{where} must have name, why, changes, share and may have seeds")
    name, share, seeds = entry["name"], entry["share"], entry.get("seeds", [0])
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise UserError(f"{where}: name must be of small letters, digits, '.', '_' and '-', got {name!r}")
    if type(share) not in (int, float) or not 0 < share <= 4:
        raise UserError(f"{where}: share must be above 0 and at most 4, got {share!r}")
    if not isinstance(entry["changes"], dict) or "steps" in entry["changes"] or "seed" in entry["changes"]:
        raise UserError(f"{where}: changes must be options and their values; steps come of the share, seeds of seeds")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise UserError(f"{where}: seeds must be a list of numbers, got {seeds!r}")
    return [Trial(name, str(entry["why"]), entry["changes"], float(share), seed) for seed in seeds]


def configured(base: TrainConfig, trial: Trial, steps: int) -> TrainConfig:
    """The config of a trial that does so many steps.

    Raises:
      UserError: a change is none of an option.
    """
    return replace(base, {**trial.changes, "steps": steps, "seed": trial.seed})


def digest(value: Any) -> str:
    """Twelve digits that name a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def key(base: TrainConfig, trial: Trial) -> str:
    """Names a trial by all that decides its numbers: another base, change, share or seed is another trial."""
    return digest([to_dict(configured(base, trial, 1)), to_dict(base), trial.share])
