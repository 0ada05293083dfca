"""The nearest of what there is to a word that is none of it: by meaning, by a part of it, by its letters."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

MOST = 3  # names that an error suggests


def nearest(word: str, known: Iterable[str], meanings: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """The names among known that word may stand for, the likeliest first, at most 3.

    Names are alike whatever their case, and - and _ are; of model.image_size the last part is a name too.

    Args:
      meanings: what people call something elsewhere -> what it is called here, known or not.
    """
    plain = {name: _plain(name) for name in known}
    asked = _plain(word)
    meant = {_plain(other) for other in (meanings or {}).get(asked, ())}
    found = [name for name, text in plain.items() if text in meant]
    if not found:
        found = [name for name, text in plain.items() if asked in (text, _last(text))]
    if not found and asked:
        close = difflib.get_close_matches(asked, sorted({*plain.values(), *map(_last, plain.values())}), MOST, 0.7)
        found = [name for text in close for name, own in plain.items() if text in (own, _last(own))]
    if not found and len(asked) > 2:
        found = [name for name, text in plain.items() if asked in text or (len(text) > 2 and text in asked)]
    return list(dict.fromkeys(found))[:MOST]


def suggestion(names: Sequence[str]) -> str:
    """`did you mean a, b or c?`, or "" where there is nothing to suggest."""
    if not names:
        return ""
    *others, last = names
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"


def _plain(name: str) -> str:
    return name.lower().lstrip("-").replace("-", "_").replace(" ", "_")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
