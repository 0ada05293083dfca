"""Step time and memory of every network: JAX against torch eager, channels_last, compiled and more, in one run.

Exit code 1: --check found something slower than in the stored run.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from jax_sngan.benchmark import workloads as plan
from jax_sngan.commands import cli
from jax_sngan.config.schema import RunConfig, replace
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import read_json, write_json


def main() -> int:
    """The exit code."""
    workloads = plan.workloads()
    arguments = read(workloads)
    stored = read_json(arguments.check) if arguments.check else None
    if stored is not None and not (isinstance(stored, dict) and isinstance(stored.get("rows"), list)):
        raise UserError(f"--check: {arguments.check} is no result of the benchmark")
    result = measure(arguments, workloads)
    if arguments.json != "-":
        print(plan.table(result))
    if arguments.json:
        write_json(arguments.json, result)
    slower = plan.slower(result, stored) if stored else []
    for line in slower:
        print(f"slower: {line}", file=sys.stderr)
    return 1 if slower else 0


def read(workloads: dict[str, plan.Workload]) -> argparse.Namespace:
    """The line.

    Raises:
      UserError: a value that an option does not allow.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument(
        "--work", nargs="+", metavar="NAME", help=f"of {', '.join(workloads)} (default {' '.join(plan.DEFAULT)})"
    )
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="of each side, in turn (default 3)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        metavar="KIND",
        help=f"of torch: eager, or {', '.join(plan.FORMS)}, alone or joined by + (default on a CPU: "
        f"{' '.join(plan.ON_CPU)}; on a GPU: {' '.join(plan.ON_GPU)}, in bfloat16 autocast too)",
    )
    parser.add_argument(
        "--arithmetic",
        nargs="+",
        metavar="NAME",
        help=f"of products, of {', '.join(plan.ARITHMETICS)} (default: all on a GPU, float32 on a CPU)",
    )
    parser.add_argument("--device", default="auto", help="of torch: cpu, cuda, cuda:N or auto (default)")
    parser.add_argument("--quick", action="store_true", help="a small batch and one repetition: to see that it works")
    parser.add_argument("--starts", action="store_true", help="also the first and the second start of `fashion`")
    parser.add_output("--sweep", "also how cost grows, drawn there", ".png")
    parser.add_argument("--check", metavar="STORED.json", help="say what became slower since a stored run")
    parser.add_output("--json", "write the result there", ".json")
    arguments = parser.parse()
    for option, values, known in (
        ("--work", arguments.work, workloads),
        ("--arithmetic", arguments.arithmetic, plan.ARITHMETICS),
    ):
        for value in values or ():
            if value not in known:
                raise UserError(f"{option} must be of {', '.join(known)}; got {value}")
    replace(RunConfig(), {"device": arguments.device})  # refuses what is no device
    if arguments.repetitions < 1:
        raise UserError(f"--repetitions must be at least 1, got {arguments.repetitions}")
    return arguments


def measure(arguments: argparse.Namespace, workloads: dict[str, plan.Workload]) -> dict[str, Any]:
    """All that was asked for: the JSON.

    Raises:
      UserError: this machine has no such arithmetic or kind.
    """
    from jax_sngan.benchmark import runner as run

    changes = {"batch_size": 8} if arguments.quick else {}
    repetitions = 1 if arguments.quick else arguments.repetitions
    probed = run.probe()
    platform, peaks = probed["platform"], probed["gflops"]
    for arithmetic in (chosen := arguments.arithmetic or list(peaks)):
        if arithmetic not in peaks:
            raise UserError(f"--arithmetic must be of {', '.join(peaks)} on a {platform.upper()}, got {arithmetic}")
        for kind in arguments.kinds or ():
            plan.check_kind(kind, platform, arithmetic)
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "machine": run.machine(probed),
        "matmul_gflops": peaks["float32"],
        "matmul_gflops_by_arithmetic": peaks,
        "changes": changes,
        "rows": rows,
    }
    for name in arguments.work or plan.DEFAULT:
        for arithmetic in chosen:
            print(f"{name}, {arithmetic} …", file=sys.stderr, flush=True)
            kinds = arguments.kinds or plan.kinds(platform, arithmetic)
            how = run.Plan(repetitions, peaks[arithmetic], kinds, arithmetic, arguments.device, changes)
            rows.append(run.measure(workloads[name], how))
    if arguments.starts:
        result |= run.starts("fashion")
    if arguments.sweep:
        result["sweeps"] = run.sweep(workloads, repetitions, peaks["float32"])
        run.draw(result["sweeps"], Path(arguments.sweep))
    return result
