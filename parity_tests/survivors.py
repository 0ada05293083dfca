"""Mistakes of the program that no test can catch, since they change no result: each with its reason."""

# The key of `mutation.key` -> why nothing changes.
SURVIVORS: dict[str, str] = {}


def reason(key: str) -> str | None:
    """Why a mistake changes no result; None where it is not known to."""
    return SURVIVORS.get(key)
