"""Plain values and arrays out of a pickle that is read, never unpickled: nothing that it names is imported or called.

CIFAR's python archives are pickles, and `pickle.load` runs whatever a pickle says. Here its opcodes are walked over a
small stack. Those that build dicts, lists, tuples, numbers, strings and bytes do so; the handful of names by which
numpy spells an array are understood and stand for an array of its bytes; anything else ends the reading.

`pickle.Unpickler` with a list of allowed names would be shorter, and is not as safe: it counts neither opcodes nor
memory (`}r\xff\xff\xff\x7f.`, 7 bytes, takes 32 GB for the memo), hashes tuples in tuples as keys until the stack or
the day ends, and shares lists, so that 30 levels of two references each are 2^30 elements for whoever walks them.
Here keys are str, bytes and int, nesting ends at DEPTH, only what holds no container can be shared, and everything
is counted.
"""

import math
import pickletools
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

OPCODES = 2**21  # in a pickle; CIFAR-100's training batch has 0.2 to 0.5 million
DEPTH = 16  # of containers in containers; a state dict of torch has 6
DIMENSIONS = 32  # of an array
LARGEST_DIMENSION = 2**40

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
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


class _Anything:
    """What a name that is not understood makes, where only the form of a pickle is looked at."""

    def __init__(self, *_: Any):
        pass


class _AllNames(Mapping[str, Any]):
    """Every name stands for _Anything, but for the one whose entries follow it."""

    def __getitem__(self, name: str) -> Any:
        return (lambda *_: OrderedDict()) if name == "collections OrderedDict" else _Anything

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


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
    }  # of an int no more than 4,300 digits are made: a ValueError


