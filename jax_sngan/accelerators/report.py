"""What a compiled step tells of its target: as JSON, and as lines of which each says where its figure comes from."""

import re
from collections import defaultdict
from typing import Any

from jax_sngan.accelerators.compiled import Compiled, Request, versions
from jax_sngan.accelerators.cost import KINDS, Kernel, kernels
from jax_sngan.accelerators.hlo import parse
from jax_sngan.accelerators.targets import LATENCY, LAUNCH, Chip

MB = 2**20
# Share of a GPU's memory that JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
TAKEN = 0.75
_PACE = {
    "compute": "arithmetic",
    "bandwidth": "the device's memory",
    "launch": "launching kernels",
    "communication": "communication",
}
_MEASURED = (
    "gflop", "gb", "kernels", "share", "pace", "hours", "images_a_second", "donated", "collectives",
)  # fmt: skip
COMPILER, DATASHEET, GUESS = "compiler", "datasheet's peak", "a guess"


def figures(request: Request, step: Compiled) -> dict[str, Any]:
    """The JSON of `compile`: of one device and one training step, loops as often as they run.

    Where the compiler refuses a program that is too large, its total is all there is; the rest is None.
    """
    chip = request.target.chip
    told: dict[str, Any] = {
        "preset": request.config.name,
        "target": request.target.name,
        "devices": request.devices,
        "batch_size": request.config.batch_size,
        "steps": request.config.steps,
        "shard_state": request.shard_state,
        "quick": request.quick,
        "versions": versions(request.target),
    }
    fits = step.memory is not None and step.memory.total <= chip.memory
    told |= {"memory_mb": memory_mb(step, chip), "fits": fits}
    if step.memory is None:
        nothing = dict.fromkeys(("compute", "bandwidth", "launch", "communication", "estimate", "step"))
        return (
            told
            | dict.fromkeys(_MEASURED)
            | {
                "seconds": nothing,
                "refused": step.refused,
            }
        )
    program = parse(step.text)
    run = kernels(program)
    parameters = sum(i.operation == "parameter" for i in program.computations[program.entry])
    seconds = step_seconds(run, chip, request.devices)
    parts = {name: seconds[name] for name in ("compute", "bandwidth", "launch", "communication")}
    return told | {
        "gflop": sum(k.times * sum(k.flop.values()) for k in run) / 1e9,
        "gb": sum(k.times * k.bytes for k in run) / 1e9,
        "kernels": sum(k.times for k in run),
        "collectives": collectives(run),
        "seconds": seconds | {"estimate": estimate(run, chip)},
        "share": share(run, chip, request.devices),
        "pace": max(parts, key=parts.__getitem__),
        "hours": seconds["step"] * request.config.steps / 3600,
        "images_a_second": request.config.n_dis * request.config.batch_size / seconds["step"],
        # Every array of the state that the step reads gives its memory to the next state.
        "donated": program.donated >= parameters - step.inputs,
    }


def memory_mb(step: Compiled, chip: Chip) -> dict[str, float | None]:
    """Mebibytes of one device at a step's peak, by kind."""
    limit = chip.memory / MB
    if step.memory is None:
        asked = re.search(r"\(?([\d.]+)([GM])\)? (?:exceeds|of)", step.refused)
        total = float(asked[1]) * (1024 if asked[2] == "G" else 1) if asked else None
        return dict.fromkeys(("arguments", "temporary", "results", "code")) | {"total": total, "limit": limit}
    m = step.memory
    return {
        "arguments": m.arguments / MB,
        "temporary": m.temporary / MB,
        "results": (m.results - m.aliased) / MB,
        "code": m.code / MB,
        "total": m.total / MB,
        "limit": limit,
    }


def collectives(run: list[Kernel]) -> dict[str, dict[str, float]]:
    """What the devices tell each other in a step: how often, and how many mebibytes of each device."""
    found: dict[str, dict[str, float]] = {}
    for kernel in run:
        for name, size in kernel.collectives:
            of = found.setdefault(name, {"count": 0, "mb": 0.0})
            of["count"] += kernel.times
            of["mb"] += kernel.times * size / MB
    return found


def estimate(run: list[Kernel], chip: Chip) -> float | None:
    """Seconds a step by the compiler's own cycles, without what is sent; None where it counts none."""
    return sum(k.times * k.cycles for k in run) / chip.clock if chip.clock else None


def step_seconds(run: list[Kernel], chip: Chip, devices: int) -> dict[str, float]:
    """Seconds a step by one peak at a time; `step`: of all of it, at the least."""
    return {
        "compute": sum(k.times * _compute(k, chip) for k in run),
        "bandwidth": sum(k.times * k.bytes for k in run) / chip.bandwidth,
        "launch": sum(k.times for k in run) * _launch(chip),
        "communication": sum(k.times * _sent_seconds(k, chip, devices) for k in run),
        "step": sum(k.times * _seconds(k, chip, devices) for k in run),
    }


def share(run: list[Kernel], chip: Chip, devices: int) -> dict[str, float]:
    """Of `step`'s time by kind of work, largest first."""
    of: dict[str, float] = defaultdict(float)
    for kernel in run:
        of[kernel.kind] += kernel.times * _seconds(kernel, chip, devices)
    total = sum(of.values())
    return {kind: of[kind] / total for kind in sorted(KINDS, key=lambda kind: -of[kind]) if of[kind]}


