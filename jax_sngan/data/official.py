"""The original files of MNIST, Fashion-MNIST and CIFAR: found on disk or fetched, and read."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from jax_sngan.system import archives, downloads, plain_pickle
from jax_sngan.system.archives import damaged
from jax_sngan.system.budget import Budget
from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import open_regular

NAMES = (*downloads.IDX, *downloads.CIFAR)
DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # package dataset-fashion-mnist
OFFICIAL_SIZES = {"train": {"fashion_mnist": 60_000, "mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}}
OFFICIAL_SIZES["test"] = dict.fromkeys(OFFICIAL_SIZES["train"], 10_000)

CLASSES: dict[str, tuple[str, ...]] = {
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": (
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
        "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee",
        "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
        "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower",
        "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
        "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate",
        "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark",
        "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower",
        "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train", "trout", "tulip",
        "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    ),
}  # fmt: skip
LARGEST_ARRAY = 2**30  # bytes in one IDX file; the largest of the MNIST family has 0.55e9
LARGEST_BATCH = 2**28  # bytes in one CIFAR batch; the largest has 0.16e9

_CIFAR_FOLDERS = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-batches-bin"),
    "cifar100": ("cifar-100-python", "cifar-100-binary"),
}
_CIFAR_BATCHES = {
    ("cifar10", "train"): tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("cifar10", "test"): ("test_batch",),
    ("cifar100", "train"): ("train",),
    ("cifar100", "test"): ("test",),
}


def load_official(
    source: str, *, split: str, data_dir: Path | None, cache: Path, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """One split of an official data set.

    Args:
      source: one of NAMES.
      split: "train" or "test".
      data_dir: folder with the files, or with a folder of them. None: where Debian's package puts them, then among
        earlier downloads in `cache`, else they are downloaded.
      cache: folder for downloads.
      progress: show a bar while downloading.
    Returns:
      uint8 [n, h, w, c] as they are stored, int32 [n]; CIFAR-100's labels are the 100 fine ones.
    Raises:
      UserError: a file is nowhere to be had, damaged or incomplete.
    """
    read = _load_idx if source in downloads.IDX else _load_cifar
    return read(source, split, data_dir, cache / "downloads" / source, progress)


def belongs_to(path: Path) -> str | None:
    """The source whose original archive or unpacked folder a path is by its name, for CIFAR; else None."""
    for source, files in downloads.CIFAR.items():
        if path.name in {f.name for f in files} or path.name in _CIFAR_FOLDERS[source]:
            return source
    return None


def _fetch(source: str, file: downloads.OfficialFile, folder: Path, progress: bool) -> Path:
    try:
        return downloads.fetch(file, folder, progress=progress)
    except UserError as e:
        debian = ", or install Debian's package dataset-fashion-mnist" if source == "fashion_mnist" else ""
        raise UserError(
            f"{source}: {file.name} is not in {folder} and cannot be downloaded ({e}); "
            f"get it from {file.url} and give its folder with --data-dir{debian}"
        ) from e


def _load_idx(
    source: str, split: str, data_dir: Path | None, downloaded: Path, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    prefix = {"train": "train", "test": "t10k"}[split]
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    paths = _find_idx(source, names, data_dir)
    if paths is None:
        wanted = [downloads.IDX[source][f"{name}.gz"] for name in names]
        paths = [_fetch(source, file, downloaded, progress) for file in wanted]
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(images) != len(labels):
        raise UserError(f"{paths[0]} has {len(images)} images and {paths[1]} has {len(labels)} labels")
    if labels.max() >= len(CLASSES[source]):
        raise UserError(f"{paths[1]}: labels must lie in 0 to {len(CLASSES[source]) - 1}, got {labels.max()}")
    return images[..., None], labels.astype(np.int32)


def _find_idx(source: str, names: list[str], data_dir: Path | None) -> list[Path] | None:
    """The files of these names, all in one folder; None if they are to be downloaded."""
    base = data_dir or DEBIAN.get(source)
    if base is None:
        return None
    url = downloads.IDX[source][f"{names[0]}.gz"].folders[0]
    torchvision = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}[source]
    places = [base / p for p in ("", source, source.replace("_", "-"), torchvision, "raw")]
    for place in places:
        found = [_one_idx(place, name) for name in names]
        if all(found):
            return [path for path in found if path is not None]
        if any(found):
            raise UserError(f"{source}: {names[found.index(None)]}[.gz] is missing in {place}; get it from {url}")
    if data_dir is None:
        return None
    raise UserError(f"{source}: no {names[0]}[.gz] and {names[1]}[.gz] in {data_dir}; get them from {url}")


def _one_idx(folder: Path, name: str) -> Path | None:
    spellings = (name, name.replace("-idx", ".idx"))  # some copies have a dot there
    return next((path for n in spellings for path in (folder / n, folder / f"{n}.gz") if path.is_file()), None)


def _load_cifar(
    source: str, split: str, data_dir: Path | None, downloaded: Path, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    files = downloads.CIFAR[source]
    batches = _CIFAR_BATCHES[source, split]
    found = _find_cifar(source, batches, data_dir or downloaded)
    if found is None and data_dir is not None:
        names = [f.name for f in files] + list(_CIFAR_FOLDERS[source])
        raise UserError(f"{source}: none of {', '.join(names)} in {data_dir}; get {files[0].url} and put it there")
    if data_dir is None and (found is None or found.is_file()):  # a download is checked every time, and mended
        file = next((f for f in files if found is not None and f.name == found.name), files[0])
        found = _fetch(source, file, downloaded, progress)
    assert found is not None
    contents = _cifar_archive(found, batches) if found.is_file() else _cifar_folder(found, batches)
    labels = {"cifar10": 1, "cifar100": 2}[source]  # bytes before an image: cifar-100 has the coarse class first
    return read_cifar(contents, labels=labels, which=labels - 1, classes=len(CLASSES[source]))


def _find_cifar(source: str, batches: tuple[str, ...], base: Path) -> Path | None:
    """The archive or the folder of batches in or below a folder."""
    for place in (base, base / source):
        if any((place / f"{batch}{end}").is_file() for batch in batches for end in (".bin", "")):
            return place
        for name in _CIFAR_FOLDERS[source]:
            if (place / name).is_dir():
                return place / name
        for file in downloads.CIFAR[source]:
            if (place / file.name).is_file():
                return place / file.name
    return None


def _cifar_archive(path: Path, batches: tuple[str, ...]) -> dict[str, bytes]:
    wanted = {f"{batch}{end}" for batch in batches for end in (".bin", "")}
    contents = {}
    for name, data in archives.members(path, lambda n: n.rpartition("/")[2] in wanted, LARGEST_BATCH):
        if data is not None:
            contents[name.rpartition("/")[2]] = data
    ordered = {}
    for batch in batches:
        there = next((name for name in (f"{batch}.bin", batch) if name in contents), None)
        if there is None:
            raise damaged(path, f"it has no {batch}[.bin]")
        ordered[f"{path}: {there}"] = contents[there]
    return ordered


def _cifar_folder(path: Path, batches: tuple[str, ...]) -> dict[str, bytes]:
    contents = {}
    for batch in batches:
        file = next((f for end in (".bin", "") if (f := path / f"{batch}{end}").is_file()), None)
        if file is None:
            raise damaged(path, f"it has no {batch}[.bin]")
        try:
            with open_regular(file) as opened:
                contents[str(file)] = opened.read(LARGEST_BATCH + 1)
        except OSError as e:
            raise UserError(f"{file} cannot be read: {e.strerror}") from e
        if len(contents[str(file)]) > LARGEST_BATCH:
            raise UserError(f"{file} has {file.stat().st_size} bytes; at most {LARGEST_BATCH} are read")
    return contents


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of bytes, gzipped if its name ends in .gz (LeCun, yann.lecun.com/exdb/mnist).

    Args:
      path: the file.
      dimensions: how many it must have: 3 for images, 1 for labels.
    Returns:
      uint8 array of the shape in its header.
    Raises:
      UserError: it is missing, damaged, cut short or of another kind.
    """
    try:
        with open_regular(path) as file, gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file as f:
            budget = Budget(path, os.fstat(file.fileno()).st_size, in_memory=True)
            magic = f.read(4)
            if magic != bytes((0, 0, 8, dimensions)):  # 8: unsigned bytes
                raise damaged(path, f"not an IDX file of bytes in {dimensions} dimensions")
            header = f.read(4 * dimensions)
            sizes = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
            expected = math.prod(sizes)
            if len(header) != 4 * dimensions or not 0 < expected <= LARGEST_ARRAY:
                raise damaged(path, f"a header of shape {list(sizes)}")
            budget.bytes(expected + 1)  # one more: gzip compares its checksum at the end, and there must be no rest
            data = f.read(expected + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise damaged(path, e) from e
    if len(data) != expected:
        got = "more" if len(data) > expected else len(data)
        raise damaged(path, f"its shape {list(sizes)} needs {expected} bytes, there are {got}")
    return np.frombuffer(data, np.uint8).reshape(sizes)


def read_cifar(batches: dict[str, bytes], labels: int, which: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR batches, of the binary or of the python kind (Krizhevsky, www.cs.toronto.edu/~kriz/cifar.html).

    Args:
      batches: contents by what to call them in an error; names in .bin are binary, others pickles, which are read
        and not unpickled (system/plain_pickle.py).
      labels: bytes of labels before each binary image.
      which: which of them is the class.
      classes: labels lie below.
    Returns:
      uint8 [n, 32, 32, 3] images and int32 [n] labels, in the order of batches.
    Raises:
      UserError: a batch is damaged, cut short or of another kind.
    """
    parts = []
    for name, data in batches.items():
        if name.endswith(".bin"):
            record = labels + 3072
            if not data or len(data) % record:
                raise UserError(f"{name} is damaged or incomplete: {len(data)} bytes are no multiple of {record}")
            rows = np.frombuffer(data, np.uint8).reshape(-1, record)
            pixels, numbers = rows[:, labels:], rows[:, which]
        else:
            try:
                batch = plain_pickle.read_dict(data)
                pixels, numbers = batch["data"], batch["labels"] if "labels" in batch else batch["fine_labels"]
            except (ValueError, KeyError) as e:
                raise UserError(f"{name} is no CIFAR batch that can be read: it holds {e}"[:300]) from e
            if not isinstance(pixels, np.ndarray):
                raise UserError(f"{name}: data must be an array, got {type(pixels).__name__}")
            if isinstance(numbers, list) and all(type(n) is int and abs(n) < 2**31 for n in numbers):
                numbers = np.array(numbers, np.int64)
            if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072 or not len(pixels):
                raise UserError(f"{name}: data must be uint8 [n, 3072], got {pixels.dtype} {list(pixels.shape)}")
            if (
                not isinstance(numbers, np.ndarray)
                or numbers.dtype.kind not in "iu"
                or numbers.shape != pixels.shape[:1]
            ):
                raise UserError(f"{name}: labels must be one integer an image")
        if numbers.min() < 0 or numbers.max() >= classes:
            raise UserError(f"{name}: labels must lie in 0 to {classes - 1}, got {numbers.min()} to {numbers.max()}")
        parts.append((pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), numbers.astype(np.int32)))
    return np.concatenate([p for p, _ in parts]), np.concatenate([n for _, n in parts])
