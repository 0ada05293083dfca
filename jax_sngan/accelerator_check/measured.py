"""A device that is here beside the facts of its kind: which chip it is, what its peaks make of a time, of a program."""

from typing import Any

from jax_sngan.accelerators.cost import kernels
from jax_sngan.accelerators.hlo import parse
from jax_sngan.accelerators.report import step_seconds
from jax_sngan.accelerators.targets import CHIPS, Chip

# jax's names of TPUs (device_kind) that do not hold the chip's own.
_KINDS = {"tpu v5 lite": "v5e", "tpu v5": "v5p", "tpu v6 lite": "v6e"}
# The peak that a product can reach, by arithmetic (workloads.ARITHMETICS), under targets.Chip.peaks's names.
_PEAKS = {"float32": "f32 highest", "tf32": "f32", "bfloat16": "bf16"}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that jax calls device_kind, as "NVIDIA H200"; None where nothing is known of it."""
    kind = device_kind.lower()
    return CHIPS.get(_KINDS.get(kind, next((name for name in CHIPS if name in kind), "")))


def mfu(device_kind: str, arithmetic: str, gflop: float, seconds: float) -> float | None:
    """Share of the datasheet's peak that a step reaches; None where nothing is known of the device."""
    chip = chip_of(device_kind)
    return None if chip is None else gflop * 1e9 / seconds / chip.peaks[_PEAKS[arithmetic]]


def estimate(text: str, device_kind: str) -> dict[str, Any]:
    """What a compiled program's text says of a call on the device, seconds by one peak at a time (report.step_seconds).

    Without facts of the device "why" says so, and what the program is made of is all there is.
    """
    run = kernels(parse(text))
    told = {
        "kernels": sum(k.times for k in run),
        "gb": sum(k.times * k.bytes for k in run) / 1e9,
        "gflop": sum(k.times * sum(k.flop.values()) for k in run) / 1e9,
    }
    if (chip := chip_of(device_kind)) is None:
        return told | {"seconds": None, "why": f"nothing is known of a {device_kind} (accelerators/targets.py)"}
    return told | {"seconds": step_seconds(run, chip, 1), "why": ""}
