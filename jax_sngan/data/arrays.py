"""Images as one array: FILE.npz under the names that programs give them (ours, Keras, MedMNIST), FILE.npy."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax_sngan.data.layout import natural
from jax_sngan.system import npz
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import listed, shown

MOST_CLASSES = 100_000
_NAMED = 8  # arrays that a line names
IMAGES = {
    "train": ("images", "x", "arr_0", "x_train", "X_train", "train_images"),
    "test": ("test_images", "x_test", "X_test", "val_images", "x_val", "X_val"),
}
LABELS = {
    "train": ("labels", "y", "arr_1", "y_train", "Y_train", "train_labels"),
    "test": ("test_labels", "y_test", "Y_test", "val_labels", "y_val", "Y_val"),
}


class Images(NamedTuple):
    """What a file holds."""

    images: np.ndarray  # uint8 [n, h, w, c]
    labels: np.ndarray  # int32 [n]; zeros where there are none
    classes: tuple[str, ...]  # numbers as text; () where there are no labels
    unlabelled: str  # why labels that are there are not read; "" where they are, or there are none


def read(path: Path, split: str) -> Images:
    """Images, labels and classes of an npz, or images of an npy.

    Labels are integers or names [n] or [n, 1], or rows with a single 1 [n, k]. Others leave the images without labels.
    The classes are those of both splits.

    Raises:
      UserError: no images of the split, or none of the shapes and types above; damaged.
    """
    if path.suffix.lower() == ".npy":
        if split == "test":
            raise UserError(f"{path} holds no test images: it is one array")
        images = _checked_images(npz.read_npy(path), path)
        return Images(images, np.zeros(len(images), np.int32), (), "")
    other = {"train": "test", "test": "train"}[split]
    problem, numbers = "", None
    try:
        found, labels, beside = npz.read_npz(path, IMAGES[split], LABELS[split], LABELS[other], texts=True)
    except npz.NotPlain as error:  # pickled labels say nothing of the images
        (found,), labels, beside, problem = npz.read_npz(path, IMAGES[split]), None, None, str(error)
    if found is None:
        names = listed([shown(name) for name in npz.names_in(path)], _NAMED)
        raise UserError(
            f"{path} holds no {split} images; looked for an array named {', '.join(IMAGES[split])}; it holds {names}"
        )
    images = _checked_images(found, path)
    if problem:
        return Images(images, np.zeros(len(images), np.int32), (), problem)
    if labels is not None and labels.dtype.kind in "US" and labels.size == len(images):
        return Images(images, *_named(labels, beside), "")
    if labels is not None:
        problem, numbers = _numbers(labels)
        if numbers is not None and len(numbers) != len(images):
            problem, numbers = f"labels must be {len(images)}, one an image, got {len(numbers)}", None
    if labels is None or numbers is None:
        return Images(images, np.zeros(len(images), np.int32), (), problem and f"{path}: {problem}")
    classes = _classes(labels, numbers)
    if beside is not None and (others := _numbers(beside)[1]) is not None:
        classes = max(classes, _classes(beside, others))
    return Images(images, numbers, tuple(str(i) for i in range(classes)), "")


def shape(path: Path) -> tuple[int, int]:
    """(pixels of the shorter side, channels) of the training images of a file. Raises UserError as read."""
    images = read(path, "train").images
    return min(images.shape[1:3]), images.shape[3]


def _checked_images(images: np.ndarray, path: Path) -> np.ndarray:
    """uint8 [n, h, w, c]."""
    if images.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8 in 0 to 255, got {images.dtype}")
    if images.ndim == 3 and images.shape[2] in (1, 3, 4):
        h, w, c = images.shape
        raise UserError(
            f"{path}: images are {list(images.shape)}: one picture of {c} channels, or {h} grey images of {w} x {c}? "
            f"Give one picture as [1, {h}, {w}, {c}], grey images as [{h}, {w}, {c}, 1]"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise UserError(
            f"{path}: images are {list(images.shape)}, as PyTorch has them, and must be [n, h, w, c]: "
            "np.moveaxis(images, 1, -1)"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise UserError(f"{path}: images must be [n, h, w] or [n, h, w, c] with c 1 or 3, got {list(images.shape)}")
    return images


def _named(labels: np.ndarray, beside: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """(int32 [n], classes) of labels that are names; beside: the other split's, whose names are classes too."""
    texts = [_texts(labels)]
    if beside is not None and beside.dtype.kind in "US":
        texts.append(_texts(beside))
    classes = tuple(sorted({name for each in texts for name in each}, key=natural))
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[name] for name in texts[0]], np.int32), classes


def _texts(labels: np.ndarray) -> list[str]:
    return [x.decode(errors="backslashreplace") if isinstance(x, bytes) else x for x in labels.ravel().tolist()]


def _numbers(labels: np.ndarray) -> tuple[str, np.ndarray | None]:
    """(why they are no labels, None) or ("", int32 [n])."""
    got = f"got {labels.dtype} {list(labels.shape)}"
    if _one_hot(labels):
        return "", labels.argmax(axis=1).astype(np.int32)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
        return f"labels must be integers [n] or [n, 1], or rows with a single 1 [n, k], {got}", None
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        return f"labels must lie in 0 to {MOST_CLASSES - 1}, got {labels.min()} to {labels.max()}", None
    return "", labels.astype(np.int32)


def _one_hot(labels: np.ndarray) -> bool:
    """Whether they are rows with a single 1."""
    if labels.ndim != 2 or labels.shape[1] < 2 or not len(labels):
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())


def _classes(labels: np.ndarray, numbers: np.ndarray) -> int:
    return labels.shape[1] if _one_hot(labels) else int(numbers.max()) + 1
