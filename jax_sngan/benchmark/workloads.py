"""What the benchmark measures, and what is made of the measurements. Knows no jax and no torch."""

import math
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax_sngan.config.presets import cifar10_cnn, cifar10_resnet, fashion, sngan
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.system.errors import UserError

# What torch's side is made of, alone or joined by +, as channels_last+graphs. graphs: the whole step as one CUDA graph.
# autocast: torch's own way to bfloat16, in which its power iterations are in bfloat16 too.
FORMS = ("channels_last", "compiled", "graphs", "autocast")
ON_CPU = ("eager", "channels_last", "compiled")
ON_GPU = (*ON_CPU, "channels_last+compiled", "channels_last+graphs")

# How products are computed, as changes of a config (docs/precision.md).
ARITHMETICS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "highest"},
    "tf32": {"precision": "default"},
    "bfloat16": {"precision": "default", "model.compute_dtype": "bfloat16"},
}


def kinds(platform: str, arithmetic: str) -> tuple[str, ...]:
    """The kinds of torch's side that are measured where none is named; platform as jax names it."""
    if platform == "cpu":
        return ON_CPU
    return (*ON_GPU, "autocast", "autocast+channels_last+graphs") if arithmetic == "bfloat16" else ON_GPU


def check_kind(kind: str, platform: str, arithmetic: str) -> None:
    """
    Raises:
      UserError: there is no such kind, or not here.
    """
    parts = kind.split("+")
    if kind != "eager" and (len(set(parts)) < len(parts) or not set(parts) <= set(FORMS)):
        raise UserError(f"--kinds must be eager, or of {', '.join(FORMS)}, joined by +; got {kind}")
    if "graphs" in parts and platform == "cpu":
        raise UserError(f"--kinds: graphs are of CUDA, and jax finds a CPU alone; got {kind}")
    if "autocast" in parts and arithmetic != "bfloat16":
        raise UserError(f"--kinds: autocast is for --arithmetic bfloat16 alone, got {kind} with {arithmetic}")


class Workload(NamedTuple):
    """One row of the table."""

    name: str
    config: TrainConfig
    images: int = 0  # to draw, where the work is sampling; 0: a training step
    stands_for: int = 0  # images that the row's seconds are scaled to


def workloads() -> dict[str, Workload]:
    """Every workload by name."""
    resnet = replace(cifar10_resnet(), {"generator_batch_multiplier": 1})
    cnn = cifar10_cnn()
    penalty = {
        "loss": "wasserstein",
        "penalty.kind": "gradient_penalty",
        "model.spectral_norm.networks": "none",
        "model.discriminator_norm": "layer",
    }
    all_works = [
        Workload("resnet32", resnet),  # an iteration: five D updates and one of G, batch 64 each
        Workload("resnet32_ndis1", replace(resnet, {"n_dis": 1})),
        Workload("cnn32", cnn),
        Workload("wgan_gp", replace(cnn, penalty)),
        Workload("sample_resnet32", resnet, images=512, stands_for=10_000),
        Workload("fashion", sngan()),  # what the preset fashion was until 2026-11-30: figures of all days are of it
        Workload("default", fashion()),
        Workload("resnet32_narrow", replace(resnet, {"model.generator_width": 32, "model.discriminator_width": 32})),
    ]
    return {w.name: w for w in all_works}


ALLOWED = 1.1  # how many times slower than in a stored run is no news
DEFAULT = ("resnet32", "cnn32", "wgan_gp", "sample_resnet32", "fashion", "default")