def _compute(kernel: Kernel, chip: Chip) -> float:
    return sum(flop / chip.peaks[factors] for factors, flop in kernel.flop.items())


def _launch(chip: Chip) -> float:
    return LAUNCH if chip.platform == "cuda" else 0.0


def _sent_seconds(kernel: Kernel, chip: Chip, devices: int) -> float:
    """A ring's: an all-reduce sends each byte twice but for a device's own part (Patarasuk & Yuan 2009)."""
    others = (devices - 1) / devices
    total = 0.0
    for name, size in kernel.collectives:
        total += (2 if name == "all-reduce" else 1) * others * size / chip.link + (devices - 1) * LATENCY
    return total


def _seconds(kernel: Kernel, chip: Chip, devices: int) -> float:
    """Of one kernel: its compiler's estimate, where there is none the slowest of its peaks; and what it sends."""
    if kernel.cycles:
        own = kernel.cycles / chip.clock
    else:
        own = max(_compute(kernel, chip), kernel.bytes / chip.bandwidth, _launch(chip))
    return own + _sent_seconds(kernel, chip, devices)


def lines(request: Request, told: dict[str, Any]) -> list[str]:
    """The figures for a person: what, how much, and from where."""
    chip, memory, seconds = request.target.chip, told["memory_mb"], told["seconds"]
    rows: list[tuple[str, str, str]] = []
    head = f"{told['preset']}, batch {told['batch_size']}, on {told['devices']} x {chip.name}; " + ", ".join(
        f"{name} {number}" for name, number in told["versions"].items() if name not in ("flax", "optax")
    )
    if told.get("refused"):
        return [head, f"does not fit: {told['refused']}"]
    parts = ", ".join(f"{name} {_mb(memory[name])}" for name in ("arguments", "temporary", "results", "code"))
    rows.append(("memory", f"{_mb(memory['total'])} of {_mb(memory['limit'])}: {parts}", COMPILER))
    if not told["fits"]:
        rows.append(("", "does not fit", COMPILER))
    elif chip.platform == "cuda" and memory["total"] > TAKEN * memory["limit"]:
        rows.append(
            ("", f"more than the {TAKEN:.0%} that JAX takes; set XLA_PYTHON_CLIENT_MEM_FRACTION", "JAX's default")
        )
    rows.append(("state", "the next state takes this one's memory" if told["donated"] else "is held twice", COMPILER))
    rows.append(("work", f"{told['gflop']:,.4g} GFLOP in convolutions and matrix products", COMPILER))
    rows.append(("", f"{told['gb']:,.4g} GB read and written", f"{COMPILER}, by its text"))
    rows.append(("kernels", f"{told['kernels']:,}", COMPILER))
    for name, of in told["collectives"].items():
        rows.append((name, f"{of['count']:,} of together {of['mb']:,.4g} MB", COMPILER))
    rows.append(("seconds", f"{_ms(seconds['compute'])} to compute", f"{COMPILER}, {DATASHEET}"))
    rows.append(("", f"{_ms(seconds['bandwidth'])} to read and write", f"{COMPILER}, {DATASHEET}"))
    if chip.platform == "cuda":
        rows.append(("", f"{_ms(seconds['launch'])} to launch", f"{GUESS}: {1e6 * LAUNCH:.0f} us a kernel"))
    if told["collectives"]:
        basis = f"{DATASHEET} of the links, and {GUESS}: {1e6 * LATENCY:.0f} us from a device to the next"
        rows.append(("", f"{_ms(seconds['communication'])} to communicate", basis))
    if seconds["estimate"] is not None:
        clock = f"{COMPILER}'s cycles at {chip.clock / 1e9:g} GHz ({chip.clock_source})"
        rows.append(("", f"{_ms(seconds['estimate'])} in all but communication", clock))
    basis = f"{COMPILER}'s cycles" if chip.clock else f"{GUESS}: each kernel at its slowest peak"
    rows.append(("a step", f"{_ms(seconds['step'])} at the least", basis))
    times = seconds["step"] / seconds[told["pace"]]
    rows.append(("", f"{_PACE[told['pace']]} sets the pace; the step is {times:.2g} times that alone", basis))
    rows.append(("a run", f"{_hours(told['hours'])} for {told['steps']:,} steps", basis))
    rows.append(("", f"{told['images_a_second']:,.0f} images a second have to be read", basis))
    for kind, part in told["share"].items():
        if part >= 0.005:
            rows.append(("time" if kind == next(iter(told["share"])) else "", f"{part:4.0%} {kind}", basis))
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    body = [f"{name:{widths[0]}}  {value:{widths[1]}}  {basis}" for name, value, basis in rows]
    quick = ["Compiled with little search for fast tilings: without --quick the estimate may be lower."]
    return [head, *body, *(quick if told["quick"] and chip.platform == "tpu" else []), f"Peaks: {chip.source}."]


def _mb(value: float) -> str:
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.2g} MB"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g} ms"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"
