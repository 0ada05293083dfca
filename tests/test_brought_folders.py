"""Folders and archives as people might bring them, drawn by hypothesis: training, streams and evaluation see the same
images, classes and labels, or all refuse in one line; no file is dropped without being counted.

The long form: `pytest -m long -s tests/test_brought_folders.py`.
"""

import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from image_files import (
    encoded,
    load,
    only_our_cache,  # noqa: F401  # a fixture of every test here
    put,
)
from PIL import Image

from jax_sngan.data.datasets import Dataset
from jax_sngan.evaluation import sources
from jax_sngan.system.errors import UserError

FOLDERS = (
    "train", "Training", "test", "Testing", "val", "pred", "cat", "dog", "1", "2", "10", "caf\u00e9", "cafe\u0301",
    "images", "seg_train", "@eaDir", ".hidden", "__MACOSX",
)  # fmt: skip
IMAGES = {
    "a.png": "PNG",
    "b.PNG": "PNG",
    "c.jpg": "JPEG",
    "d.gif": "GIF",
    "e.bmp": "BMP",
    "f.jfif": "JPEG",
    "g.tga": "TGA",
}
OTHERS = {
    "notes.txt": b"hello", "Thumbs.db": b"x", "x.heic": b"x", ".DS_Store": b"", "raw": b"x", "labels.csv": b"a,1",
    "dataset.json": b"{}",
}  # fmt: skip
BROKEN = {"p.png": b"", "q.png": b"no image", "r.jpg": b"version https://git-lfs.github.com/spec/v1\n"}
CUT = "s.png"  # whose header is sound, and whose end is not there
LINKS = {"l.png": "a.png", "m.png": "../a.png", "n.png": "nowhere.png"}

NAMES = st.sampled_from([*IMAGES, *IMAGES, *IMAGES, *OTHERS, *BROKEN, CUT, *LINKS])
PATHS = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), NAMES).map(lambda p: "/".join([*p[0], p[1]]))
TREES = st.one_of(
    st.lists(PATHS, min_size=1, max_size=12, unique=True),
    # As most people have them: splits, classes in them, and something beside.
    st.builds(
        lambda splits, classes, files, more: [f"{s}/{c}/{f}" for s in splits for c in classes for f in files] + more,
        st.lists(st.sampled_from(FOLDERS[:6]), max_size=3, unique=True).map(lambda s: s or ["all"]),
        st.lists(st.sampled_from(FOLDERS[6:13]), min_size=1, max_size=3, unique=True),
        st.lists(st.sampled_from(list(IMAGES)), min_size=1, max_size=2, unique=True),
        st.lists(PATHS, max_size=4, unique=True),
    ).map(lambda paths: list(dict.fromkeys(paths))),
)


def contents(paths: list[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """(files, links) of a tree; no two images have the same pixels."""
    files, links = {}, {}
    for i, path in enumerate(sorted(paths)):
        name = path.rpartition("/")[2]
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        if name in LINKS:
            links[path] = LINKS[name]
        elif name == CUT:
            files[path] = encoded(pixels)[:-30]
        elif name in IMAGES:
            files[path] = encoded(pixels, IMAGES[name])
        else:
            files[path] = OTHERS.get(name) or BROKEN.get(name) or b""
    return files, links


def written(folder: Path, kind: str, files: dict[str, bytes], links: dict[str, str]) -> Path:
    """The tree as a folder, a tar or a zip."""
    path = folder / {"folder": "x", "tar": "x.tar", "zip": "x.zip"}[kind]
    if kind == "folder":
        put(path, files)
        for name, target in links.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).symlink_to(target)
    elif kind == "tar":
        with tarfile.open(path, "w") as tar:
            for name, target in links.items():  # before the files that they name
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
            for name, target in links.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(entry, target)
    return path


def seen(path: Path, **options: Any) -> Dataset | str:
    """What load_data makes of it, or its one line."""
    try:
        return load(str(path), **options)
    except UserError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) < 2500
        return line


def facts(found: Dataset | str) -> tuple[Any, ...]:
    """What must be equal; of a refusal, that it is one."""
    if isinstance(found, str):
        return ("refused",)
    told = found.told.replace(
        "a link out of the archive", "a link to nothing"
    )  # outside of the folder nothing is there
    return (np.asarray(found.images[:]).tobytes(), found.labels.tobytes(), found.classes, found.files, told)


