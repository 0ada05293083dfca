"""Packages that a bare machine lacks, brought along as wheels. Needs nothing but Python itself."""

import sys
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from jax_sngan.system.errors import UserError

# What the check can't do without, and what it is without each of the others.
NEEDED = {"jax": "jax", "flax": "flax", "optax": "optax", "orbax.checkpoint": "orbax-checkpoint", "PIL": "pillow",
          "scipy": "scipy", "tqdm": "tqdm", "numpy": "numpy"}  # fmt: skip
OPTIONAL = {
    "torch": "nothing is compared with torch: no ladder, and no times of its side",
    "pytest": "no ladder",
    "parity_tests": "no ladder; it is in the source and not in the installed package",
    "tensorboardX": "runs write no TensorBoard files",
    "grain": "no images are streamed from disk; the check has them in memory",
}


def has(module: str) -> bool:
    """Whether Python finds a module, which is not imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def missing() -> dict[str, str]:
    """Of OPTIONAL what is not here, and what the check is without it.

    Raises:
      UserError: something of NEEDED is not here.
    """
    if wanting := [package for module, package in NEEDED.items() if not has(module)]:
        raise UserError(
            f"the check needs {', '.join(wanting)}, which this Python ({sys.executable}) lacks; bring wheels of them: "
            "--wheels DIR"
        )
    return {module: without for module, without in OPTIONAL.items() if not has(module)}


def given(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option on a command line that nothing has read yet."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def unpack(wheels: str | Path, into: Path) -> Path:
    """Unpacks every wheel of a folder, for this process and those that it starts (PYTHONPATH); returns `into`.

    They come behind what is installed: nothing of that is replaced.

    Raises:
      UserError: there is no wheel, or one can't be read.
    """
    found = sorted(Path(wheels).glob("*.whl"))
    if not found:
        raise UserError(f"--wheels: {wheels} has no *.whl")
    for wheel in found:
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(into)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"--wheels: {wheel} cannot be unpacked: {error}") from error
    sys.path.append(str(into))
    return into
