"""Chooses the images that ship as `--data fashion`: the first 1,000 of each class of Fashion-MNIST's training images.

Writes jax_sngan/datasets/fashion10k.npz from the official files (by default where the Debian package
dataset-fashion-mnist puts them); --verify compares instead, and writes nothing.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from jax_sngan.commands import cli
from jax_sngan.data.official import DEBIAN, load_official
from jax_sngan.system.files import write_whole
from jax_sngan.system.npz import read_npz

TARGET = Path(__file__).parents[1] / "datasets/fashion10k.npz"
A_CLASS = 1_000  # images


def choose(labels: np.ndarray) -> np.ndarray:
    """Where the first A_CLASS images of each class lie in labels [n], in ascending order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:A_CLASS] for c in range(10)]))


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """A compressed npz without the time of day in it: the same arrays give the same bytes with the same zlib."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=7) as archive:
        for name, array in arrays.items():
            contents = io.BytesIO()
            np.lib.format.write_array(contents, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, contents.getvalue(), compresslevel=7)
    return packed.getvalue()


def _same(array: np.ndarray, kept: np.ndarray | None) -> bool:
    return kept is not None and array.dtype == kept.dtype and np.array_equal(array, kept)


def main() -> int:
    """Runs the command; its exit code."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--source", type=Path, default=DEBIAN["fashion_mnist"], help="folder of the official IDX files")
    parser.add_argument("--target", type=Path, default=TARGET, help="the npz to write or to compare")
    parser.add_argument("--verify", action="store_true", help="compare with the official files; exit 1 if it differs")
    options = parser.parse()
    images, labels = load_official("fashion_mnist", split="train", data_dir=options.source, cache=options.source)
    chosen = choose(labels)
    arrays = {
        "images": images[chosen, ..., 0],  # uint8 [10000, 28, 28]
        "labels": labels[chosen].astype(np.uint8),
        "indices": chosen.astype("<i4"),  # of each image in the official file, from 0
    }
    if options.verify:
        kept = dict(zip(arrays, read_npz(options.target, *((name,) for name in arrays)), strict=True))
        wrong = [name for name, array in arrays.items() if not _same(array, kept[name])]
        if wrong:
            print(f"{options.target}: {', '.join(wrong)} differ")
        else:
            same = options.target.read_bytes() == pack(arrays)
            print(f"{options.target}: same arrays, {'same' if same else 'other'} bytes")
        return 1 if wrong else 0
    write_whole(options.target, lambda path: path.write_bytes(pack(arrays)))
    print(f"{options.target}: {len(chosen)} images, {options.target.stat().st_size} bytes")
    return 0
