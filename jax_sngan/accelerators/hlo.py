"""A compiled program's text (`compiled.as_text()`) read: its instructions, their arrays, and whose source line each is.

TPUs write where an array lies into its layout: T(8,128) are the tiles that it is padded to, S(1) memory on the chip.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8,
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_ARRAY = re.compile(r"\b(" + "|".join(BYTES) + r")\[([\d,]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int  # with what the tiles of a TPU's layout pad
    on_chip: bool  # in a TPU's vector memory; reading it costs no bandwidth

    @property
    def elements(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Instruction:
    """One line."""

    name: str
    arrays: tuple[Array, ...]  # of the result; several of a tuple
    operation: str
    operands: tuple[str, ...]
    rest: str  # all after the operands: attributes, metadata, backend_config
    root: bool
    constant: str  # what stands between the parentheses

    def called(self) -> list[str]:
        """The computations that run as parts of this one."""
        return re.findall(r"(?:calls|to_apply|body)=%?([\w.\-]+)", self.rest)

    def attribute(self, name: str) -> str:
        """What follows `name=`, to the next comma or space; "" where it is not there."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return found[1] if found else ""


@dataclass(frozen=True)
class Program:
    """The computations by name, each in the order in which it runs, and the functions that wrote them."""

    computations: dict[str, list[Instruction]]
    entry: str
    donated: int  # arrays of the arguments whose memory results take
    frames: dict[int, tuple[str, int, str, int]]  # (file's path, line, function, the caller's frame or 0)

    def source(self, instruction: Instruction) -> list[tuple[str, str]]:
        """(file's name, function) from the line that made the instruction outwards to the step."""
        return [(file.rpartition("/")[2], function) for file, _, function in self.lines(instruction)]

    def lines(self, instruction: Instruction) -> list[tuple[str, int, str]]:
        """(file's path, line, function), the same."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        frame, chain = int(found[1]) if found else 0, []
        while frame in self.frames:
            file, line, function, caller = self.frames[frame]
            chain.append((file, line, function))
            frame = caller
        return chain

    def trips(self, computation: str, loop: Instruction) -> int:
        """How often a while's body runs.

        Raises:
          ValueError: the text does not tell.
        """
        if told := _TRIPS.search(loop.rest):
            return int(told[1])
        try:
            return self._counted(computation, loop)
        except (KeyError, IndexError, StopIteration, ValueError) as error:
            raise ValueError(f"the loop {loop.name} does not say how often it runs") from error

    def _counted(self, computation: str, loop: Instruction) -> int:
        """Trips of `for (i = start; i < end; i++)`, as jax writes its loops, of constants."""
        within = {i.name: i for i in self.computations[loop.attribute("condition").lstrip("%")]}
        outside = {i.name: i for i in self.computations[computation]}
        test = next(i for i in within.values() if i.root)
        if test.operation != "compare" or test.attribute("direction") != "LT":
            raise ValueError(test.operation)
        counter, end = (within[name] for name in test.operands)
        start = outside[outside[loop.operands[0]].operands[int(counter.attribute("index"))]]
        while start.operation in ("copy", "bitcast"):
            start = outside[start.operands[0]]
        if start.operation != "constant" or end.operation != "constant":
            raise ValueError(start.operation)
        return int(end.constant) - int(start.constant)


def parse(text: str) -> Program:
    """The program of a compiled text."""
    computations: dict[str, list[Instruction]] = {}
    entry, name = "", ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            name = found[2]
            computations[name] = []
            entry = name if found[1] else entry
        elif name and (found := _INSTRUCTION.match(line)):
            computations[name].append(_instruction(found[2], found[3], bool(found[1])))
    header = text[: text.find("entry_computation_layout")]
    return Program(computations, entry, header.count("-alias)"), _frames(text))


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type: `f32[2,3]{1,0}`, or a tuple of such."""
    return tuple(_array(dtype, dims, layout) for dtype, dims, layout in _ARRAY.findall(text))


def _instruction(name: str, text: str, root: bool) -> Instruction:
    kind, after = _group(text) if text.startswith("(") else text.split(" ", 1)
    operation, _, _ = after.strip().partition("(")
    given, rest = _group(after.strip()[len(operation) :])
    return Instruction(
        name, arrays(kind), operation, tuple(re.findall(r"%([\w.\-]+)", given)), rest, root, given[1:-1].strip()
    )


def _group(text: str) -> tuple[str, str]:
    """A text that begins with a parenthesis, cut behind the one that closes it."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[: i + 1], text[i + 1 :]
    return text, ""


def _array(dtype: str, dims: str, layout: str) -> Array:
    shape = tuple(int(d) for d in dims.split(",") if d)
    padded = list(shape)
    order = re.match(r"\{([\d,]+)", layout)
    tiles = re.search(r"T\(([\d,]+)\)", layout)
    if order and tiles:
        minor_first = [int(i) for i in order[1].split(",")]
        for axis, tile in zip(minor_first, reversed([int(t) for t in tiles[1].split(",")]), strict=False):
            padded[axis] = -(-padded[axis] // tile) * tile
    return Array(dtype, shape, math.prod(padded) * BYTES[dtype], "S(1)" in layout)


def _frames(text: str) -> dict[int, tuple[str, int, str, int]]:
    """The four tables that stand in front of the computations, joined."""

    def table(name: str) -> Iterator[tuple[int, str]]:
        start = text.find(f"\n{name}\n")
        if start >= 0:
            for line in text[start + len(name) + 2 : text.index("\n\n", start + 1)].splitlines():
                number, _, value = line.partition(" ")
                yield int(number), value

    def numbers(value: str, *names: str) -> list[int]:
        found = (re.search(rf"{name}=(\d+)", value) for name in names)
        return [int(f[1]) if f else 0 for f in found]

    files = {i: value.strip('"') for i, value in table("FileNames")}
    functions = {i: value.strip('"') for i, value in table("FunctionNames")}
    places = {i: numbers(value, "file_name_id", r"\bline", "function_name_id") for i, value in table("FileLocations")}
    frames = {}
    for i, value in table("StackFrames"):
        place, caller = numbers(value, "file_location_id", "parent_frame_id")
        file, line, function = places[place]
        frames[i] = (files[file], line, functions[function], caller - 1)  # written one too high: 1 is nobody's
    return frames
