"""Mistakes of the program that no test can catch, since they change no result: each with its reason in a JSON file."""

import json
from functools import cache
from pathlib import Path


@cache
def known() -> dict[str, str]:
    """By the key of `mutation.key`, why nothing changes."""
    return json.loads((Path(__file__).parent / "survivors.json").read_text())


def reason(key: str) -> str | None:
    """Why a mistake changes no result; None where it is not known to."""
    return known().get(key)
