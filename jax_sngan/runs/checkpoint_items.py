"""What an Orbax checkpoint of ours holds beside its arrays, and whether it is ours; of arrays, whether all are there.

Read from the files themselves: of several processes the first does it, where Orbax would have all of them meet.
"""

import json
import re
from pathlib import Path
from typing import Any

import tensorstore

from jax_sngan.config.schema import TrainConfig, from_dict
from jax_sngan.runs.provenance import parse
from jax_sngan.runs.selection import count, numbers
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import read_json


def read(folder: Path, arrays: bool) -> dict[str, Any]:
    """What stands in a checkpoint beside its arrays, by item, each found to be ours; provenance and gan may be None.

    arrays: reads them too, whatever they are: nothing else vouches for those of a checkpoint without a manifest.

    Raises:
      UserError: something is not there, or not ours.
    """
    found = {name: _json(folder, name) for name in ("config", "metrics", "unlogged")}
    found["provenance"] = parse(_json(folder, "provenance")) if (folder / "provenance").exists() else None
    found["gan"] = _json(folder, "gan") if (folder / "gan").exists() else None
    if found["gan"] is not None and not (isinstance(found["gan"], dict) and isinstance(found["gan"].get("name"), str)):
        raise UserError("its gan must be an object with a name")
    config_of(found["config"])
    numbers("its metrics", found["metrics"])
    progress = found["unlogged"]
    if not isinstance(progress, dict) or not isinstance(progress.get("steps"), list):
        raise UserError("its unlogged must be numbers by name, step by step")
    for entry in progress["steps"]:
        numbers("its unlogged", entry)
    count("its rollbacks", progress.get("rollbacks", 0))
    if arrays:
        _read_arrays(folder / "state")
    return found


def _json(folder: Path, name: str) -> Any:
    """An item as Orbax's JsonSave writes it, which calls the file of one item as it is called itself."""
    files = [folder / name / file for file in ("metadata", name) if (folder / name / file).is_file()]
    if not files:
        raise UserError(f"its {name} is missing")
    return read_json(files[0])


def config_of(values: Any) -> TrainConfig:
    """A checkpoint's config.

    Raises:
      UserError: it is none of this version.
    """
    try:
        config: TrainConfig = from_dict(TrainConfig, values)
        return config
    except UserError as error:
        raise UserError(f"its config is of another version of jax-sngan: {error}") from error


def _read_arrays(state: Path) -> None:
    """Passes where every array of a state has all its bytes; tensorstore's own sums are in its database.

    Raises:
      UserError: one has not.
    """
    try:
        described = json.loads((state / "_METADATA").read_text())["tree_metadata"].values()
        arrays = [d for d in described if not d["value_metadata"]["skip_deserialize"]]
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{state.absolute()}/"}).result()
        keys = store.list().result()
        for key in keys:
            store.read(key).result()
        there = sum(key.endswith(b"/.zarray") for key in keys)
    except Exception as error:  # tensorstore raises nearly anything for files that are not what it expects
        raise UserError(f"its state cannot be read: {reason(error)}") from error
    if there != len(arrays) or not arrays:
        raise UserError(f"its state has {there} arrays of {len(arrays)}")


def array_names(folder: Path) -> list[tuple[str, ...]]:
    """The path in a checkpoint's state of every array that is there.

    Raises:
      UserError: its description can't be read.
    """
    try:
        described = json.loads((folder / "state" / "_METADATA").read_text())["tree_metadata"].values()
        return [
            tuple(str(part["key"]) for part in entry["key_metadata"])
            for entry in described
            if not entry["value_metadata"]["skip_deserialize"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {folder} cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An error's first line; of tensorstore's, which names a file three times, what the system said."""
    text = str(error).strip() or type(error).__name__
    said = re.search(r"OS error \d+: (?:[A-Z]+ )?([^\]]+)", text)
    return said[1] if said else text.splitlines()[0][:300]
