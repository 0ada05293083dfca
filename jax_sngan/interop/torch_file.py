"""A state dict out of a file that torch.save wrote, in either of its formats, read without torch; no pickle is run."""

import io
import math
import os
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jax_sngan.system import plain_pickle
from jax_sngan.system.budget import of_memory
from jax_sngan.system.errors import UserError
from jax_sngan.system.regular_files import open_regular

MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: the first pickle of the format before 1.6
PICKLES = 5  # before the storages of the format before 1.6
SHARED = 8  # how many times larger than the file its arrays may be together: weights that are tied are stored once

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


def check(path: Path) -> None:
    """Passes where a file may be handed to torch.load(weights_only=True), which runs nothing and has no limits itself.

    It is a file, fits into memory, unpacks to about itself, and its pickles keep the limits of system/plain_pickle.py:
    a key of a million tuples in tuples ends torch's process.

    Raises:
      UserError: something of it is not so.
      OSError: it can't be read.
    """
    with open_regular(path) as file:
        size = _checked_size(path, file)
        zipped = file.read(4) == b"PK\3\4"  # as torch tells
        file.seek(0)
        try:
            if not zipped:
                whole = io.BytesIO(file.read())
                for _ in range(PICKLES):
                    plain_pickle.check_form(whole)
                return
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                for entry in entries:
                    if entry.compress_type != zipfile.ZIP_STORED:
                        raise UserError(f"{path}: {_packed(entry)}")
                if sum(entry.file_size for entry in entries) > SHARED * size:
                    raise UserError(f"{path}: members of more than {SHARED * size} bytes, {SHARED} times its size")
                for entry in entries:
                    if entry.filename.endswith("data.pkl"):
                        plain_pickle.check_form(archive.read(entry))
        except UserError:
            raise
        except Exception as error:  # a damaged file makes its readers raise nearly anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{path} holds more than tensors and plain values, or is damaged; nothing in it was run: {reason}"
            ) from error


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name.

    Args:
      path: a file of torch.save, zipped (since torch 1.6) or not, that holds a dict of tensors and nothing else.
    Raises:
      UserError: there is no such file, it is damaged, or holds something else.
    """
    try:
        with open_regular(path) as file:
            size = _checked_size(path, file)
            zipped = zipfile.is_zipfile(file)
            file.seek(0)
            tensors, storages = _zipped(file, SHARED * size) if zipped else _plain(file, size)
        needed = sum(math.prod(t.shape) * t.storage.dtype.itemsize for t in tensors.values())
        if needed > min(SHARED * size, of_memory()):
            raise ValueError(f"tensors of {needed} bytes in a file of {size}")
        return {name: _array(tensor, storages) for name, tensor in tensors.items()}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is damaged, or no state dict that torch.save wrote: {reason}") from error


def _checked_size(path: Path, file: BinaryIO) -> int:
    size, most = os.fstat(file.fileno()).st_size, of_memory() // 2  # its storages, and the arrays made of them
    if size > most:
        raise UserError(f"{path} has {size} bytes; at most {most} are read on this machine")
    return size


def _packed(entry: zipfile.ZipInfo) -> str:
    return f"{entry.filename[:80]!r} is packed by method {entry.compress_type}; torch.save stores (0)"


def _pickle(data: bytes | BinaryIO) -> Any:
    # What a pickle hands over may be anything, and deep: it is asked for its type before it is used or printed.
    def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise TypeError("a tensor of something else than a storage and sizes")
        if len(shape) != len(strides) or len(shape) > plain_pickle.DIMENSIONS:
            raise ValueError(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
        for number in (offset, *shape, *strides):
            if type(number) is not int or not 0 <= number <= plain_pickle.LARGEST_DIMENSION:
                raise ValueError("a tensor with an absurd size, stride or offset")
        return _Tensor(storage, offset, shape, strides)

    def parameter(tensor: Any, *_: Any) -> Any:
        return tensor

    def storage(name: Any) -> _Storage:
        if not isinstance(name, tuple) or len(name) < 5:
            raise TypeError("a persistent id that is no storage")
        kind, dtype, key, _, count = name[:5]
        if not isinstance(kind, str) or kind != "storage" or not isinstance(dtype, np.dtype):
            raise TypeError("a persistent id that is no storage")
        if type(key) not in (str, int) or type(count) is not int or not 0 <= count <= plain_pickle.LARGEST_DIMENSION:
            raise ValueError("a storage without a name or with an absurd size")
        return _Storage(dtype, str(key), count)

    def ordered() -> OrderedDict[Any, Any]:  # entries follow; given here, they would be hashed whatever they are
        return OrderedDict()

    known = {
        **_STORAGES,
        "collections OrderedDict": ordered,
        "torch._utils _rebuild_tensor": tensor,
        "torch._utils _rebuild_tensor_v2": tensor,
        "torch._utils _rebuild_parameter": parameter,
    }
    return plain_pickle.read(data, known, storage)


_Contents = tuple[dict[str, _Tensor], dict[str, np.ndarray]]  # tensors by name, storages by key


def _zipped(file: BinaryIO, most: int) -> _Contents:
    left = most

    def read(name: str) -> bytes:
        nonlocal left
        entry = entries[name]
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(_packed(entry))
        left -= entry.file_size
        if left < 0:
            raise ValueError(f"members of more than {most} bytes")
        return archive.read(entry)

    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "byteorder" in entries and read("byteorder") != b"little":
            raise ValueError("its byte order is not little-endian")
        tensors = _of_tensors(_pickle(read("data.pkl")))
        storages = {t.storage.key: t.storage for t in tensors.values()}
        return tensors, {key: _numbers(s, read(f"data/{key}")) for key, s in storages.items()}


def _plain(file: BinaryIO, most: int) -> _Contents:
    """Five pickles (magic number, version, byte order, the dict, keys), then each storage behind its count."""
    file = io.BytesIO(file.read(most))  # of a file on disk, a pickle that claims gigabytes would have them taken first
    magic = _pickle(file)
    if type(magic) is not int or magic != MAGIC:
        raise ValueError("it does not begin as torch.save begins a file")
    _pickle(file)
    system = _pickle(file)
    if not isinstance(system, dict) or system.get("little_endian", True) is not True:
        raise ValueError("its byte order is not little-endian")
    tensors = _of_tensors(_pickle(file))
    by_key = {t.storage.key: t.storage for t in tensors.values()}
    storages = {}
    keys = _pickle(file)
    if not isinstance(keys, list):
        raise TypeError("storages without a list of their names")
    for key in keys:
        if not isinstance(key, str) or key in storages:
            raise ValueError("storages with names that are no text, or twice there")
        storage = by_key[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.length:
            raise ValueError(f"a storage of {count} numbers where {storage.length} are used")
        if _size(storage) > most:  # it would be taken before it is found missing
            raise ValueError(f"a storage of {_size(storage)} bytes in a file of {most}")
        storages[key] = _numbers(storage, file.read(_size(storage)))
    return tensors, storages


def _of_tensors(value: Any) -> dict[str, _Tensor]:
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__}, not a dict")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise TypeError(f"{str(name)[:80]!r} is a {type(tensor).__name__}, not a tensor")
    used: dict[str, _Storage] = {}
    for tensor in value.values():
        if used.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise ValueError(f"two storages of the name {tensor.storage.key[:80]!r}")
    return value


def _size(storage: _Storage) -> int:
    return storage.length * storage.dtype.itemsize


def _numbers(storage: _Storage, data: bytes) -> np.ndarray:
    if len(data) != _size(storage):
        raise ValueError(f"{len(data)} bytes where {storage.length} numbers of {storage.dtype} are used")
    return np.frombuffer(data, storage.dtype)


def _array(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    """The view as an array of its own; nothing beyond the storage is read."""
    numbers = storages[tensor.storage.key]
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    if math.prod(tensor.shape) > len(numbers):  # a stride of 0 repeats them as often as one likes
        raise ValueError(f"a tensor of shape {tensor.shape} in a storage of {len(numbers)} numbers")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(numbers):
        raise ValueError(f"a tensor that reaches past the {len(numbers)} numbers of its storage")
    strides = [s * numbers.itemsize for s in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()
