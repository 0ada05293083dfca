"""Names of a run's classes, and numbers of classes that are asked for by either."""

import re
from collections.abc import Sequence

import numpy as np

from jax_sngan.config import class_names
from jax_sngan.config.schema import TrainConfig
from jax_sngan.data.layout import shown_classes
from jax_sngan.data.official import CLASSES
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown

Labels = int | str | Sequence[int | str] | np.ndarray  # classes by number or name: one for all images, or one each


def names_of(config: TrainConfig, classes: int | None = None) -> tuple[str, ...]:
    """What the classes are called, by their numbers; () where unconditional or not known.

    classes: how many there are; None: as the config's networks have.
    """
    if names := class_names.parse(config.class_names):
        return names
    known = CLASSES.get("fashion_mnist" if config.data == "fashion" else config.data, ())
    return known if len(known) == (config.model.num_classes if classes is None else classes) else ()


def classes_of(labels: Labels, num: int, classes: int, names: tuple[str, ...]) -> np.ndarray:
    """int32 [num], the class of each of num images.

    Args:
      labels: numbers or names, one for all or one each; a text of several parts them by commas.
      classes: how many there are.
      names: of the classes; () where they are not known.
    Raises:
      UserError: another number of labels, or one that is no class.
    """
    if isinstance(labels, str):
        found = numbers_of(labels, names, "labels")
    else:
        parts = labels.tolist() if isinstance(labels, np.ndarray) else labels
        if isinstance(parts, (list, tuple)) and any(isinstance(part, str) for part in parts):
            parts = [_number(part, names, "labels") if isinstance(part, str) else part for part in parts]
        try:
            found = np.asarray(parts)
        except ValueError:  # lists of several lengths
            found = np.zeros(0)
    if found.size == 1:
        found = np.full(num, found.reshape(()))
    if found.shape != (num,) or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= classes:
        named = f" or names ({shown_classes(names)})" if any(name != str(i) for i, name in enumerate(names)) else ""
        raise UserError(
            f"labels must be {num} numbers from 0 to {classes - 1}{named}, or one of them for all, got "
            f"{shown(repr(labels))[:100]}"
        )
    return found.astype(np.int32)


def numbers_of(text: str, names: tuple[str, ...], option: str = "--labels") -> np.ndarray:
    """int32 [k], the classes in a text: names or numbers, parted by commas.

    A number that is also the name of another class is neither: name:3 and number:3 say which is meant.

    Raises:
      UserError: there is no such name, or it can't be told.
    """
    if text in names:  # a name may have commas
        return np.array([_number(text, names, option)], np.int32)
    return np.array([_number(part.strip(), names, option) for part in text.split(",")], np.int32)


def _number(text: str, names: tuple[str, ...], option: str) -> int:
    said = re.fullmatch(r"(name|number):(.*)", text, re.DOTALL)
    kind, word = (said[1], said[2]) if said and text not in names else ("", text)
    number = int(word) if kind != "name" and re.fullmatch("[0-9]{1,9}", word) else None
    named = names.index(word) if kind != "number" and word in names else None
    if number is not None and named not in (None, number):
        raise UserError(
            f"{option}: {word!r} is the name of class number {named}, and class number {number} has another: give "
            f"name:{word} or number:{word}"
        )
    found = named if number is None else number
    if found is None:
        there = f": {shown_classes(names)}" if names else ", and no names of them are known"
        raise UserError(f"{option} must be numbers or names of classes, parted by commas, got {word!r}{there}")
    return found
