"""A run's log as tests compare it: without what is of the machine and the hour."""

import json
from pathlib import Path
from typing import Any

from jax_sngan.runs.log import repeatable_lines


def lines(workdir: Path) -> list[dict[str, Any]]:
    """Those of each line of a run's metrics.jsonl."""
    return repeatable_lines(workdir / "metrics.jsonl")


def texts(workdir: Path) -> list[str]:
    """The same as they would stand there, to the last digit."""
    return [json.dumps(line) for line in lines(workdir)]
