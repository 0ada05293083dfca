"""The sha256 manifest of a checkpoint's folder: what every file held when the checkpoint was complete.

A restored bit is a bit that was saved only if somebody looks: Orbax gives back a flipped one without a word. The
manifest finds damage, by a disk, a copy or a cut-off deletion. It is no signature: who can write the folder can write
a manifest.
"""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from jax_sngan.system.files import write_whole
from jax_sngan.system.terminal import shown

NAME = "manifest.json"
FORMAT = 1


def write(folder: Path, step: int) -> None:
    """Puts the manifest into a checkpoint's folder that is otherwise complete.

    Raises:
      UserError: it can't be written.
    """
    files = {name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for name, path in _files(folder).items()}
    text = _text({"format": FORMAT, "step": step, "files": files})
    write_whole(folder / NAME, lambda p: p.write_text(text))


def problem(folder: Path, step: int) -> str | None:
    """What is wrong with the checkpoint of a step, with the file's name; None where every bit is as it was written.

    Every file is read. A file that the manifest does not list is a problem too, unless its name starts with a dot
    (what file managers and network file systems leave behind).
    """
    try:
        text = (folder / NAME).read_text()
        told = json.loads(text)
        body = {name: told[name] for name in ("format", "step", "files")}
        if text != _text(body) or not _listed(body["files"]):
            return f"its {NAME} is damaged"
    except FileNotFoundError:
        return f"its {NAME} is missing"
    except OSError as error:
        return f"its {NAME} cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, RecursionError):  # not UTF-8, not JSON, or not ours
        return f"its {NAME} is damaged"
    if body["format"] != FORMAT:
        return f"its {NAME} has format {shown(body['format'])}; this version of jax-sngan knows {FORMAT}"
    if body["step"] != step:
        return f"it is the checkpoint of step {shown(body['step'])}"
    try:
        return _difference(_files(folder), body["files"])
    except OSError as error:
        return f"{shown(error.filename)} cannot be read: {error.strerror or error}"


def is_ours(folder: Path) -> bool:
    """Whether a folder has a manifest that this program wrote, whatever became of the files that it lists."""
    try:
        text = (folder / NAME).read_text()
        told = json.loads(text)
        return text == _text({name: told[name] for name in ("format", "step", "files")})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _listed(files: Any) -> bool:
    """Whether a manifest's files are what `write` writes."""
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def _difference(there: dict[str, Path], listed: dict[str, dict[str, Any]]) -> str | None:
    for name, entry in listed.items():
        if name not in there:
            return f"{shown(name)} is missing"
        facts = there[name].stat()
        if not stat.S_ISREG(facts.st_mode):  # reading from a pipe would wait for ever
            return f"{shown(name)} is no file"
        if facts.st_size != entry["bytes"]:
            return f"{shown(name)} has {facts.st_size} bytes, and had {entry['bytes']}"
    for name, path in there.items():
        if name not in listed:
            return f"{shown(name)} is not in its {NAME}"
        if _sha256(path) != listed[name]["sha256"]:
            return f"{shown(name)} has other contents than when it was written"
    return None


def _files(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its relative name, the manifest and hidden ones left out."""

    def fail(error: OSError) -> None:
        raise error

    found = {}
    for here, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith(".") and path != folder / NAME:
                found[path.relative_to(folder).as_posix()] = path
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _text(body: dict[str, Any]) -> str:
    """The file's text: the body and its own checksum; one body has one text."""
    own = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps(body | {"sha256": own}, indent=1) + "\n"
