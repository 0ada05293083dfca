"""How a command ends: done, a user's mistake, Ctrl-C, memory that ran out: each its code, and one line on stderr."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any, NoReturn

from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import program
from jax_sngan.system.out_of_memory import memory_line, out_of_memory
from jax_sngan.system.starting import interrupted

_LOADS_COMPILED = {ExtensionFileLoader.create_module.__code__, ExtensionFileLoader.exec_module.__code__}


def run(main: Callable[[], int | None]) -> NoReturn:
    """Calls a command's main and exits with its code.

    A UserError becomes one line and code 2, memory that ran out one and 1, Ctrl-C one and 130.
    """
    try:
        if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, interrupted):  # not where it is ignored
            signal.signal(signal.SIGINT, _interrupt)
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells its options as warnings, and what it raises
        sys.unraisablehook = _not_lost(sys.unraisablehook)
        code = main()
    except UserError as error:
        print(f"{program()}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGALRM):  # whoever is impatient now would see a traceback of these lines
            signal.signal(number, signal.SIG_IGN)
        sys.stdout.flush()
        print(f"{program()}: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # XLA's threads, cut off in their work, may crash the interpreter's own way out
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if not out_of_memory(error):
            raise
        print(f"{program()}: {memory_line(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(code or 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C as Python has it, but not while jax or any compiled module is being loaded.

    jax's crash of it, and others make an ImportError of it: "initialization failed".
    """
    spec = getattr(sys.modules.get("jax"), "__spec__", None)
    loading = bool(getattr(spec, "_initializing", False))  # importlib's mark, while a module's own code runs
    while frame is not None and not loading:
        loading, frame = frame.f_code in _LOADS_COMPILED, frame.f_back
    if loading:
        _interrupt_soon()
    else:
        raise KeyboardInterrupt


def _interrupt_soon() -> None:
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def _not_lost(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """hook, which is told of errors that Python can't raise where they come up, but for two of them.

    A Ctrl-C that comes within a callback of the garbage collector (jax has one) would be told and forgotten, and the
    script would go on: it comes again. And when a save has failed and Orbax, which raises it, is done, threads of
    tensorstore call out once more.
    """

    def told(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            _interrupt_soon()
        elif str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return told
