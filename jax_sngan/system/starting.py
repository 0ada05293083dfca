"""Ctrl-C before a command runs, while Python still loads its modules: one line and exit code 130, no traceback.

The first that the package imports, and so it imports no more than what Python has loaded by itself.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # pathlib takes its time to load


def guard() -> None:
    """Ends this process in one line at Ctrl-C, where it is one of the program's commands.

    commands/process.py takes over when it begins. A program or notebook of the user's own is left as it is, a worker
    process too, and so is a shell's order to ignore Ctrl-C.
    """
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """The handler: there is nothing yet to be put away."""
    os.write(2, f"{_name()}: interrupted\n".encode(errors="backslashreplace"))
    os._exit(130)


def _is_command() -> bool:
    if {"multiprocessing.spawn", "multiprocessing.forkserver"} & set(sys.modules):  # a worker has its parent's argv
        return False
    return _script() is not None or _entry() is not None


def _script() -> str | None:
    """The file of this checkout's scripts/ that runs."""
    path = os.path.abspath(sys.argv[0])
    return os.path.basename(path) if os.path.dirname(path) == os.path.join(_ROOT, "scripts") else None


def _entry() -> str | None:
    """`sngan`, or what `python -m jax_sngan` is while its module is looked for."""
    if os.path.basename(sys.argv[0]) in ("sngan", "sngan.exe"):
        return "sngan"
    return "python -m jax_sngan" if sys.argv[0] == "-m" and "jax_sngan" in sys.orig_argv else None


def _name() -> str:
    if (script := _script()) is not None:
        return script
    command = [word for word in sys.argv[1:2] if word.replace("-", "").isalnum() and word[0] != "-"]
    return " ".join([_entry() or "python -m jax_sngan", *command])
