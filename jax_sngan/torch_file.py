"""A state dict out of a file that torch.save wrote, in either of its formats, read without torch; no pickle is run."""

import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jax_sngan import plain_pickle
from jax_sngan.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: the first pickle of the format before 1.6
LARGEST = 2**32  # bytes of one array

_STORAGES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ByteStorage": np.dtype("u1"),
}


class _Storage(NamedTuple):
    """Numbers one after another, in the file under a key."""

    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name.

    Args:
      path: a file of torch.save, zipped (since torch 1.6) or not, that holds a dict of tensors and nothing else.
    Raises:
      UserError: there is no such file, it is damaged, or holds something else.
    """
    try:
        with path.open("rb") as file:
            zipped = zipfile.is_zipfile(file)
            file.seek(0)
            tensors, storages = _zipped(file) if zipped else _plain(file)
        return {str(name): _array(tensor, storages) for name, tensor in tensors.items()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is damaged, or no state dict that torch.save wrote: {reason}") from error


def _pickle(data: bytes | BinaryIO) -> Any:
    def tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
        return _Tensor(storage, offset, shape, strides)

    def parameter(tensor: _Tensor, *_: Any) -> _Tensor:
        return tensor

    def storage(name: tuple[Any, ...]) -> _Storage:
        kind, dtype, key, _, count = name[:5]
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise ValueError(f"a persistent {kind!r}")
        return _Storage(dtype, str(key), int(count))

    known = {
        **_STORAGES,
        "collections OrderedDict": OrderedDict,
        "torch._utils _rebuild_tensor": tensor,
        "torch._utils _rebuild_tensor_v2": tensor,
        "torch._utils _rebuild_parameter": parameter,
    }
    return plain_pickle.read(data, known, storage)


_Contents = tuple[dict[str, _Tensor], dict[str, np.ndarray]]  # tensors by name, storages by key


def _zipped(file: BinaryIO) -> _Contents:
    with zipfile.ZipFile(file) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("its byte order is not little-endian")
        tensors = _of_tensors(_pickle(archive.read(entries["data.pkl"])))
        storages = {t.storage.key: t.storage for t in tensors.values()}
        return tensors, {key: _numbers(s, archive.read(entries[f"data/{key}"])) for key, s in storages.items()}


def _plain(file: BinaryIO) -> _Contents:
    """Five pickles (magic number, version, byte order, the dict, keys), then each storage behind its count."""
    if _pickle(file) != MAGIC:
        raise ValueError("it does not begin as torch.save begins a file")
    _pickle(file)
    if not _pickle(file).get("little_endian", True):
        raise ValueError("its byte order is not little-endian")
    tensors = _of_tensors(_pickle(file))
    by_key = {t.storage.key: t.storage for t in tensors.values()}
    storages = {}
    for key in map(str, _pickle(file)):
        storage = by_key[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.length:
            raise ValueError(f"a storage of {count} numbers where {storage.length} are used")
        storages[key] = _numbers(storage, file.read(_size(storage)))
    return tensors, storages


def _of_tensors(value: Any) -> dict[str, _Tensor]:
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not a dict")
    for name, tensor in value.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"{name!r} is a {type(tensor).__name__}, not a tensor")
    return value


def _size(storage: _Storage) -> int:
    size = storage.length * storage.dtype.itemsize
    if not 0 <= size <= LARGEST:
        raise ValueError(f"a storage of {size} bytes")
    return size


def _numbers(storage: _Storage, data: bytes) -> np.ndarray:
    if len(data) != _size(storage):
        raise ValueError(f"{len(data)} bytes where {storage.length} numbers of {storage.dtype} are used")
    return np.frombuffer(data, storage.dtype)


def _array(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    """The view as an array of its own; nothing beyond the storage is read."""
    numbers = storages[tensor.storage.key]
    if len(tensor.shape) != len(tensor.strides) or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0:
        raise ValueError(f"a tensor of shape {tensor.shape} and strides {tensor.strides}")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(numbers):
        raise ValueError(f"a tensor that reaches past the {len(numbers)} numbers of its storage")
    strides = [s * numbers.itemsize for s in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()
