"""The labels of StyleGAN2-ADA's data sets: dataset.json beside folders that are parts, no classes."""

import json
import unicodedata
from typing import Any

import numpy as np

from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown

LABELS_FILE = "dataset.json"
NAMED = 5  # of strays or endings that a line names


def some(count: int, what: str, names: Any) -> str:
    """A count, and the first of the names, for a line."""
    first = [repr(shown(name)) for name in list(names)[:NAMED]]
    more = ", …" if count > NAMED else ""
    return f"{count:,} {what}{'' if count == 1 else 's'} ({', '.join(first)}{more})"


def given_labels(images: list[str], contents: bytes, where: str) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """(labels [n], classes) as dataset.json has them, classes () where it says that there are none; None where it is
    another program's.

    Raises:
      UserError: it is damaged, or does not label each image once.
    """
    wrong = f"{where}: its {LABELS_FILE}"
    try:
        told = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{wrong} is no JSON: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(told, dict) or "labels" not in told:
        return None
    if told["labels"] is None:
        return np.zeros(len(images), np.int32), ()
    pairs = told["labels"]
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise UserError(f'{wrong} must hold {{"labels": [[name, number], ...]}}')
    labels = {unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./"): label for name, label in pairs}
    if len(labels) != len(pairs):
        raise UserError(f"{wrong} labels an image twice")
    bad = next((label for label in labels.values() if type(label) is not int or not 0 <= label < 100_000), None)
    if bad is not None:
        raise UserError(f"{wrong} must label with numbers from 0 to 99999, got {str(bad)[:60]!r}")
    found = {name: unicodedata.normalize("NFC", name) for name in images}
    root = _root(found, labels)
    lacking = [name for name, path in found.items() if path.removeprefix(root) not in labels]
    if lacking:
        raise UserError(f"{wrong} has no label for {some(len(lacking), 'image', lacking)}")
    numbers = np.array([labels[path.removeprefix(root)] for path in found.values()], np.int32)
    return numbers, tuple(str(i) for i in range(int(numbers.max()) + 1))


def _root(found: dict[str, str], labels: dict[str, Any]) -> str:
    """The folder that holds all images and that dataset.json's names do not have; "" where there is none."""
    first = next(iter(found.values()))
    for at in [0, *(i + 1 for i, c in enumerate(first) if c == "/")]:
        if first[at:] in labels and all(path.startswith(first[:at]) for path in found.values()):
            return first[:at]
    return ""
