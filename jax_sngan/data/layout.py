"""What a folder is: which of its files are the images of which split, what their classes are, and what is left out.

Decided here, from names alone, for folders and archives, for training, streams and evaluation.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from jax_sngan.data import image_formats, labels_file
from jax_sngan.data.labels_file import LABELS_FILE, NAMED, some
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown

# What people call the parts of a data set -> what they are. Looked for in any case, with and without a word for
# "images" or "set" beside it (test_set, seg_train), the year (val2017) or a domain (trainA).
_KINDS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "other": ("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "holdout"),
}
_KIND = {word: kind for kind, words in _KINDS.items() for word in words}
_FILLERS = {"set", "split", "data", "dataset", "image", "images", "img", "imgs", "pics", "pictures", "photos", "seg"}
_MASKS = {"mask", "masks", "label", "labels", "annotations", "segmentations", "gt", "ground_truth", "depth"}
_SYSTEM = re.compile(  # what operating systems, file managers and network drives put beside images
    r"\..*|__macosx.*|@eadir|@recycle|@recently-snapshot|#recycle|#snapshot|thumbs\.db|ehthumbs\.db|desktop\.ini"
    r"|lost\+found|\$recycle\.bin|system volume information|synophoto_thumb.*|icon\r",
    re.IGNORECASE,
)
SHOWN_CLASSES = 12
_SPLITS = {"train": ("train",), "test": ("test", "val")}

Parts = tuple[str, ...]  # of a path


@dataclass(frozen=True)
class Layout:
    """The images of one split, in an order that depends on their names alone, and what became of all other files."""

    names: tuple[str, ...]  # relative to the folder or archive, sorted
    labels: np.ndarray  # int32 [n]
    classes: tuple[str, ...]  # () where there are no labels
    files: int  # all files that are there
    split: str = ""  # the folder of the split that was chosen
    counts: dict[str, int] = field(default_factory=dict)  # images of each split by its folder; {} without splits
    strays: tuple[str, ...] = ()  # images that lie beside the splits or classes
    left_out: dict[str, int] = field(default_factory=dict)  # what else is there, "3 .txt" say: what -> how many
    others: dict[str, str] = field(default_factory=dict)  # what is no file: name -> what it is
    broken: dict[str, str] = field(default_factory=dict)  # images left out since they cannot be read: name -> why
    remark: str = ""  # what else a person should know

    def about(self) -> dict[str, Any]:
        """All but the images, their labels and classes, as JSON has it; `Layout(names, labels, classes, **about)`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("names", "labels", "classes")}

    def without(self, broken: dict[int, str]) -> "Layout":
        """Without images that cannot be read: row -> why."""
        rows = np.setdiff1d(np.arange(len(self.names)), list(broken))
        counts = self.counts | ({self.split: len(rows)} if self.counts else {})
        named = {self.names[row]: why for row, why in sorted(broken.items())}
        names = tuple(self.names[row] for row in rows)
        return replace(self, names=names, labels=self.labels[rows], counts=counts, broken=named)

    def told(self) -> str:
        """How the files that are there add up, for a person; "" where each is an image of this split."""
        if len(self.labels) == self.files:
            return self.remark
        parts = [f"{count:,} {shown(split)}" for split, count in self.counts.items()]
        if not parts:
            parts = [f"{len(self.labels):,} images"]
        if self.strays:
            parts.append(f"{some(len(self.strays), 'image', self.strays)} beside them")
        if self.broken:
            parts.append(f"{some(len(self.broken), 'broken image', self.broken)}")
        left = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        named, rest = left[:NAMED], sum(count for _, count in left[NAMED:])
        for what, count in named:
            need = image_formats.needs(what)
            parts.append(f"{count:,} {shown(what)}" + (f" (to read them: {need})" if need else ""))
        parts += [f"{rest:,} of {len(left) - NAMED} other kinds"] if rest else []
        if self.others:
            parts.append(f"{len(self.others):,} that are no files ({self._others()})")
        return f"of {self.files:,} files: {', '.join(parts)}" + (f"; {self.remark}" if self.remark else "")

    def notes(self, where: str) -> list[str]:
        """Lines for what is left out, beside the other splits."""
        lines = []
        if self.others:
            lines.append(f"{where}: passed over, for they are no files: {self._others()}")
        if self.strays or self.left_out or self.broken or self.remark:
            lines.append(f"{where}: {self.told()}")
        return [shown(line) for line in lines]

    def _others(self) -> str:
        """What is no file, the first of them by name."""
        kinds = [f"{shown(name)!r} is {kind}" for name, kind in list(self.others.items())[:NAMED]]
        more = f", and {len(self.others) - NAMED:,} more" if len(self.others) > NAMED else ""
        return f"{', '.join(kinds)}{more}"


