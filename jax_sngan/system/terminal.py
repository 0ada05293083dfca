"""What a person is shown: foreign text without control characters, long lists cut short, commands for a shell."""

import os
import shlex
from collections.abc import Sequence


def shown(text: object) -> str:
    """text with each character that a terminal would act on, a newline too, or can't show, as its escape.

    For whatever comes from a file or a name: a config's strings, paths, what an error quotes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` of some names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def command(*words: object) -> str:
    """A command line that a POSIX shell parts into exactly these words; no control character stands in it."""
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    safe = (f"\\{c}" if c in "\\'" else c if c.isprintable() else _bytes(c) for c in word)
    return f"$'{''.join(safe)}'"


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
