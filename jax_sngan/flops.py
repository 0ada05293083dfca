"""Multiplications and additions of a function, counted from its jaxpr: convolutions and matmuls, loops unrolled."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax


def count(function: Callable[..., Any], *arguments: Any, platform: str | None = None) -> int:
    """FLOPs of one call (a multiply-add is 2); arguments may be jax.ShapeDtypeStruct.

    What is no convolution or matmul is left out: under 2 % in these networks. Zeros that a strided convolution's
    transpose would multiply do not count.

    Args:
      platform: cpu, cuda, tpu …: whose convolutions are counted; by default this machine's.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, platform or jax.default_backend())


def _count(jaxpr: Any, platform: str) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(eqn.invars[0].aval.shape[i] for i in contract)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            taps = math.prod(kernel) // out_features
            dilation = math.prod(eqn.params["lhs_dilation"])
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * taps // dilation
        inner = sum(_count(sub, platform) for sub in inner_jaxprs(eqn, platform))
        total += inner * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
    return total


def inner_jaxprs(eqn: Any, platform: str) -> list[Any]:
    """The jaxprs that an equation runs: of a choice by platform (nn/platforms.py) that platform's alone."""
    if (platforms := eqn.params.get("branches_platforms")) is None:
        return _jaxprs(list(eqn.params.values()))
    taken = next(i for i, names in enumerate(platforms) if names is None or platform in names)
    return _jaxprs(eqn.params["branches"][taken])


def _jaxprs(value: Any) -> list[Any]:
    if hasattr(value, "eqns"):
        return [value]
    if hasattr(value, "jaxpr"):
        return [value.jaxpr]
    if isinstance(value, (list, tuple)):
        return [j for v in value for j in _jaxprs(v)]
    return []


_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def of_compiled(text: str) -> int:
    """FLOPs of a compiled program (`compiled.as_text()`): its convolutions and matmuls, loops as often as they run.

    Raises:
      ValueError: a loop does not say how often it runs.
    """
    bodies: dict[str, list[tuple[str, str, str, str]]] = {}
    entry, name = "", ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            name = found[1]
            bodies[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif found := _INSTRUCTION.match(line):
            bodies[name].append((found[1], found[2], found[3], found[4]))
    known: dict[str, int] = {}

    def total(name: str) -> int:
        if name not in known:
            shapes = {result: _shape(kind) for result, kind, _, _ in bodies[name]}
            known[name] = sum(_of_instruction(shapes, i, total) for i in bodies[name])
        return known[name]

    return total(entry)


def _of_instruction(
    shapes: dict[str, list[int]], instruction: tuple[str, str, str, str], total: Callable[[str], int]
) -> int:
    result, _, operation, rest = instruction
    operands = re.findall(r"%([\w.\-]+)", rest.split(")")[0])
    if operation == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
        axes = [int(i) for i in contracted[1].split(",") if i] if contracted else []
        return 2 * math.prod(shapes[result]) * math.prod(shapes[operands[0]][i] for i in axes)
    if operation == "convolution":
        kernel = shapes[operands[1]]
        labels = re.search(r"dim_labels=\w+_(\w+)->", rest)
        assert labels is not None
        spread = re.search(r"lhs_dilate=([\dx]+)", rest)
        dilation = math.prod(int(d) for d in spread[1].split("x")) if spread else 1
        return 2 * math.prod(shapes[result]) * (math.prod(kernel) // kernel[labels[1].index("o")]) // dilation
    inner = sum(total(name) for name in _CALLED.findall(rest))
    if operation == "while" and inner:
        if (trips := _TRIPS.search(rest)) is None:
            raise ValueError(f"the loop {result} does not say how often it runs")
        return inner * int(trips[1])
    return inner


def _shape(kind: str) -> list[int]:
    """`f32[2,3]` -> [2, 3]; of a tuple []."""
    found = re.fullmatch(r"\w+\[([\d,]*)\](?:\{.*\})?", kind)
    return [int(d) for d in found[1].split(",") if d] if found else []
