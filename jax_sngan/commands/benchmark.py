"""Step time and memory of every network: JAX against torch eager, channels_last, compiled and more, in one run.

Exit code 1: --check found something slower than in the stored run, or --against than at that commit.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax_sngan.benchmark import workloads as plan
from jax_sngan.commands import cli
from jax_sngan.config.schema import RunConfig, replace
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import read_json, write_json

REPETITIONS, PAIRS, WATCHING = 3, 15, 8


def main() -> int:
    """The exit code."""
    workloads = plan.workloads()
    arguments = read(workloads)
    stored = read_json(arguments.check) if arguments.check else None
    if arguments.against is not None:
        return compare(arguments, workloads)
    if arguments.watching:
        return watching(arguments, workloads)
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


def compare(arguments: argparse.Namespace, workloads: dict[str, plan.Workload]) -> int:
    """Measures against another commit; the exit code.

    Raises:
      UserError: there is no such commit, or this machine has no such arithmetic.
    """
    from jax_sngan.benchmark import paired

    with paired.checked_out(arguments.against) as (commit, tree):

        def row(work: plan.Workload, pairs: int, changes: dict[str, Any], arithmetic: str) -> dict[str, Any]:
            return paired.measure_pairs(work, tree, pairs, changes, arithmetic)

        works = [workloads[name] for name in arguments.work or plan.DEFAULT]
        rows = in_pairs(arguments, works, row, PAIRS, "against", {"commit": commit})
    return 1 if any(row["slower"] for row in rows) else 0


def watching(arguments: argparse.Namespace, workloads: dict[str, plan.Workload]) -> int:
    """Measures what a step's own numbers cost; the exit code.

    Raises:
      UserError: this machine has no such arithmetic, or a work is no step.
    """
    from jax_sngan.benchmark.watching import measure

    works = [workloads[name] for name in arguments.work or plan.DEFAULT]
    if arguments.work is None:
        works = [work for work in works if not work.images]
    for work in works:
        if work.images:
            raise UserError(f"--watching is of training steps, and {work.name} draws samples")
    in_pairs(arguments, works, measure, WATCHING, "watching", {})
    return 0


def in_pairs(
    arguments: argparse.Namespace,
    works: list[plan.Workload],
    measure: Callable[[plan.Workload, int, dict[str, Any], str], dict[str, Any]],
    pairs: int,
    title: str,
    facts: dict[str, Any],
) -> list[dict[str, Any]]:
    """The rows of a comparison in pairs, also printed and written as the line asks."""
    from jax_sngan.benchmark import paired
    from jax_sngan.benchmark import runner as run

    probed = run.probe()
    chosen = chosen_arithmetics(arguments, probed)
    changes = {"batch_size": 8} if arguments.quick else {}
    pairs = 1 if arguments.quick else arguments.repetitions or pairs
    rows = []
    for work in works:
        for arithmetic in chosen:
            print(f"{work.name}, {arithmetic} …", file=sys.stderr, flush=True)
            rows.append(measure(work, pairs, changes, arithmetic))
    found = facts | {"rows": rows}
    if arguments.json != "-":
        print(paired.table(found))
    if arguments.json:
        machine = {"machine": run.machine(probed), "matmul_gflops": probed["gflops"]["float32"], "changes": changes}
        write_json(arguments.json, machine | {"rows": [], title: found})
    return rows


def chosen_arithmetics(arguments: argparse.Namespace, probed: dict[str, Any]) -> list[str]:
    """Those that are asked for, else all that there are.

    Raises:
      UserError: this machine has not one that is asked for.
    """
    peaks, platform = probed["gflops"], probed["platform"]
    for arithmetic in (chosen := arguments.arithmetic or list(peaks)):
        if arithmetic not in peaks:
            raise UserError(f"--arithmetic must be of {', '.join(peaks)} on a {platform.upper()}, got {arithmetic}")
    return list(chosen)


def read(workloads: dict[str, plan.Workload]) -> argparse.Namespace:
    """The line.

    Raises:
      UserError: a value that an option does not allow.
    """
    parser = cli.Parser(description=__doc__)
    parser.add_argument(
        "--work", nargs="+", metavar="NAME", help=f"of {', '.join(workloads)} (default {' '.join(plan.DEFAULT)})"
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help=f"of each side, in turn (default {REPETITIONS}; --against: {PAIRS}; --watching: {WATCHING} processes)",
    )
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
    parser.add_argument(
        "--torch-python", metavar="PATH", help="the Python of torch's side (default: this one), which needs no jax"
    )
    parser.add_argument("--device", default="auto", help="of torch: cpu, cuda, cuda:N or auto (default)")
    parser.add_argument("--quick", action="store_true", help="a small batch and one repetition: to see that it works")
    parser.add_argument("--starts", action="store_true", help="also the first and the second start of `fashion`")
    parser.add_output("--sweep", "also how cost grows, drawn there", ".png")
    parser.add_argument("--check", metavar="STORED.json", help="say what became slower since a stored run")
    parser.add_argument(
        "--against", metavar="COMMIT", help="JAX's side alone, beside that of another commit: pairs of steps in turn"
    )
    parser.add_argument(
        "--watching", action="store_true", help="JAX's side alone, beside a step that tells its losses and scores only"
    )
    parser.add_output("--json", "write the result there", ".json")
    arguments = parser.parse()
    for comparison, what in (("against", "compares two commits"), ("watching", "compares two steps of JAX's side")):
        others = ("check", "kinds", "torch_python", "starts", "sweep", "watching")
        given = [name for name in others if name != comparison and getattr(arguments, name)]
        if getattr(arguments, comparison) and given:
            option = f"--{given[0].replace('_', '-')}"
            raise UserError(f"{option} is of another measurement than --{comparison}, which {what}: give one")
    for option, values, known in (
        ("--work", arguments.work, workloads),
        ("--arithmetic", arguments.arithmetic, plan.ARITHMETICS),
    ):
        for value in values or ():
            if value not in known:
                raise UserError(f"{option} must be of {', '.join(known)}; got {value}")
    replace(RunConfig(), {"device": arguments.device})  # refuses what is no device
    if arguments.repetitions is not None and arguments.repetitions < 1:
        raise UserError(f"--repetitions must be at least 1, got {arguments.repetitions}")
    return arguments


def measure(arguments: argparse.Namespace, workloads: dict[str, plan.Workload]) -> dict[str, Any]:
    """All that was asked for: the JSON.

    Raises:
      UserError: this machine has no such arithmetic or kind.
    """
    from jax_sngan.benchmark import runner as run

    changes = {"batch_size": 8} if arguments.quick else {}
    repetitions = 1 if arguments.quick else arguments.repetitions or REPETITIONS
    python = arguments.torch_python
    if python is not None:
        run.torch_version(python)  # told before anything is measured
    probed = run.probe()
    platform, peaks = probed["platform"], probed["gflops"]
    for arithmetic in (chosen := chosen_arithmetics(arguments, probed)):
        for kind in arguments.kinds or ():
            plan.check_kind(kind, platform, arithmetic)
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "machine": run.machine(probed, python),
        "matmul_gflops": peaks["float32"],
        "matmul_gflops_by_arithmetic": peaks,
        "changes": changes,
        "rows": rows,
    }
    for name in arguments.work or plan.DEFAULT:
        for arithmetic in chosen:
            print(f"{name}, {arithmetic} …", file=sys.stderr, flush=True)
            kinds = arguments.kinds or plan.kinds(platform, arithmetic)
            how = run.Plan(
                repetitions, peaks[arithmetic], kinds, arithmetic, arguments.device, changes, python or sys.executable
            )
            rows.append(run.measure(workloads[name], how))
    if arguments.starts:
        result["starts"] = run.starts("fashion")
    if arguments.sweep:
        result["sweeps"] = run.sweep(workloads, repetitions, peaks["float32"])
        run.draw(result["sweeps"], Path(arguments.sweep))
    return result
