"""The study's folder: finished runs, each whole or not there, found again by the hash of all that decided them."""

import json
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_sngan.runs.run_log import duration
from jax_sngan.study.plan import Run
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.npz import read_whole_npz

MARK = "study.json"  # names a folder as one of ours
Arrays = dict[str, NDArray[Any]]
Compute = Callable[[Run], tuple[dict[str, Any], Arrays]]


class Finished:
    """A run's figures, and where its arrays are."""

    def __init__(self, run: Run, figures: dict[str, Any], path: Path):
        self.run, self.figures, self._path = run, figures, path

    @property
    def arrays(self) -> Arrays:
        """Read anew at each call."""
        return read_whole_npz(self._path)

    def row(self) -> dict[str, Any]:
        """The run as a line of the table."""
        run = self.run
        return {"gan": run.gan, "data": run.data, "seed": run.seed, "remedy": run.remedy, **self.figures}


def check(out: Path) -> None:
    """Passes where nothing stands at out, an empty folder, or a study's.

    Raises:
      UserError: something else does.
    """
    if out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir())):
        return
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out} holds something else; give a new folder, or one of an earlier study")


def begin(out: Path) -> None:
    """Makes the folder and its mark.

    Raises:
      UserError: as `check`, or the folder can't be written to.
    """
    check(out)
    if not (out / MARK).exists():
        write_json(out / MARK, {"program": "compare_gans"})


def finished(out: Path, run: Run) -> Finished | None:
    """A run that was finished earlier with the very same config, or None."""
    facts, arrays = _paths(out, run)
    try:
        told = json.loads(facts.read_text())
        if told["key"] != run.key or not zipfile.is_zipfile(arrays):
            return None
        return Finished(run, told["figures"], arrays)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not what we write: made again
        return None


def perform(out: Path, runs: list[Run], compute: dict[str, Compute], say: Callable[[str], None]) -> list[Finished]:
    """Each run, from the folder or computed now and kept there; a line for each that is computed.

    The arrays are written before the figures: where the figures are, the run is whole.
    """
    done = []
    reused = 0
    for number, run in enumerate(runs, start=1):
        found = finished(out, run)
        if found is None:
            started = time.monotonic()
            figures, arrays = compute[run.kind](run)
            facts_path, arrays_path = _paths(out, run)
            write_whole(arrays_path, partial(_write_arrays, arrays))
            write_json(facts_path, {"key": run.key, "name": run.name, "spec": run.spec, "figures": figures})
            found = Finished(run, figures, arrays_path)
            say(f"[{number}/{len(runs)}] {run.name}: {_short(figures)} ({duration(time.monotonic() - started)})")
        else:
            reused += 1
        done.append(found)
    if reused:
        say(f"{reused} of {len(runs)} runs were there already")
    return done


def _write_arrays(arrays: Arrays, path: Path) -> None:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its own options


def _paths(out: Path, run: Run) -> tuple[Path, Path]:
    return out / "runs" / f"{run.name}.json", out / "runs" / f"{run.name}.npz"


def _short(figures: dict[str, Any]) -> str:
    if "estimate" in figures:
        return f"estimates {', '.join(f'{e:.2f}' for e in figures['estimate'])}"
    return f"{figures['covered']}/{figures['modes']} modes, {100 * figures['high_quality']:.0f} % of high quality"
