"""What the options `precision` and `deterministic` come to on each kind of device. Knows neither jax nor torch.

A platform is a name as jax's devices have it: cpu, gpu, tpu.
"""

from typing import Any

from jax_sngan.config.schema import TrainConfig

# What multiplies float32 (jax.lax.Precision); sums are kept in float32 everywhere.
_TF32 = "TF32 factors (10 bits behind the point) on NVIDIA GPUs from Ampere on"
_FACTORS = {
    "cpu": dict.fromkeys(("default", "high", "highest"), "full float32, as always on a CPU"),
    "gpu": {"default": _TF32, "high": _TF32, "highest": "full float32"},
    "tpu": {
        "default": "bfloat16 factors (7 bits behind the point), one pass",
        "high": "float32 as two bfloat16, three passes",
        "highest": "float32 as three bfloat16, six passes",
    },
}
# By platform, what is asked of XLA's compiler: no atomic sums, and no choice of kernels by their time.
_DETERMINISTIC: dict[str, dict[str, Any]] = {"cpu": {}, "gpu": {"xla_gpu_deterministic_ops": True}, "tpu": {}}


def describe_precision(config: TrainConfig, platform: str) -> str:
    """One line: the types of a run's products, and what its precision means on the platform."""
    model = config.model
    if model.dtype == "float64":
        return "float64 in full"
    known = _FACTORS.get(platform)
    meaning = known[config.precision] if known else f"whatever jax's backend {platform} makes of it"
    float32 = f"float32, {config.precision}: {meaning}"
    if model.compute_dtype == "bfloat16":
        return "bfloat16 factors, the last layers' results and all sums in float32"
    return float32


def compiler_options(deterministic: bool, platform: str) -> dict[str, Any]:
    """What a program is compiled with, by XLA's names; only the platform's own compiler knows them."""
    return dict(_DETERMINISTIC.get(platform, {})) if deterministic else {}


def describe_determinism(platform: str) -> str:
    """One line: what the option deterministic does on the platform."""
    if platform == "cpu":
        return "nothing to ask for: a CPU's programs are deterministic"
    options = compiler_options(True, platform)
    if options:
        return f"asked of XLA by {', '.join(options)} (docs/resuming.md)"
    return f"no such option is known of XLA's compiler for {platform} (docs/resuming.md)"
