"""What can be compiled for: a small table of chips, each fact with its source."""

import re
from dataclasses import dataclass
from typing import Literal

from jax_sngan.config import other_names
from jax_sngan.system.errors import UserError
from jax_sngan.system.nearest import nearest, suggestion

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One device. Rates are peaks that nobody reaches."""

    name: str
    platform: Literal["tpu", "cuda"]
    peaks: dict[str, float]  # FLOP/s by the type of the factors, with the precision asked for (cost.Kernel.flop)
    bandwidth: float  # bytes/s of its own memory
    memory: int  # bytes that a program may take
    link: float  # bytes/s out of one device to the others, all links together
    source: str
    clock: float = 0.0  # Hz in which a TPU's compiler counts cycles
    clock_source: str = ""
    card: tuple[tuple[str, str], ...] = ()  # of a GPU: what XLA's compiler is told of it (GpuTargetConfigProto)
    layouts: tuple[str, ...] = ()  # of a TPU: the slices that can be rented and its compiler knows
    host: int = 8  # devices that one process sees


def _passes(peak: float) -> dict[str, float]:
    """A TPU multiplies bfloat16: float32 takes one pass of it, three or six, as the precision says."""
    return {"bf16": peak, "f32": peak, "f32 high": peak / 3, "f32 highest": peak / 6, "s8": 2 * peak}


def _tensor_cores(bf16: float, tf32: float, f32: float, f64: float) -> dict[str, float]:
    """float32 is TF32 unless the highest precision is asked for."""
    return {"bf16": bf16, "f16": bf16, "f32": tf32, "f32 high": tf32, "f32 highest": f32, "f64": f64}


def _card(name: str, capability: str, memory: int, bandwidth: int, **facts: float | int) -> tuple[tuple[str, str], ...]:
    """The facts of a card under the names of GpuTargetConfigProto; card_text adds those that all cards share."""
    own = {"device_memory_size": memory, "memory_bandwidth": bandwidth, **facts}
    return (("name", f'"{name}"'), ("cuda_compute_capability", f"{{ {capability} }}")) + tuple(
        (key, str(value)) for key, value in own.items()
    )


_SLICES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_TPU_DOCS = "cloud.google.com/tpu/docs"
_XLA = "openxla/xla, xla/backends/gpu/target_config/specs (Apache-2.0)"
_HOPPER = "major: 9 feature_extension: ACCELERATED_FEATURES"
_FROM_PEAK = "the peak by the multiplications of a cycle"

# Peaks are the datasheets' without sparsity. A TPU's memory is what its compiler lets a program have.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            "v5e", "tpu", _passes(197e12), 819e9, int(15.75 * GIB), 200e9, f"{_TPU_DOCS}/v5e",
            clock=1.5e9, clock_source=_FROM_PEAK, layouts=_SLICES,
        ),
        Chip(
            "v5p", "tpu", _passes(459e12), 2765e9, int(95.74 * GIB), 600e9, f"{_TPU_DOCS}/v5p",
            clock=1.75e9, clock_source=_FROM_PEAK, host=4,
            layouts=("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
        ),
        Chip(
            "v6e", "tpu", _passes(918e12), 1600e9, int(31.25 * GIB), 400e9, f"{_TPU_DOCS}/v6e",
            clock=1.75e9, clock_source=f"{_FROM_PEAK}, of which nobody publishes the number", layouts=_SLICES,
        ),
        Chip(
            "a100", "cuda", _tensor_cores(312e12, 156e12, 19.5e12, 19.5e12), 2039e9, 85_100_068_864, 300e9,
            f"NVIDIA's datasheet of the A100 80GB SXM; the card: {_XLA}, a100_sxm_80",
            card=_card(
                "NVIDIA A100-SXM4-80GB", "major: 8 feature_extension: NONE", 85_100_068_864, 2_039_040_000_000,
                core_count=108, fpus_per_core=64, clock_rate_ghz=1.41, l2_cache_size=41_943_040,
                shared_memory_per_core=167_936, shared_memory_per_block_optin=166_912,
            ),
        ),
        Chip(
            "h100", "cuda", _tensor_cores(989.4e12, 494.7e12, 66.9e12, 66.9e12), 3352e9, 84_942_979_072, 450e9,
            f"NVIDIA's datasheet of the H100 SXM; the card: {_XLA}, h100_sxm",
            card=_card(
                "NVIDIA H100 80GB HBM3", _HOPPER, 84_942_979_072, 3_352_320_000_000,
                core_count=132, fpus_per_core=128, clock_rate_ghz=1.98, l2_cache_size=52_428_800,
                shared_memory_per_core=233_472, shared_memory_per_block_optin=232_448,
            ),
        ),
        Chip(
            "h200", "cuda", _tensor_cores(989.4e12, 494.7e12, 66.9e12, 66.9e12), 4800e9, 151_397_597_184, 450e9,
            f"NVIDIA's datasheet of the H200 SXM; the card: {_XLA}, h200",
            card=_card(
                "NVIDIA H200 141GB HBM3e", _HOPPER, 151_397_597_184, 4_800_000_000_000,
                core_count=132, fpus_per_core=128, clock_rate_ghz=1.98, l2_cache_size=52_428_800,
                shared_memory_per_core=233_472, shared_memory_per_block_optin=232_448,
            ),
        ),
    )
}  # fmt: skip
# What a launch of a kernel costs a host, and a sum of little its neighbours: guesses, and printed as such.
LAUNCH = 3e-6  # seconds a kernel on a GPU; a TPU is given the whole step as one program
LATENCY = 5e-6  # seconds from a device to the next


@dataclass(frozen=True)
class Target:
    """Chips in one layout."""

    name: str  # as it was asked for
    chip: Chip
    layout: str  # of a TPU, "2x2"; of GPUs ""
    devices: int  # that there are

    @property
    def processes(self) -> int:
        """That a run on all of it has."""
        return -(-self.devices // self.chip.host)


def target(name: str) -> Target:
    """The target that `v5e:2x2` or `h100` names; a TPU alone is its smallest slice.

    Raises:
      UserError: there is no such chip, or it does not come in that layout.
    """
    chip_name, _, layout = name.partition(":")
    chip = CHIPS.get(chip_name.lower())
    if chip is None:
        known = [f"{c.name}:{layout}" for c in CHIPS.values() for layout in c.layouts[:1]] + list(CHIPS)
        family = re.split("[-_ ]", chip_name)[0]  # of a100-80gb, v5litepod-8
        near = nearest(chip_name, known, other_names.TARGETS) or nearest(family, known, other_names.TARGETS)
        hint = f"{suggestion(near)} " if near else ""
        raise UserError(f"unknown target {name!r}; {hint}there are: {', '.join(CHIPS)}; a TPU with its slice, v5e:2x2")
    if not chip.layouts:
        if layout:
            raise UserError(f"target {chip.name} has no layout, got {name!r}; how many GPUs is --mesh data=N")
        return Target(chip.name, chip, "", chip.host)
    layout = layout or chip.layouts[0]
    if layout not in chip.layouts:
        raise UserError(f"target {chip.name} comes as {', '.join(chip.layouts)}, got {layout!r}")
    devices = 1
    for side in layout.split("x"):
        devices *= int(side)
    return Target(f"{chip.name}:{layout}", chip, layout, devices)


def card_text(chip: Chip) -> str:
    """What jax's CUDA compiler is told of a card: a GpuTargetConfigProto as text."""
    facts = dict(chip.card) | {
        "threads_per_block_limit": "1024",
        "threads_per_warp": "32",
        "threads_per_core_limit": "2048",
        "shared_memory_per_block": "49152",
        "registers_per_core_limit": "65536",
        "registers_per_block_limit": "65536",
        "block_dim_limit_x": "2147483647",
        "block_dim_limit_y": "65535",
        "block_dim_limit_z": "65535",
        "thread_dim_limit_x": "1024",
        "thread_dim_limit_y": "1024",
        "thread_dim_limit_z": "64",
        "device_vendor": '"NVIDIA Corporation"',
        "device_address_bits": "64",
        "ecc_enabled": "true",
        # Of the libraries that jax's plugin of this range is built for.
        "driver_version": '"13.0.0"',
        "runtime_version": '"13.0.0"',
        "compile_time_toolkit_version": '"13.0.0"',
        "dnn_version": '"9.12.0"',
    }
    capability = re.search(r"major: (\d+)", facts["cuda_compute_capability"])
    assert capability is not None
    accelerated = "a" if "ACCELERATED" in facts["cuda_compute_capability"] else ""
    facts["platform_version"] = f'"Compute Capability {capability[1]}.0{accelerated}"'
    lines = [f"  {key} {value}" if value.startswith("{") else f"  {key}: {value}" for key, value in facts.items()]
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            "}",
            'platform_name: "CUDA"',
            "dnn_version_info { major: 9 minor: 12 patch: 0 }",
            f"device_description_str: {facts['name']}",
        ]
    )
