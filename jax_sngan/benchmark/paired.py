"""Two versions of the program beside each other: steps in turn, their ratios, and whether one is really slower."""

import math
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jax_sngan.benchmark.runner import ROOT, STEPS, Side, side_arguments
from jax_sngan.benchmark.workloads import Workload
from jax_sngan.system.errors import UserError

CONFIDENCE = 0.95
PAIRS_A_START = 5  # pairs of steps before both processes are started anew: where its memory lies makes one slower
MARGIN = 1.02  # an interval below this is no news: two processes of one version differ as much


@contextmanager
def checked_out(commit: str) -> Iterator[tuple[str, Path]]:
    """The whole name of a commit, and a folder with its files, which is gone when the block ends.

    Raises:
      UserError: this is no checkout, there is no such commit, or it cannot be benchmarked.
    """
    name = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--detach", "--quiet", str(tree), name)
        try:
            if not (tree / "jax_sngan/benchmark/jax_side.py").is_file():
                raise UserError(f"--against: {commit} has no jax_sngan/benchmark/jax_side.py to be measured by")
            yield name, tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--against needs git: {error.strerror or error}") from error
    if done.returncode:
        why = done.stderr.strip().splitlines()
        raise UserError(f"--against: git {arguments[0]} failed in {ROOT}: {why[-1] if why else 'no such commit'}")
    return done.stdout.strip()


def measure_pairs(
    work: Workload, tree: Path, repetitions: int, changes: Mapping[str, Any], arithmetic: str = "float32"
) -> dict[str, Any]:
    """One row: a step of the program here and one of that in another folder, one after the other.

    Who is first changes from pair to pair. After PAIRS_A_START pairs both processes are started anew.

    Raises:
      RuntimeError: a side failed.
    """
    seconds: dict[str, list[float]] = {"now": [], "then": []}
    with tqdm(total=repetitions, desc=work.name, leave=False, disable=None) as bar:
        while (left := repetitions - len(seconds["now"])) > 0:
            with tempfile.TemporaryDirectory() as folder:
                for now, then in _pairs(work, tree, min(left, PAIRS_A_START), Path(folder), changes, arithmetic):
                    seconds["now"].append(now)
                    seconds["then"].append(then)
                    bar.update()
    return {"work": work.name, "arithmetic": arithmetic} | verdict(seconds["now"], seconds["then"])


def _pairs(
    work: Workload, tree: Path, count: int, folder: Path, changes: Mapping[str, Any], arithmetic: str
) -> Iterator[tuple[float, float]]:
    """Seconds of a step here and there, as often as that, by one process each."""
    sides: dict[str, Side] = {}
    try:
        for name, root in (("now", ROOT), ("then", tree)):
            own = folder / name
            own.mkdir()
            command = ["jax_sngan.benchmark.jax_side", *side_arguments(work, own, arithmetic, changes)]
            sides[name] = Side(command, folder / f"{name}.log", root=root)
            told = _answer(work, name, sides[name].read())
        steps = 1 if told["platform"] == "cpu" or work.images else STEPS
        for number in range(count):
            found = {}
            for name in sorted(sides, reverse=number % 2 == 1):
                found[name] = _answer(work, name, sides[name].ask(f"go {steps}"))["seconds"]
            yield found["now"], found["then"]
    finally:
        for side in sides.values():
            side.close()


def _answer(work: Workload, name: str, told: dict[str, Any]) -> dict[str, Any]:
    if "failed" in told:
        raise RuntimeError(f"{work.name}, {name}: {told['failed']}")
    return told


def verdict(now: Sequence[float], then: Sequence[float]) -> dict[str, Any]:
    """What pairs of times tell: the median of now / then, an interval for it, and whether that says slower.

    The interval is of order statistics: it supposes nothing of how times scatter, so that a burst of other work in some
    of the pairs does not move it. Slower is what the whole interval says, by more than MARGIN.

    Args:
      now, then: seconds [n], by pair.
    Returns:
      {"now_s", "then_s": medians, "ratio", "interval": [low, high] or None where pairs are too few for one, "slower",
      "faster", "seconds"}.
    """
    ratios = sorted(float(a / b) for a, b in zip(now, then, strict=True))
    inside = median_interval(ratios)
    return {
        "now_s": statistics.median(now),
        "then_s": statistics.median(then),
        "ratio": statistics.median(ratios),
        "interval": inside,
        "slower": bool(inside and inside[0] > MARGIN),
        "faster": bool(inside and inside[1] < 1 / MARGIN),
        "seconds": {"now": list(now), "then": list(then)},
    }


def median_interval(ordered: Sequence[float]) -> list[float] | None:
    """The narrowest pair of order statistics, equally far from both ends, that holds the median with CONFIDENCE.

    Each value is below the median with probability 1/2, so that how many are is binomial. None: no pair does.
    """
    n = len(ordered)
    outside = 0.0  # probability that the median lies below the k-th smallest, or above the k-th largest
    best = None
    for k in range(n // 2):
        outside += 2 * math.comb(n, k) / 2**n
        if outside > 1 - CONFIDENCE:
            break
        best = [ordered[k], ordered[n - 1 - k]]
    return best


def table(found: Mapping[str, Any]) -> str:
    """The rows for a person; without a commit, of a step and one that tells less (watching.py)."""
    what, counted = "the step against one that tells its losses", "processes"
    if "commit" in found:
        what, counted = f"this tree against {found['commit'][:12]}", "pairs"
    lines = [
        f"{what}: seconds of one over the other, median and {CONFIDENCE:.0%} of it",
        f"{'work':25} {'this s':>8} {'that s':>8} {'ratio':>7} {'interval':>16} {counted}",
    ]
    for r in found["rows"]:
        inside = "-" if r["interval"] is None else "{:.3f} to {:.3f}".format(*r["interval"])
        said = "   slower" if r["slower"] else "   faster" if r["faster"] else ""
        lines.append(
            f"{r['work'] + ' ' + r['arithmetic']:25} {r['now_s']:8.4g} {r['then_s']:8.4g} {r['ratio']:7.3f} "
            f"{inside:>16} {len(r['seconds']['now']):5}{said}"
        )
    return "\n".join(lines)
