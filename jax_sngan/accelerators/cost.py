"""What a compiled program costs by its own text: each kernel's work, bytes and kind, loops as often as they run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jax_sngan.accelerators.hlo import BYTES, Array, Instruction, Program, parse

# Nothing runs for these.
_FREE = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier",
    "partition-id", "replica-id",
}  # fmt: skip
_RENAMING = {"ConcatBitcast", "AllocateBuffer", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
KINDS = (
    "convolution",
    "matrix product",
    "resampling",
    "normalisation",
    "spectral norm",
    "bias sums",
    "optimiser",
    "communication",
    "copies",
    "other",
)
# The kind of work that a line of a file does where no convolution or matrix product is in its kernel.
_FILES = {
    "optim.py": "optimiser",
    "spectral_norm.py": "spectral norm",
    "operator_norm.py": "spectral norm",
    "batch_norm.py": "normalisation",
    "layer_norm.py": "normalisation",
    "normalization.py": "normalisation",
    "resample.py": "resampling",
    "resampled_conv.py": "resampling",
    "sums.py": "bias sums",
}
_FUNCTIONS = {"Layer._weight": "spectral norm"}  # W / sigma

_NO_ESTIMATE = 2**63 - 1  # cycles: libtpu 0.0.42 says so of a few kernels (stl10_resnet on v5e:4x4/16)


@dataclass(frozen=True)
class Kernel:
    """One instruction that runs, of one device."""

    name: str
    kind: str  # of KINDS
    times: int  # in a step
    # Of one time:
    flop: dict[str, int]  # of convolutions and matrix products, by their factors' type: "bf16", "f32", "f32 highest"
    bytes: int  # read and written in the device's memory
    cycles: int  # the compiler's own estimate; 0 where it has none
    collectives: tuple[tuple[str, int], ...]  # (name, bytes of what comes in or goes out, whichever is more)


def kernels(program: Program) -> list[Kernel]:
    """All that runs in a call of the program.

    Raises:
      ValueError: a loop does not say how often it runs.
    """
    return list(_of_computation(program, program.entry, 1))


def flops_of_compiled(text: str) -> int:
    """FLOPs of a compiled program (`compiled.as_text()`): its convolutions and matrix products, of one device.

    Raises:
      ValueError: a loop does not say how often it runs.
    """
    return sum(kernel.times * sum(kernel.flop.values()) for kernel in kernels(parse(text)))


def _of_computation(program: Program, name: str, times: int) -> Iterator[Kernel]:
    known = {i.name: i.arrays for i in program.computations[name]}
    for instruction in program.computations[name]:
        operation = instruction.operation
        if operation in _FREE or operation.endswith("-done") or instruction.attribute("custom_call_target") in _quoted:
            continue
        if operation == "while":
            body = instruction.attribute("body").lstrip("%")
            yield from _of_computation(program, body, times * program.trips(name, instruction))
        elif operation in ("call", "conditional"):
            for called in instruction.called():
                yield from _of_computation(program, called, times)
        else:
            yield _kernel(program, known, instruction, times)


_quoted = {f'"{name}"' for name in _RENAMING}


def _kernel(program: Program, known: dict[str, tuple[Array, ...]], i: Instruction, times: int) -> Kernel:
    flop: dict[str, int] = {}
    collectives: list[tuple[str, int]] = []
    spatial = _work(program, known, i, flop, collectives)
    operands = [a for name in i.operands for a in known.get(name, ())]
    moved = list(i.arrays) + operands if not i.operation.endswith("-start") else _both_ends(i, operands)
    cycles = int(found[1]) if (found := re.search(r'"estimated_cycles":"(\d+)"', i.rest)) else 0
    kind = "communication" if collectives else _kind(program, i, bool(flop), spatial)
    return Kernel(
        name=i.name,
        kind=kind,
        times=times,
        flop=flop,
        bytes=sum(a.bytes for a in moved if not a.on_chip),
        cycles=cycles if cycles < _NO_ESTIMATE else 0,
        collectives=tuple(collectives),
    )


def _both_ends(i: Instruction, operands: list[Array]) -> list[Array]:
    """What an operation in the background reads and writes: its result names both, and may add a context."""
    return operands + list(i.arrays[len(operands) : 2 * len(operands)])


def _work(
    program: Program,
    known: dict[str, tuple[Array, ...]],
    i: Instruction,
    flop: dict[str, int],
    collectives: list[tuple[str, int]],
) -> bool:
    """Adds an instruction's FLOPs and collectives and those within it; whether one is a convolution over pixels."""
    base = i.operation.removesuffix("-start")
    if base in COLLECTIVES:
        collectives.append((base, _sent(known, i)))
        return False
    found = _flop(known, i)
    if found:
        factors = _factors(known, i)
        flop[factors] = flop.get(factors, 0) + found
        return "size=" in i.attribute("window") or "cudnn$conv" in i.rest
    spatial = False
    for name in i.called() if i.operation not in ("reduce", "scatter", "reduce-window", "sort") else ():
        inner = program.computations[name]
        inside = {j.name: j.arrays for j in inner}
        for j in inner:
            spatial |= _work(program, inside, j, flop, collectives)
    return spatial