def by_pillow(files: dict[str, bytes], links: dict[str, str]) -> dict[bytes, list[str]]:
    """Pixels, decoded by Pillow alone, -> the paths that have them."""
    found: dict[bytes, list[str]] = {}
    real = {path: path for path in files} | {
        path: os.path.normpath(os.path.join(os.path.dirname(path), target)) for path, target in links.items()
    }
    for path, at in real.items():
        if at.rpartition("/")[2] in IMAGES and at in files:
            pixels = np.asarray(Image.open(io.BytesIO(files[at])).convert("RGB")).tobytes()
            found.setdefault(pixels, []).append(path)
    return found


def check_counts(found: Dataset, there: int) -> None:
    """The counts in the summary add up to the files that are there."""
    line = found.told
    if not line.startswith("of "):
        assert len(found) == there, line
        return
    plain = re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)", "", line.partition("; ")[0])  # names stand in brackets
    total, *parts = (int(n.replace(",", "")) for n in re.findall(r"(?:^of |: |, )([0-9,]*[0-9])(?= )", plain))
    assert total == there, line
    assert sum(parts) == total, line


def one(paths: list[str]) -> str:
    """A tree in all three forms; returns what came of it."""
    files, links = contents(paths)
    outcome = ""
    with tempfile.TemporaryDirectory() as temporary:
        for skip in (False, True):
            for split in ("train", "test"):
                options: dict[str, Any] = {"split": split, "skip_broken": skip, "cache_dir": Path(temporary) / "cache"}
                expected: tuple[Any, ...] | None = None
                for kind in ("folder", "tar", "zip"):
                    home = Path(temporary) / kind
                    home.mkdir(exist_ok=True)
                    path = written(home, kind, files, links) if not any(home.iterdir()) else next(home.iterdir())
                    memory, stream = seen(path, stream="never", **options), seen(path, stream="always", **options)
                    assert facts(memory) == facts(stream), (memory, stream)
                    expected = expected or facts(memory)
                    assert facts(memory) == expected, kind
                    again = seen(path, stream="never", **options)
                    assert facts(again) == expected, "from the cache"
                    if isinstance(memory, Dataset):
                        outcome = outcome or f"{len(memory.classes)} classes"
                        check_counts(memory, len(files) + len(links))
                        check_images(memory, by_pillow(files, links))
                    if split == "train" and not skip:
                        check_evaluation(path, memory)
        shutil.rmtree(Path(temporary) / "cache", ignore_errors=True)
    return outcome or "refused"


def check_images(found: Dataset, known: dict[bytes, list[str]]) -> None:
    """Each is what Pillow makes of a file, which lies in a folder called as its class is; none comes twice."""
    left = {pixels: list(paths) for pixels, paths in known.items()}
    for image, label in zip(found.images, found.labels, strict=True):
        paths = left.get(image.tobytes(), [])
        fitting = [
            p for p in paths
            if not found.classes or found.classes[label] in unicodedata.normalize("NFC", p).split("/")[:-1]
        ]  # fmt: skip
        assert fitting, "no file has these pixels and lies in a folder of this class"
        paths.remove(fitting[0])


def check_evaluation(path: Path, memory: Dataset | str) -> None:
    """evaluate sees what training sees."""
    if isinstance(memory, str):
        with pytest.raises(UserError):
            sources.GivenImages(path)
        return
    scored = sources.GivenImages(path)
    assert (scored.total, scored.classes) == (len(memory), len(memory.classes))
    images, labels = next(scored.batches(len(memory), 0))
    ours = Counter(zip((i.tobytes() for i in images), labels if labels is not None else [0] * len(images), strict=True))
    assert ours == Counter(zip((i.tobytes() for i in memory.images), memory.labels, strict=True))


def run_cases(count: int, number: int) -> Counter[str]:
    outcomes = Counter[str]()

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(TREES)
    def case(paths: list[str]) -> None:
        outcomes[one(paths)] += 1

    case()
    return outcomes


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.long)])
def test_training_streams_and_evaluation_see_the_same(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = run_cases(count, count)
    capfd.readouterr()  # the notes
    print(dict(outcomes))
    assert outcomes.total() >= count
    assert outcomes["refused"] > count // 20  # the generator makes what is refused,
    assert outcomes["0 classes"] > count // 20
    assert outcomes["2 classes"] + outcomes["3 classes"] > count // 20  # and what has classes
