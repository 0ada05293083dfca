"""An npz of images that are written as they are made, and so never all in memory."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def write_images(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, batches: Iterable[np.ndarray], others: dict[str, np.ndarray]
) -> None:
    """Writes exactly this path, compressed, as np.savez_compressed would.

    Args:
      shape: [n, h, w, c] of all images. dtype: theirs.
      batches: parts [m, h, w, c] in their order.
      others: arrays by name, beside `images`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as f:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(f, header)
            for batch in batches:
                f.write(np.ascontiguousarray(batch, dtype).data)
        for name, array in others.items():
            with archive.open(f"{name}.npy", "w") as f:
                np.lib.format.write_array(f, array, allow_pickle=False)
