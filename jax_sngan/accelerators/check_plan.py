"""Which stages an accelerator's check has, in the order of what one would miss most."""

import json
from pathlib import Path
from typing import Any

from jax_sngan.accelerators.check import Stage
from jax_sngan.benchmark_plan import kinds

WORKS = ("fashion", "cnn32", "resnet32")
_COMPILED = ("compiled", "channels_last+compiled")  # torch.compile takes a minute; what is quick comes before


def first(quick: bool) -> Stage:
    """What the other stages are planned by."""
    return Stage("probe", "the machine, its packages, its matrix product", _jax("probe", {}), 120 if quick else 60)


def stages(scratch: Path, probed: dict[str, Any], *, quick: bool) -> list[Stage]:
    """All others.

    Args:
      scratch: a folder for the runs of a stage.
      probed: what the first stage told.
      quick: tiny networks and two cases of the ladder, to see that it works.
    """
    works, more = WORKS[:1] if quick else WORKS, {"quick": quick}
    limit = 300 if quick else 90
    torch = "torch" not in probed["without"]
    found = []
    if torch and "pytest" not in probed["without"]:
        command = ("parity_tests.short_ladder", *(["--quick"] if quick else []))
        found.append(Stage("ladder", "JAX against torch, the short ladder", command, 300 if quick else 150))
        if probed["machine"]["platform"] != "cpu":  # says which of the two it is, if they part; and if one can't start
            apart = ("parity_tests.short_ladder", "--first=3", "--torch-device=cpu")
            found.append(Stage("ladder_torch_on_cpu", "JAX on the device against torch on the CPU", apart, 60))
    runs = [_run(probed, work, a, torch, slow=False, quick=quick) for a in probed["gflops"] for work in works]
    found += runs[:1]
    runs_in = more | {"folder": str(scratch / "runs")}
    found += [
        Stage("mesh", "a step on a mesh of one device", _jax("mesh", more), limit),
        Stage("resume", "a run that was cut off goes on", _jax("resume", runs_in), limit),
    ]
    found += runs[1:]
    read = _jax("compiled", more | {"works": works})
    found.append(Stage("compiled", "what the compiled step says of its time", read, limit))
    if torch and not quick:
        found += [_run(probed, work, a, torch, slow=True, quick=quick) for work in works for a in probed["gflops"]]
    return found


def _run(probed: dict[str, Any], work: str, arithmetic: str, torch: bool, *, slow: bool, quick: bool) -> Stage:
    platform = probed["machine"]["platform"]
    some = [kind for kind in kinds(platform, arithmetic) if (kind in _COMPILED) == slow] if torch else []
    options = {
        "work": work,
        "arithmetic": arithmetic,
        "kinds": some[:1] if quick else some,
        "repetitions": 1 if quick else 5,
        "peak": probed["gflops"][arithmetic],
        "quick": quick,
    }
    name = f"benchmark_{work}_{arithmetic}" + ("_compiled" if slow else "")
    beside = "torch.compile" if slow else "torch" if torch else "nothing: there is no torch"
    what = f"a step of {work} in {arithmetic} beside {beside}"
    return Stage(name, what, _jax("benchmark", options), 300 if quick else 150 if slow else 75)


def _jax(stage: str, options: dict[str, Any]) -> tuple[str, ...]:
    return "jax_sngan.accelerators.check_stages", stage, json.dumps(options)
