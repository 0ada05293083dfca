"""What an Orbax checkpoint of ours holds beside its arrays, and whether it is ours.

Read from the files themselves: of several processes the first does it, where Orbax would have all of them meet.
"""

import json
import re
from pathlib import Path
from typing import Any

from jax_sngan.config.schema import TrainConfig, from_dict
from jax_sngan.runs.provenance import parse
from jax_sngan.runs.selection import count, numbers
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import read_json


def read(folder: Path) -> dict[str, Any]:
    """What stands in a checkpoint beside its arrays, by item, each found to be ours; gan may be None.

    Raises:
      UserError: something is not there, or not ours.
    """
    found = {name: _json(folder, name) for name in ("config", "metrics", "unlogged")}
    found["provenance"] = parse(_json(folder, "provenance"))
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
