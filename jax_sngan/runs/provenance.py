"""What a checkpoint knows of where it comes from: data, code, libraries, devices. Knows no jax."""

import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import checkout
from jax_sngan.system.machine import cores, processor

FORMAT = 1  # goes up when a checkpoint's parts mean something else
LIBRARIES = {
    "jax": ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow"),
    "torch": ("torch", "jax", "jaxlib", "numpy", "pillow"),  # jax draws the reference's inputs
}


def provenance(framework: str, data: dict[str, Any] | None, devices: str | None) -> dict[str, Any]:
    """This process's.

    Args:
      framework: "jax" or "torch".
      data: Dataset.identity(); None where it is not known (a converted network).
      devices: how many and which, as `1 x cpu`; None where nothing was trained.
    """
    return {
        "format": FORMAT,
        "data": data,
        "code": {"jax-sngan": version_of("jax-sngan"), "sha256": code_checksum(framework)},
        "libraries": {"python": platform.python_version()} | {name: version_of(name) for name in LIBRARIES[framework]},
        "devices": devices,
        "processor": f"{processor()}, {cores()} core{'s' * (cores() > 1)}",
        "commit": commit(),
    }


@lru_cache
def commit() -> str | None:
    """The commit of the sources that run, `-dirty` behind it where they have been changed; None outside a checkout."""
    root, git = checkout(), shutil.which("git")
    if root is None or git is None:
        return None
    command = [
        git,
        "--no-optional-locks",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    asked = subprocess.run(command, capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 else None  # else no repository, as in an archive of it


@lru_cache
def code_checksum(framework: str) -> str:
    """SHA-256 over the names and texts of a framework's sources, in hexadecimal."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for package in ("jax_sngan", *(("torch_ref",) if framework == "torch" else ())):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def version_of(name: str) -> str:
    """A package's, or `not installed`."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from its sources, never installed
        return "not installed"


def parse(value: Any) -> dict[str, Any]:
    """A checkpoint's provenance as JSON has it, checked; of a later format only what tells it as one.

    Raises:
      UserError: it is none.
    """
    wrong = UserError("its provenance is none that this program wrote")
    if not isinstance(value, dict) or type(value.get("format")) is not int or not _texts(value.get("code")):
        raise wrong
    if "jax-sngan" not in value["code"]:
        raise wrong
    if value["format"] > FORMAT:
        return value
    data, devices = value.get("data", 0), value.get("devices", 0)
    told = (devices, value.get("processor"), value.get("commit"))  # the latter two are younger than some checkpoints
    whole = _texts(value.get("libraries")) and "sha256" in value["code"] and all(v is None or _text(v) for v in told)
    if not whole or not (data is None or (_texts(data) and "summary" in data and data.keys() & set(_CHECKSUMS))):
        raise wrong
    return value


_CHECKSUMS = ("sha256", "files_sha256")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    """Whether it is texts by name."""
    return isinstance(value, dict) and all(_text(v) for v in value.values())


def check(
    there: dict[str, Any],
    here: dict[str, Any],
    where: str,
    may_change: Callable[[dict[str, Any], dict[str, Any]], str | None] = lambda there, here: None,
) -> list[str]:
    """What a person should know who goes on here with a checkpoint from there; [] where nothing differs.

    Args:
      there: the checkpoint's.
      where: the checkpoint, for the text.
      may_change: given both data where they differ, a line where the run may go on all the same, else None.
    Raises:
      UserError: it was trained on other data, or a later version of this program wrote it.
    """
    if there["format"] > FORMAT:
        raise UserError(
            f"{where} was written by a later version of jax-sngan ({there['code']['jax-sngan']}, format "
            f"{there['format']}; this is {here['code']['jax-sngan']}, format {FORMAT}); install that version"
        )
    notes = []
    a, b = there["data"], here["data"]
    if a is None and b is not None:
        notes.append(f"{where} does not say which data made it (it was converted)")
    elif a is not None and b is not None and not _same_data(a, b):
        if (note := may_change(a, b)) is not None:
            notes.append(note)
        else:
            raise UserError(
                f"{where} was trained on other data: {_told(a)}, now {_told(b)}; "
                "give the same --data and files, or another --workdir"
            )
    old, new = there["libraries"], here["libraries"]
    if changed := [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]:
        was, now = (", ".join(f"{name} {of.get(name, 'absent')}" for name in changed) for of in (old, new))
        notes.append(f"written with {was}, now {now}: the run goes on, its bits may not be those of the whole run")
    if there["code"] != here["code"]:
        notes.append(
            f"written by jax-sngan {_code(there)}, now {_code(here)}: the run goes on, its bits may not be those of "
            "the whole run"
        )
    if there["devices"] not in (None, here["devices"]):
        notes.append(
            f"written on {there['devices']}, now {here['devices']}: the run goes on and agrees to rounding, not to "
            "the bit"
        )
    return notes


def _same_data(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """By the decoded images where both runs had them in memory; else, where one streams, by the files."""
    key = "sha256" if "sha256" in a and "sha256" in b else "files_sha256"
    return a.get(key) == b.get(key) is not None


def _told(data: dict[str, Any]) -> str:
    kind = "sha256" if "sha256" in data else "files_sha256"
    return f"{data['summary']} ({kind.replace('_', ', ')} {data[kind][:12]})"


def _code(of: dict[str, Any]) -> str:
    return f"{of['code']['jax-sngan']} (sources {of['code']['sha256'][:12]})"