def row(
    work: Workload,
    seconds: Mapping[str, list[float]],
    told: Mapping[str, dict[str, Any]],
    peak: float,
    arithmetic: str = "float32",
) -> dict[str, Any]:
    """One row of the result.

    Args:
      seconds: side (jax, or a kind of torch's) -> its repetitions, a step's each; a side that failed is not there.
      told: side -> what its process said beside times: mb, and of jax gflop and more.
      peak: GFLOP/s of a matrix product in this arithmetic.
    """
    scale = work.stands_for / work.images if work.images else 1
    median = {side: scale * statistics.median(s) for side, s in seconds.items()}
    torch = {kind: s for kind, s in median.items() if kind != "jax"}
    best = min(torch, key=torch.__getitem__) if torch else None
    ours, gflop = median["jax"], scale * told["jax"]["gflop"]
    result: dict[str, Any] = {
        "work": work.name,
        "arithmetic": arithmetic,
        "jax_s": ours,
        "torch_eager_s": torch.get("eager"),
        "torch_best_s": torch[best] if best else None,
        "torch_best": best,
        "ratio_best": torch[best] / ours if best else None,
        "ratio_eager": torch["eager"] / ours if "eager" in torch else None,
        "gflop": gflop,
        "peak_share": gflop / ours / peak,
        "jax_mb": told["jax"].get("mb"),
        "torch_mb": told[best].get("mb") if best else None,
        # More than the contract asks for.
        "torch_gflop": scale * told["eager"]["gflop"] if "gflop" in told.get("eager", {}) else None,
        "compile_s": told["jax"]["compile_s"],
        "seconds": {side: [scale * x for x in s] for side, s in seconds.items()},
        "torch_compiled": told.get("compiled", {}).get("compiled"),
        "mb": {side: t["mb"] for side, t in told.items() if "mb" in t},
        "devices": {side: t["device"] for side, t in told.items() if "device" in t},
        "failed": {kind: t["failed"] for kind, t in told.items() if "failed" in t},
        "losses": {side: t["losses"] for side, t in told.items() if "losses" in t},
    }
    shares = ("power_iteration_share", "host_share")
    return result | {name: told["jax"][name] for name in shares if name in told["jax"]}


def table(result: Mapping[str, Any]) -> str:
    """The result for a person."""

    def number(x: float | None, form: str) -> str:
        return "-" if x is None else format(x, form)

    lines = [
        f"{result['machine']['device']}, {result['machine']['cores']} cores, "
        f"matrix product {result['matmul_gflops']:.0f} GFLOP/s",
        f"{'work':25} {'jax s':>8} {'eager s':>8} {'best s':>8} {'best is':14} {'/best':>6} {'/eager':>6} "
        f"{'GFLOP':>7} {'peak':>5} {'jax MB':>7} {'torch MB':>8}",
    ]
    for r in result["rows"]:
        lines.append(
            f"{r['work'] + ' ' + r['arithmetic']:25} {r['jax_s']:8.4g} {number(r['torch_eager_s'], '8.4g'):>8} "
            f"{number(r['torch_best_s'], '8.4g'):>8} {r['torch_best'] or '-':14} {number(r['ratio_best'], '.2f'):>6} "
            f"{number(r['ratio_eager'], '.2f'):>6} {r['gflop']:7.1f} {r['peak_share']:5.0%} "
            f"{number(r['jax_mb'], '.0f'):>7} {number(r['torch_mb'], '.0f'):>8}"
        )
    for r in result["rows"]:
        lines += [f"{r['work']}: torch {kind} failed: {why}" for kind, why in r["failed"].items()]
    if (of := result.get("starts")) is not None:
        lines.append(
            f"a start of train {of['preset']}, to its first step done: {of['first_s']:.1f} s with an empty cache of "
            f"programs, {of['second_s']:.1f} s with a full one"
        )
    return "\n".join(lines)


def slower(result: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """What became slower than in a stored result: by the ratio to torch, or to the matrix product where there is none.

    Ratios, since another day's machine is another machine.
    """
    before = {(r["work"], r.get("arithmetic", "float32")): r for r in stored["rows"]}
    found = []
    for r in result["rows"]:
        if (old := before.get((r["work"], r.get("arithmetic", "float32")))) is None:
            continue
        name = "ratio_best" if r.get("ratio_best") and old.get("ratio_best") else "peak_share"
        if r[name] * ALLOWED < old[name]:
            found.append(f"{r['work']}: {name} was {old[name]:.3g}, is {r[name]:.3g}")
    return found


def growth(sizes: list[float], seconds: list[float]) -> tuple[float, float]:
    """(exponent, constant): seconds = constant * size^exponent, by least squares on logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    return exponent, math.exp(mean_y - exponent * mean_x)