def _sent(known: dict[str, tuple[Array, ...]], i: Instruction) -> int:
    def size(arrays: tuple[Array, ...] | list[Array]) -> int:
        return sum(a.elements * BYTES[a.dtype] for a in arrays)

    given = [a for name in i.operands for a in known.get(name, ())]
    both = i.operation.endswith("-start") and len(i.arrays) >= 2 * len(given)
    return max(size(given), size(i.arrays) - (size(given) if both else 0))


def _flop(known: dict[str, tuple[Array, ...]], i: Instruction) -> int:
    """Of a convolution or matrix product itself, a multiply-add being 2; 0 of all else."""
    if i.operation == "dot" or "__cublas$" in i.rest:
        return 2 * i.arrays[0].elements * _contracted(known[i.operands[0]][0], i)
    if i.operation == "convolution":
        kernel = known[i.operands[1]][0]
        spread = [int(n) for n in re.findall(r"lhs_dilate=([\dx]+)", i.rest)[:1] for n in n.split("x")]
        zeros = 1  # of a transposed convolution, which nobody multiplies
        for step in spread:
            zeros *= step
        return 2 * i.arrays[0].elements * _taps(kernel, i) // zeros
    if "__cudnn$conv" in i.rest:
        target = i.attribute("custom_call_target").strip('"')
        first, second, result = known[i.operands[0]][0], known[i.operands[1]][0], i.arrays[0]
        # (the map on the strided side, the kernel) of the three maps that cuDNN has
        y, kernel = {
            "__cudnn$convBackwardInput": (first, second),
            "__cudnn$convBackwardFilter": (second, result),
        }.get(target, (result, second))
        return 2 * y.elements * _taps(kernel, i)
    return 0


def _taps(kernel: Array, i: Instruction) -> int:
    """Multiplications for one number of the result: the kernel's elements by its output features."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", i.rest)
    if labels is None:
        raise ValueError(f"the convolution {i.name} does not name its axes")
    return kernel.elements // kernel.shape[labels[1].index("o")]


def _contracted(lhs: Array, i: Instruction) -> int:
    axes = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', i.rest)
    total = 1
    for axis in re.findall(r"\d+", axes[1]) if axes else ():
        total *= lhs.shape[int(axis)]
    return total


def _factors(known: dict[str, tuple[Array, ...]], i: Instruction) -> str:
    """The type of the numbers that are multiplied, and the precision that the program asks for, if any."""
    dtype = known[i.operands[0]][0].dtype
    asked = re.search(r'operand_precision(?:=\{|":\[")(\w+)', i.rest)
    precision = asked[1].lower() if asked else "default"
    return dtype if dtype != "f32" or precision == "default" else f"{dtype} {precision}"


def _kind(program: Program, i: Instruction, multiplies: bool, spatial: bool) -> str:
    chain = program.source(i)
    by_line = next((_FUNCTIONS.get(f) or _FILES[file] for file, f in chain if f in _FUNCTIONS or file in _FILES), None)
    if by_line == "spectral norm":
        return by_line
    if multiplies:
        return "convolution" if spatial else "matrix product"
    if by_line:
        return by_line
    return "copies" if i.operation.startswith(("copy", "transpose")) or "transpose" in i.name else "other"
