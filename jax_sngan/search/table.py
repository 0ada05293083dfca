"""The table of a search: a row a setting, its seeds together, the best first within a share of the time."""

import json
import math
import statistics
from collections import defaultdict
from typing import Any

from jax_sngan.evaluation.intervals import interval


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table a share of the base's processor time, of the first score of each row; "" without rows.

    Args:
      rows: as search.run writes them.
    """
    by_share: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_share[row["share"]].append(row)
    return "\n\n".join(_of_share(share, by_share[share]) for share in sorted(by_share)) + "\n" if rows else ""


def _of_share(share: float, rows: list[dict[str, Any]]) -> str:
    settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        settings[json.dumps([row["name"], row["changes"]], sort_keys=True)].append(row)
    score = next((name for row in rows for name in row["scores"]), "score")

    def order(own: list[dict[str, Any]]) -> float:  # a setting of which a seed diverged comes last
        return statistics.mean(row["scores"].get(score, math.inf) for row in own)

    lines = [
        f"At {share:g} of the base's processor time:",
        "",
        f"| trial | changes | seeds | `{score}` | raw | steps | s of a core | why |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join(lines + [_row(own, score) for own in sorted(settings.values(), key=order)])


def _row(own: list[dict[str, Any]], score: str) -> str:
    first, whole = own[0], [row for row in own if not row["diverged"]]
    changes = ", ".join(f"{name} {value}" for name, value in first["changes"].items()) or "none"
    seeds = ", ".join(str(row["seed"]) + (" (diverged)" if row["diverged"] else "") for row in own)
    seconds = f"{statistics.mean(row['seconds'] for row in whole):.0f}" if whole else "-"
    scores = [_spread([row["scores"][name] for row in whole]) for name in (score, f"{score}_raw")]
    cells = [first["name"], changes, seeds, *scores, f"{first['steps']:,}", seconds, first["why"]]
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    """A value, or the mean of several with Student's 95 % interval and each of them."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    low, high = interval(values)
    return f"{statistics.mean(values):.2f} ({low:.2f} to {high:.2f}; {', '.join(f'{v:.2f}' for v in values)})"
