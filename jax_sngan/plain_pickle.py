"""Plain values and arrays out of a pickle that is read, never unpickled: nothing that it names is imported or called.

CIFAR's python archives are pickles, and `pickle.load` runs whatever a pickle says. Here its opcodes are walked over a
small stack. Those that build dicts, lists, tuples, numbers, strings and bytes do so; the handful of names by which
numpy spells an array are understood and stand for an array of its bytes; anything else ends the reading.
"""

import math
import pickletools
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {  # opcodes whose argument is the value
    "BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINFLOAT",
    "SHORT_BINSTRING", "BINSTRING", "STRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {
    **{f"{m} _reconstruct": "array" for m in _MULTIARRAY},
    **{f"{m} scalar": "scalar" for m in _MULTIARRAY},
    **{f"{m} _frombuffer": "buffer" for m in ("numpy.core.numeric", "numpy._core.numeric")},
    "numpy dtype": "dtype",
    "numpy ndarray": "ndarray",
    "_codecs encode": "encode",
}


@dataclass
class _Name:
    """A name in the pickle that is understood."""

    role: str


@dataclass
class _Type:
    """An array's type, as numpy writes it; its byte order follows in BUILD."""

    code: str
    order: str = "="

    def dtype(self) -> np.dtype:
        if not re.fullmatch(r"[biuf][1248]", self.code):
            raise ValueError(f"an array of type {self.code!r}")
        return np.dtype(self.order.replace("|", "=") + self.code)


@dataclass
class _Array:
    """An array; its contents follow in BUILD."""

    array: np.ndarray | None = None


@dataclass
class _Given:
    """The function that a caller of `read` puts in a name's place."""

    value: Any


class _Mark:
    """Where the arguments of an opcode begin on the stack."""


def read_dict(data: bytes) -> dict[str, Any]:
    """The dict that a pickle holds.

    Args:
      data: the pickle, protocol 0 to 5. Byte strings of Python 2 are read as Latin-1.
    Returns:
      its entries, with keys as str and arrays as read-only numpy arrays.
    Raises:
      ValueError: it is cut short, holds something else than plain values and arrays, or is no pickle of a dict.
    """
    value = read(data)
    if not isinstance(value, dict):
        raise ValueError(f"a pickle of a {type(value).__name__}, not of a dict")
    return {
        key.decode("latin-1") if isinstance(key, bytes) else str(key): v.array if isinstance(v, _Array) else v
        for key, v in value.items()
    }


def read(
    data: bytes | BinaryIO,
    known: Mapping[str, Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of a pickle, arrays as they stand on the stack; of a file only one pickle is read.

    Args:
      data: the pickle, or a file that stands at its beginning.
      known: "module name" -> what stands in its place: a function is called where the pickle calls the name. Nothing
        else than these and numpy's arrays is understood.
      persistent: what a persistent id stands for; without it the pickle must have none.
    Raises:
      ValueError: as read_dict.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pickletools' own, at escapes in damaged names
            return _walk(data, known or {}, persistent)
    except (LookupError, TypeError, AttributeError, OverflowError) as e:  # an opcode that did not find what it works on
        raise ValueError(f"a damaged pickle ({type(e).__name__})") from e


def _walk(data: bytes | BinaryIO, known: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    arg: Any
    for opcode, arg, _ in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_Mark)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif name in ("TUPLE", "LIST"):
            stack.append({"TUPLE": tuple, "LIST": list}[name](_above_mark(stack)))
        elif name == "DICT":
            stack.append(_pairs(_above_mark(stack)))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _above_mark(stack)
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _above_mark(stack)
            _expect(stack[-1], dict).update(_pairs(items))
        elif name == "GLOBAL":
            stack.append(_stands_for(arg, known))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_stands_for(f"{module} {attribute}", known))
        elif name == "BINPERSID" and persistent is not None:
            stack.append(persistent(stack.pop()))
        elif name == "REDUCE":
            arguments, function = _expect(stack.pop(), tuple), _expect(stack.pop(), _Name, _Given)
            given = isinstance(function, _Given)
            stack.append(function.value(*arguments) if given else _stand_in(function.role, arguments))
        elif name == "BUILD" and isinstance(stack[-2], OrderedDict):
            stack.pop()  # a dict's attributes, as torch's record of its modules' versions: no entries
        elif name == "BUILD":
            state = _expect(stack.pop(), tuple)
            _fill(stack[-1], state)
        elif name == "STOP":
            return stack[-1]
        else:
            raise ValueError(f"the opcode {name}, which plain data do not need")
    raise ValueError("a pickle without an end")  # genops raises before this; kept for the reader


def _above_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not _Mark:
        at -= 1
        if at < 0:
            raise IndexError("no mark")
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _expect(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"expected a {kinds[0].__name__}")
    return value


def _stands_for(name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        return _understood(name)
    return _Given(known[name]) if callable(known[name]) else known[name]


def _understood(name: str) -> _Name:
    if name not in _NAMES:
        raise ValueError(f"the name {name.replace(' ', '.')[:80]!r}, which plain data do not need")
    return _Name(_NAMES[name])


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(_expect(value, bytes, bytearray))


def _stand_in(role: str, arguments: tuple[Any, ...]) -> Any:
    """What calling the name would give, as far as plain data need it."""
    if role == "array":
        return _Array()
    if role == "dtype":
        return _Type(_expect(arguments[0], str))
    if role == "encode":
        return _bytes(_expect(arguments[0], str))
    if role == "scalar":
        return _contents(arguments[0], (), arguments[1]).item()
    if role == "buffer":
        buffer, kind, shape, order = arguments
        return _Array(_contents(kind, shape, buffer, order))
    raise ValueError("a call that plain data do not need")


def _fill(target: Any, state: tuple[Any, ...]) -> None:
    """The state that numpy writes behind an array or a type."""
    if isinstance(target, _Type):
        target.order = {"<": "<", ">": ">", "|": "|", "=": "="}[state[1]]
    else:
        _, shape, kind, fortran, raw = state
        _expect(target, _Array).array = _contents(kind, shape, raw, "F" if fortran else "C")


def _contents(kind: Any, shape: Any, raw: Any, order: str = "C") -> np.ndarray:
    dtype, sizes, data = _expect(kind, _Type).dtype(), _expect(shape, tuple), _bytes(raw)
    if any(_expect(size, int) < 0 for size in sizes) or math.prod(sizes) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {sizes} with {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(sizes, order="F" if order == "F" else "C")
