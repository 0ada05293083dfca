"""Step time and memory of every network: JAX against torch eager, channels_last and compiled, in one run.

Exit code 1: --check found something slower than in the stored run.
"""

import sys
from pathlib import Path
from typing import Any

from jax_sngan import benchmark_plan, command_line
from jax_sngan.errors import UserError
from jax_sngan.files import read_json, write_json


def main() -> int:
    """The exit code."""
    works = benchmark_plan.works()
    parser = command_line.Parser(description=__doc__)
    parser.add_argument(
        "--work", nargs="+", metavar="NAME", help=f"of {', '.join(works)} (default {' '.join(benchmark_plan.DEFAULT)})"
    )
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="of each side, in turn (default 3)")
    parser.add_argument(
        "--kinds", nargs="+", metavar="KIND", help=f"of torch: {', '.join(benchmark_plan.TORCH_KINDS)} (default all)"
    )
    parser.add_argument("--quick", action="store_true", help="a small batch and one repetition: to see that it works")
    parser.add_argument("--starts", action="store_true", help="also the first and the second start of `fashion`")
    parser.add_output("--sweep", "also how cost grows, drawn there", ".png")
    parser.add_argument("--check", metavar="STORED.json", help="say what became slower since a stored run")
    parser.add_output("--json", "write the result there", ".json")
    arguments = parser.parse()
    names, kinds = arguments.work or benchmark_plan.DEFAULT, arguments.kinds or benchmark_plan.TORCH_KINDS
    for option, values, known in (("--work", names, works), ("--kinds", kinds, benchmark_plan.TORCH_KINDS)):
        for value in values:
            if value not in known:
                raise UserError(f"{option} must be of {', '.join(known)}; got {value}")
    if arguments.repetitions < 1:
        raise UserError(f"--repetitions must be at least 1, got {arguments.repetitions}")
    stored = read_json(arguments.check) if arguments.check else None
    if stored is not None and not (isinstance(stored, dict) and isinstance(stored.get("rows"), list)):
        raise UserError(f"--check: {arguments.check} is no result of benchmark.py")

    from jax_sngan import benchmark_run as run

    changes = {"batch_size": 8} if arguments.quick else {}
    repetitions = 1 if arguments.quick else arguments.repetitions
    peak = run.matmul_gflops()
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"machine": run.machine(), "matmul_gflops": peak, "changes": changes, "rows": rows}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows.append(run.measure(works[name], repetitions, peak, kinds, changes))
    if arguments.starts:
        result |= run.starts("fashion")
    if arguments.sweep:
        result["sweeps"] = run.sweep(works, repetitions, peak)
        run.draw(result["sweeps"], Path(arguments.sweep))
    if arguments.json != "-":
        print(benchmark_plan.table(result))
    if arguments.json:
        write_json(arguments.json, result)
    slower = benchmark_plan.slower(result, stored) if stored else []
    for line in slower:
        print(f"slower: {line}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    command_line.run(main)