def read(
    data: bytes | BinaryIO,
    known: Mapping[str, Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of a pickle, arrays as they stand on the stack; of a file only one pickle is read.

    Args:
      data: the pickle, or a file that stands at its beginning.
      known: "module name" -> what stands in its place: a function is called where the pickle calls the name, with
        whatever stands there as arguments. Nothing else than these and numpy's arrays is understood.
      persistent: what a persistent id stands for; without it the pickle must have none.
    Raises:
      ValueError: as read_dict.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pickletools' own, at escapes in damaged names
            return _walk(data, {} if known is None else known, persistent)
    except (LookupError, TypeError, AttributeError, OverflowError) as e:  # an opcode that did not find what it works on
        raise ValueError(f"a damaged pickle ({type(e).__name__})") from e


def check_form(data: bytes | BinaryIO) -> None:
    """Passes where a pickle keeps to the limits of this file, whatever names it has: another reader may have it then.

    Raises:
      ValueError: as read, but for names.
    """
    read(data, _AllNames(), _Anything)


def _walk(data: bytes | BinaryIO, known: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> Any:
    walk = _Walk(known, persistent, len(data) if isinstance(data, bytes) else 0)
    for opcode, arg, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return walk.stack[-1]
        walk.do(opcode.name, arg)
    raise ValueError("a pickle without an end")  # genops raises before this; kept for the reader


class _Walk:
    """The stack and the memo between two opcodes."""

    def __init__(self, known: Mapping[str, Any], persistent: Callable[[Any], Any] | None, spelt: int):
        """spelt: how many bytes may be spelt as text: each has at least one in the pickle."""
        self.known, self.persistent, self._spelt = known, persistent, spelt
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._count = 0
        self._depths: dict[int, int] = {}  # id of a container -> how deep it is; what it is not lists has no inner one
        self._kept: list[Any] = []  # the containers of those ids, so that no id is taken twice

    def count(self, added: int) -> None:
        """Counts opcodes, and elements that are had again by one."""
        self._count += added
        if self._count > OPCODES:
            raise ValueError(f"more than {OPCODES} opcodes and shared values")

    def do(self, name: str, arg: Any) -> None:
        """One opcode."""
        self.count(1)
        stack = self.stack
        if name in _VALUES:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_Mark)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._shareable(self.memo[arg]))
        elif name == "GLOBAL":
            stack.append(_stands_for(arg, self.known))
        elif name == "STACK_GLOBAL":
            attribute, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
            stack.append(_stands_for(f"{module} {attribute}", self.known))
        elif name == "BINPERSID" and self.persistent is not None:
            stack.append(self.persistent(stack.pop()))
        elif name == "REDUCE":
            self._call()
        elif name == "BUILD" and isinstance(stack[-2], (OrderedDict, _Anything)):
            stack.pop()  # a dict's attributes, as torch's record of its modules' versions: no entries
        elif name == "BUILD":
            state = _expect(stack.pop(), tuple)
            _fill(stack[-1], state)
        else:
            self._contain(name)

    def _contain(self, name: str) -> None:
        """An opcode that puts values into a container."""
        stack = self.stack
        if name in ("TUPLE", "LIST", "DICT"):
            items = self._above_mark()
            makers: dict[str, Callable[[list[Any]], Any]] = {"TUPLE": tuple, "LIST": list, "DICT": _pairs}
            stack.append(self._deeper(makers[name](items), items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = stack[-int(name[-1]) :]
            stack[-int(name[-1]) :] = [self._deeper(tuple(items), items)]
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._above_mark()
            self._deeper(_expect(stack[-1], list), items).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._above_mark()
            self._deeper(_expect(stack[-1], dict), items).update(_pairs(items))
        else:
            raise ValueError(f"the opcode {name}, which plain data do not need")

    def _above_mark(self) -> list[Any]:
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _Mark:
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def _deeper(self, container: Any, items: list[Any]) -> Any:
        """The container, once it is known how deep it is with these items."""
        inner = [self._depths.get(id(item), 1) for item in items if isinstance(item, (tuple, list, dict))]
        before = self._depths.get(id(container), 1)
        depth = max([before, *(1 + d for d in inner)])
        if depth > DEPTH:
            raise ValueError(f"containers in more than {DEPTH} containers")
        if depth > before:
            self._depths[id(container)] = depth
            self._kept.append(container)
        return container

    def _shareable(self, value: Any) -> Any:
        """A value of the memo, if whoever walks through the result meets it no more often than it is counted."""
        if isinstance(value, (list, dict)) or (isinstance(value, tuple) and id(value) in self._depths):
            raise ValueError(f"a {type(value).__name__} that is used twice, which plain data do not need")
        self.count(len(value) if isinstance(value, tuple) else 0)
        return value

    def _call(self) -> None:
        arguments, function = _expect(self.stack.pop(), tuple), _expect(self.stack.pop(), _Name, _Given)
        if isinstance(function, _Given):
            self.stack.append(function.value(*arguments))
            return
        if function.role == "encode":  # makes bytes of a string that may be shared
            self._spelt -= len(_expect(arguments[0], str))
            if self._spelt < 0:
                raise ValueError("more bytes spelt as text than it has itself")
        self.stack.append(_stand_in(function.role, arguments))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys = [_expect(key, str, bytes, int) for key in items[::2]]  # the hash of a tuple goes through all that is in it
    if any(isinstance(key, int) and abs(key) >= 2**31 for key in keys):  # larger ones can be chosen of one hash
        raise ValueError("a key of more than 31 bits")
    return dict(zip(keys, items[1::2], strict=True))


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
        target.order = {"<": "<", ">": ">", "|": "|", "=": "="}[_expect(state[1], str)]
    else:
        _, shape, kind, fortran, raw = state
        _expect(target, _Array).array = _contents(kind, shape, raw, "F" if fortran else "C")


def _contents(kind: Any, shape: Any, raw: Any, order: str = "C") -> np.ndarray:
    dtype, sizes, data = _expect(kind, _Type).dtype(), _expect(shape, tuple), _bytes(raw)
    if len(sizes) > DIMENSIONS or any(not 0 <= _expect(size, int) <= LARGEST_DIMENSION for size in sizes):
        raise ValueError("an array of absurd shape")
    if math.prod(sizes) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {sizes} with {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(sizes, order="F" if order == "F" else "C")