def shown_classes(classes: tuple[str, ...]) -> str:
    """Names of classes for a line, the first of them where there are many."""
    more = f", … {shown(classes[-1])}" if len(classes) > SHOWN_CLASSES else ""
    return ", ".join(map(shown, classes[:SHOWN_CLASSES])) + more


def is_hidden(name: str) -> bool:
    """Whether a path, or a folder that it lies in, is hidden or an operating system's own."""
    return any(_SYSTEM.fullmatch(part) for part in name.split("/"))


def is_image(name: str) -> bool:
    """Whether a path is an image by its ending, and nothing that a system put there."""
    return image_formats.ending(name) in image_formats.endings() and not is_hidden(name)


def sorting(name: str) -> tuple[str, str]:
    """What paths are sorted by: one spelling of their characters, so that a copy on another system has their order."""
    return unicodedata.normalize("NFC", name), name


def natural(name: str) -> tuple[Any, ...]:
    """What names of classes are sorted by: runs of digits as numbers, 2 before 10."""
    digits = re.split("([0-9]+)", name)
    return (*((len(d.lstrip("0")), d.lstrip("0")) if i % 2 else d for i, d in enumerate(digits)), name)


def split_kind(folder: str) -> str | None:
    """train, test, val or other, where a folder is called as a split is; else None."""
    word = folder.lower()
    if word in _KIND:
        return _KIND[word]
    word = re.sub(r"[ _.-]?(19|20)[0-9]{2}$", "", word)
    word = re.sub(r"^(train|test|val)[ _.-]?([ab]|[0-9]{1,2})$", r"\1", word)  # CycleGAN's two domains; parts
    words = [w for w in re.split(r"[ _.-]+", word) if w and w not in _FILLERS]
    joined = "".join(words)
    return _KIND.get(joined) or _KIND.get(re.sub("(set|data|images)$", "", joined))


