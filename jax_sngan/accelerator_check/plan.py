"""Which stages an accelerator's check has, in the order of what one would miss most."""

import json
from pathlib import Path
from typing import Any

from jax_sngan.accelerator_check.check import Stage
from jax_sngan.benchmark.workloads import kinds

WORKLOADS = ("fashion", "cnn32", "resnet32")


def first(quick: bool) -> Stage:
    """What the other stages are planned by."""
    return Stage("probe", "the machine, its packages, its matrix product", _jax("probe", {}), 120 if quick else 60)


def stages(scratch: Path, probed: dict[str, Any], *, quick: bool) -> list[list[Stage]]:
    """All others, in groups: what is in one runs at the same time, since it is not timed.

    Args:
      scratch: a folder for the runs of a stage.
      probed: what the first stage told.
      quick: tiny networks and two cases of the ladder, to see that it works.
    """
    on_cpu, torch = probed["machine"]["platform"] == "cpu", "torch" not in probed["without"]
    workloads, limit = WORKLOADS[:1] if quick else WORKLOADS, 300 if quick else 120
    untimed = []
    if torch and not {"pytest", "parity_tests"} & probed["without"].keys():
        command = ("parity_tests.short_ladder", *(["--quick"] if quick else []))
        untimed.append(Stage("ladder", "JAX against torch, the short ladder", command, limit))
        if not on_cpu:  # says which of the two it is, if they part; and if one can't start beside the other
            apart = ("parity_tests.short_ladder", "--first=3", "--torch-device=cpu")
            untimed.append(Stage("ladder_torch_on_cpu", "JAX on the device against torch on the CPU", apart, limit))
    more = {"quick": quick}
    kept = more | {"folder": str(scratch / "runs")}
    untimed += [
        Stage("mesh", "a step on a mesh of one device", _jax("mesh", more), limit),
        Stage("resume", "a run that was cut off goes on", _jax("resume", kept), limit),
    ]
    read = _jax("compiled", more | {"workloads": workloads})
    # What JAX does where nothing is said comes first, with all of torch's kinds; torch.compile takes a minute each.
    usual, *others = sorted(probed["gflops"], key=("tf32", "bfloat16", "float32").index)
    timed = [_run(probed, work, usual, None, quick=quick) for work in workloads]
    timed.append(Stage("compiled", "what the compiled step says of its time", read, limit))
    for slow in (False, True):
        timed += [_run(probed, work, arithmetic, slow, quick=quick) for arithmetic in others for work in workloads]
    return ([[stage] for stage in untimed] if on_cpu else [untimed]) + [[stage] for stage in timed]


def _run(probed: dict[str, Any], work: str, arithmetic: str, slow: bool | None, *, quick: bool) -> Stage:
    """A row of the benchmark; slow: beside torch.compile alone, or all but that; None: beside all."""
    every = kinds(probed["machine"]["platform"], arithmetic) if "torch" not in probed["without"] else ()
    some = [kind for kind in every if slow is None or ("compiled" in kind.split("+")) == slow]
    options = {
        "work": work,
        "arithmetic": arithmetic,
        "kinds": some[:1] if quick else some,
        "repetitions": 1 if quick else 5,
        "peak": probed["gflops"][arithmetic],
        "quick": quick,
    }
    name = f"benchmark_{work}_{arithmetic}" + ("_compiled" if slow else "")
    beside = f"torch: {', '.join(some)}" if some else "nothing, since there is no torch"
    what = f"a step of {work} in {arithmetic} beside {beside}"
    return Stage(name, what, _jax("benchmark", options), 300 if quick else 90 if slow is False else 130)


def _jax(stage: str, options: dict[str, Any]) -> tuple[str, ...]:
    return "jax_sngan.accelerator_check.stages", stage, json.dumps(options)
