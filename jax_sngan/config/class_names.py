"""Names of classes as one option: a,b,c or, for names with commas, a JSON list."""

import json

from jax_sngan.system.errors import UserError


def parse(text: str) -> tuple[str, ...]:
    """The names, each by its number; () of an empty text.

    Raises:
      UserError: it is no list of names.
    """
    if not text.startswith("["):
        return tuple(name.strip() for name in text.split(",")) if text else ()
    wrong = UserError(f"class_names must be a,b,c or a JSON list of names, got {text[:200]!r}")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise wrong
    return tuple(names)


def text_of(names: tuple[str, ...]) -> str:
    """The inverse of parse."""
    return json.dumps(names, ensure_ascii=False)


def check(text: str, classes: int) -> None:
    """Passes where a text is empty or names so many classes, each by a name of its own.

    classes: 0: how many is for a GAN of the user's own to say (check_count).

    Raises:
      UserError: it does not.
    """
    names = parse(text)
    if classes:
        check_count(names, classes, "model.num_classes")
    if len(set(names)) != len(names):
        raise UserError(f"class_names must be different names, got {text[:200]!r}")


def check_count(names: tuple[str, ...], classes: int, of: str) -> None:
    """Passes where there are no names, or one for each class; of: what says how many classes there are.

    Raises:
      UserError: there are others.
    """
    if names and len(names) != classes:
        raise UserError(f"class_names must be {classes} names for {of}={classes}, got {len(names)}")
