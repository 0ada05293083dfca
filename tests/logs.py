"""A run's log as tests compare it: without what is of the machine and the hour."""

import json
from pathlib import Path
from typing import Any

from jax_sngan.runs.log import repeatable


def lines(workdir: Path) -> list[dict[str, Any]]:
    """Those of each line of a run's metrics.jsonl."""
    return [repeatable(json.loads(line)) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def texts(workdir: Path) -> list[str]:
    """The same as they would stand there, to the last digit."""
    return [json.dumps(line) for line in lines(workdir)]
