"""Ctrl-C and SIGTERM: the first asks for a stop with a checkpoint, in 30 seconds at the latest; the second leaves.

A thread listens, since Python runs a handler only between two instructions of the main thread, and a step or its
compilation is one instruction that may take minutes. To leave is os._exit: all that is on disk is whole at any moment
(files.write_whole, checkpoint.SealedPath), so nothing older is lost.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 27.0  # from the first signal to leaving without a checkpoint; clusters kill after 30
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether to stop: the number of the signal that asked for it, or 0."""

    signal = 0
    idle = True  # nothing was computed yet that a checkpoint could save


@contextmanager
def stop_signals(say: Callable[[str], None], kept: Callable[[], str]) -> Iterator[Stop]:
    """Within the block, signals set Stop.signal; one that comes while Stop.idle, the second, and time end the process.

    Args:
      say: shows a line.
      kept: the line on what there is and how to go on, where the process ends without a new checkpoint.
    """
    stop, ended = Stop(), threading.Event()
    before = {s: signal.getsignal(s) for s in _SIGNALS}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    timer: threading.Timer | None = None

    def leave(why: str) -> None:
        say(f"{why}; {kept()}")
        os._exit(128 + stop.signal)

    def listen() -> None:
        nonlocal timer
        while (number := os.read(reading, 1)) and number[0]:
            if number[0] not in _SIGNALS or ended.is_set():
                continue
            again, stop.signal = bool(stop.signal), number[0]
            if again:
                leave("left at once")
            elif stop.idle:
                leave("stopped before the first step was done")
            else:
                say("stopping after this step and saving; once more to leave at once")
                timer = threading.Timer(
                    SECONDS, leave, [f"the step and its checkpoint took over {SECONDS:.0f} s: left"]
                )
                timer.daemon = True
                timer.start()

    def note(number: int, _: Any) -> None:
        """A handler of Python's, without which the system's default would end the process."""

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread.start()
    for s in _SIGNALS:
        signal.signal(s, note)
    try:
        yield stop
    finally:
        ended.set()
        for s, handler in before.items():
            signal.signal(s, handler)
        signal.set_wakeup_fd(before_fd)
        if timer is not None:
            timer.cancel()
        os.write(writing, b"\0")
        thread.join()
        os.close(reading)
        os.close(writing)


@contextmanager
def python_interrupts() -> Iterator[Stop]:
    """The same for a block that Python code called: the first Ctrl-C sets Stop.signal, the second is Python's own.

    Nothing is listened to outside the main thread, where Python has no signals, and where Ctrl-C is ignored.
    """
    stop, before = Stop(), signal.getsignal(signal.SIGINT)

    def note(number: int, _: Any) -> None:
        if stop.signal:
            raise KeyboardInterrupt
        stop.signal = number

    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield stop
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
