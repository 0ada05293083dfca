"""Reads a .safetensors file: names -> numpy arrays; the format is a length, a JSON header and the arrays' bytes."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from jax_sngan.system.errors import UserError

_DTYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a file, in the order that its header has them.

    Raises:
      UserError: the file is damaged, or holds a type that numpy has not.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    contents = path.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    if len(contents) < 8 or length > min(_LONGEST_HEADER, len(contents) - 8):
        raise UserError(f"{path} is damaged: its header does not fit into it")
    try:
        header = json.loads(contents[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: its header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise UserError(f"{path} is damaged: its header is no object")
    data = memoryview(contents)[8 + length :]
    return {name: _array(path, name, entry, data) for name, entry in header.items() if name != "__metadata__"}


def _array(path: Path, name: str, entry: object, data: memoryview) -> np.ndarray:
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    whole = all(isinstance(a, list) and all(type(n) is int and n >= 0 for n in a) for a in (shape, offsets))
    if not whole or not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise UserError(f"{path} is damaged: {name} has no dtype, shape and data_offsets")
    if kind not in _DTYPES:
        raise UserError(f"{path}: {name} is of dtype {kind!r}, none of {', '.join(_DTYPES)}")
    dtype, (start, end) = _DTYPES[kind], offsets
    count = 1
    for n in shape:
        count *= n
    if not start <= end <= len(data) or end - start != count * dtype.itemsize:
        raise UserError(f"{path} is damaged: {name} has other bytes than its shape")
    return np.frombuffer(data[start:end], dtype).reshape(shape)