def paired_kinds(folders: Iterable[str]) -> dict[str, str]:
    """Folders whose names are the same but for the word of a split: x_train and x_test, train256 and val256."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    kinds: dict[tuple[str, ...], set[str]] = {}
    for folder in folders:
        words = re.findall(r"[^\W\d_]+|[0-9]+", folder.lower())
        while words and words[0].isdigit():  # 1_train, 2_test
            words = words[1:]
        at = next((i for i, word in enumerate(words) if split_kind(word)), None)
        if at is not None:
            kind, rest = split_kind(words[at]) or "", (*words[:at], *words[at + 1 :])
            found[folder] = kind, rest
            kinds.setdefault(rest, set()).add("test" if kind == "val" else kind)
    return {folder: kind for folder, (kind, rest) in found.items() if len(kinds[rest]) > 1}


def arrange(
    names: list[str],
    split: str,
    where: str,
    *,
    others: dict[str, str] | None = None,
    labels: bytes | None = None,
) -> Layout:
    """Chooses the images of a split and reads their classes from their folders.

    A folder that holds all the rest counts as a wrapping and is looked through. Where what is left are folders called
    train and test (or as people call these), they are the splits, and images beside them are strays; without them
    every image is training data. Below that, or above it, two or more folders are the classes, numbered by name over
    all splits; fewer images beside them are strays, as many or more make it a folder without classes.

    Args:
      names: every file's path with forward slashes, relative to the folder or archive.
      split: "train" or "test".
      where: the folder or archive, for errors.
      others: what is there and no file.
      labels: contents of StyleGAN2-ADA's dataset.json, where there is one.
    Raises:
      UserError: no images, or none of that split, or it can't be told which.
    """
    others = dict(sorted((others or {}).items()))  # a disk lists them in any order
    images = sorted((name for name in names if is_image(name)), key=sorting)
    left = Counter("hidden" if is_hidden(n) else image_formats.ending(n) or "without ending" for n in names)
    for name in images:
        left[image_formats.ending(name)] -= 1
    if labels is not None:
        left[".json"] -= 1
        left[LABELS_FILE] = 1
    counted = sum(kind != "a folder" for kind in others.values())
    about: dict[str, Any] = {"files": len(names) + counted, "left_out": dict(+left), "others": others}
    if not images:
        told = Layout((), np.zeros(0, np.int32), (), **about).told()
        more = f" ({told})" if names or others else ""
        raise UserError(f"{where} holds no images; looked for files in {', '.join(image_formats.suffixes())}{more}")
    if labels is not None and (given := labels_file.given_labels(images, labels, where)) is not None:
        if split == "test":
            raise UserError(f"{where} has no test images: its {LABELS_FILE} sets none apart")
        return Layout(tuple(images), *given, **about)
    paths = {name: tuple(unicodedata.normalize("NFC", name).split("/")) for name in images}
    paths, around = _unwrapped(paths)
    parts, kinds, strays = _splits(paths, where)
    if not parts:
        if split == "test":
            raise UserError(f"{where} has no test images: none were set apart in a folder test (beside train)")
        kept, classes, loose, remark = _classes({"": paths}, "", where)
        return _layout(kept, classes, (*around, *loose), about | {"remark": remark})
    chosen = _chosen(kinds, split, where)
    parts = {name: _unwrapped_split(part, name, parts) for name, part in parts.items()}
    kept, classes, loose, remark = _classes(parts, chosen, where)
    counts = {name: len(part) for name, part in parts.items()}
    counts[chosen] = len(kept)
    about |= {"counts": counts, "split": chosen, "remark": remark}
    return _layout(kept, classes, (*around, *strays, *loose), about)


def _layout(kept: dict[str, Parts], classes: tuple[str, ...], strays: tuple[str, ...], about: dict[str, Any]) -> Layout:
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[path[0]] if classes else 0 for path in kept.values()], np.int32)
    return Layout(tuple(kept), labels, classes, strays=strays, **about)


def _unwrapped(paths: dict[str, Parts]) -> tuple[dict[str, Parts], list[str]]:
    """The paths without the folders that all of them share, as far as those are called as no split is; and strays:
    images beside such a folder, where they are fewer than those in it and there are folders in it."""
    strays: list[str] = []
    with_strays = paths
    while True:
        inside = {name: path[1:] for name, path in paths.items() if len(path) > 1}
        tops = {paths[name][0] for name in inside}
        beside = [name for name in paths if name not in inside]
        if len(tops) != 1 or split_kind(next(iter(tops))) or len(beside) >= len(inside):
            break
        if not strays:
            with_strays = paths
        strays += beside
        paths = inside
    flat = all(len(path) == 1 for path in paths.values())
    return (with_strays, []) if strays and flat else (paths, strays)


def _splits(paths: dict[str, Parts], where: str) -> tuple[dict[str, dict[str, Parts]], dict[str, str], list[str]]:
    """({folder of a split: its images' paths below it}, what each is, images beside them); all empty: no splits.

    Raises:
      UserError: it can't be told whether a folder is a split.
    """
    folders = {path[0] for path in paths.values() if len(path) > 1}
    kinds = {folder: kind for folder in sorted(folders) if (kind := split_kind(folder))}
    if not _several(kinds):
        kinds |= paired_kinds(sorted(folders))
    unknown = sorted(folders - kinds.keys())
    several = _several(kinds)
    if kinds and (several or not unknown):
        parts = {
            folder: {name: path[1:] for name, path in paths.items() if path[0] == folder and len(path) > 1}
            for folder in kinds
        }
        return parts, kinds, [name for name, path in paths.items() if path[0] not in kinds or len(path) == 1]
    if kinds:  # one, beside folders of other names: a class of trains, or splits under a name that is not known
        below = {folder: {p[1] for p in paths.values() if p[0] == folder and len(p) > 2} for folder in folders}
        for folder in kinds:
            for other in unknown:
                if below[folder] and below[folder] == below[other]:
                    raise UserError(
                        f"{where}: {shown(folder)!r} is called as a split is and {shown(other)!r} has the same folders "
                        f"in it: rename {shown(other)!r} to train, test or val, or give {shown(folder)!r} alone"
                    )
        return {}, {}, []
    inner = {path[1] for path in paths.values() if len(path) > 2}
    deep = {path[0] for path in paths.values() if len(path) > 2}
    kinds = {folder: kind for folder in sorted(inner) if (kind := split_kind(folder))}
    if len(deep) > 1 and inner == kinds.keys() and "train" in kinds.values() and len(set(kinds.values())) > 1:
        # cat/train, cat/test, dog/train, ...: the splits lie below the classes
        parts = {
            folder: {name: (p[0], *p[2:]) for name, p in paths.items() if len(p) > 2 and p[1] == folder}
            for folder in kinds
        }
        return parts, kinds, [name for name, path in paths.items() if len(path) <= 2]
    return {}, {}, []


def _several(kinds: dict[str, str]) -> bool:
    return len({"test" if kind == "val" else kind for kind in kinds.values()}) > 1


def _chosen(kinds: dict[str, str], split: str, where: str) -> str:
    """The folder of a split; kinds: of all that are there.

    Raises:
      UserError: there is none, or more than one.
    """
    for kind in _SPLITS[split]:
        found = sorted(folder for folder, own in kinds.items() if own == kind)
        if len(found) > 1:
            raise UserError(
                f"{where} has {len(found)} folders for {kind} ({', '.join(map(shown, found))}): put them into one, "
                "or give the one that is meant"
            )
        if found:
            return found[0]
    there = ", ".join(map(shown, sorted(kinds)))
    raise UserError(f"{where} has no {' or '.join(_SPLITS[split])} folder, only {there}")


def _unwrapped_split(part: dict[str, Parts], name: str, parts: dict[str, dict[str, Parts]]) -> dict[str, Parts]:
    """A split's paths without a folder that holds all of it, where that is not one of the classes."""
    while True:
        tops = {path[0] for path in part.values()}
        if len(tops) > 1 or any(len(path) == 1 for path in part.values()):
            return part
        top = next(iter(tops))
        elsewhere = [{path[0] for path in p.values() if len(path) > 1} for other, p in parts.items() if other != name]
        if not split_kind(top) and any(top in folders and len(folders) > 1 for folders in elsewhere):
            return part
        part = {image: path[1:] for image, path in part.items()}


def _classes(
    parts: dict[str, dict[str, Parts]], chosen: str, where: str
) -> tuple[dict[str, Parts], tuple[str, ...], list[str], str]:
    """(the chosen split's images, classes over all splits, strays beside them, a remark) of splits; no class: ().

    Raises:
      UserError: they are images and their masks.
    """
    folders: set[str] = set()
    for part in parts.values():
        loose = sum(len(path) == 1 for path in part.values())
        if 2 * loose < len(part):
            folders |= {path[0] for path in part.values() if len(path) > 1}
    if (masks := {f for f in folders if f.lower() in _MASKS}) and {f.lower() for f in folders} & _FILLERS:
        told = ", ".join(map(shown, sorted(folders)))
        raise UserError(f"{where} holds {told}: {shown(min(masks))!r} is no class; give the folder of images alone")
    own = parts[chosen]
    beside = [name for name, path in own.items() if len(path) == 1]
    inside = {path[0] for path in own.values() if len(path) > 1}
    if len(folders) < 2 or 2 * len(beside) >= len(own):
        several = len(inside) > 1 and beside
        return own, (), [], f"no classes, for {len(beside):,} images lie beside the folders" if several else ""
    kept = {name: path for name, path in own.items() if len(path) > 1}
    return kept, tuple(sorted(folders, key=natural)), beside, ""
