"""The whole study: every run, then the table, the pictures, the JSON and the page."""

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jax_sngan.reports.plots import png
from jax_sngan.runs.run_log import duration
from jax_sngan.study import critics, figures, folder, page, plan, summary, training
from jax_sngan.study.folder import Finished
from jax_sngan.system.allocator import keep_freed_memory
from jax_sngan.system.compilation_cache import use_compilation_cache
from jax_sngan.system.files import write_json, write_whole
from jax_sngan.system.machine import cores

COMPUTE: dict[str, folder.Compute] = {
    "points": training.points,
    "images": training.images,
    "critic": critics.estimates,
}
# Seconds of one server core, roughly as measured: of a unit of work, and to start a run. For an estimate.
_SECONDS = {"points": 4e-6, "images": 8e-4, "critic": 1.2e-5}
_START = {"points": 2.0, "images": 40.0, "critic": 4.0}


def describe(out: Path, size: plan.Size, say: Callable[[str], None]) -> None:
    """Lists the runs, which of them are there, and an estimate of the time that the others take."""
    left = 0.0
    for run in plan.runs(size):
        there = folder.finished(out, run) is not None
        took = estimate(run)
        left += 0.0 if there else took
        say(f"{run.name:44} {run.spec['steps']:>6} G updates  {'finished' if there else 'about ' + duration(took)}")
    say(f"about {duration(left)} of one core for what is not finished (an estimate from another machine)")


def estimate(run: plan.Run) -> float:
    """Seconds, roughly."""
    s = run.spec
    if run.kind == "critic":
        work = s["steps"] * s["width"] * len(s["distances"])
    else:
        n_dis = s["config"]["n_dis"]
        work = s["steps"] * s["width"] * (1 + n_dis) * s["batch"] / 64 * (1 if run.kind == "points" else 8)
    return _START[run.kind] + _SECONDS[run.kind] * work


def run(
    out: Path, size: plan.Size, *, command: str, json_path: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Does the study, in a folder that may hold a part of it.

    Returns:
      What is written as JSON: rows, critics, and what was done where.
    Raises:
      UserError: the folder holds something else, or can't be written to.
    """
    started = time.monotonic()
    folder.begin(out)
    keep_freed_memory()
    use_compilation_cache()
    done = folder.perform(out, plan.runs(size), COMPUTE, say)
    rows = [f.row() for f in done if f.run.kind != "critic"]
    told = {
        "rows": rows,
        "critics": {f.run.gan: f.figures for f in done if f.run.kind == "critic"},
        "command": command,
        "machine": machine(),
        "seconds": round(time.monotonic() - started, 1),
        "computed_seconds": round(sum(f.figures["seconds"] for f in done), 1),
        "size": size.name,
    }
    pictures = draw(done)
    for name, picture in pictures.items():
        content = picture if isinstance(picture, bytes) else png(picture, min(3, len(picture)))
        write_whole(out / "figures" / name, partial(_write_bytes, content))
    write_whole(out / "table.md", lambda p: p.write_text(summary.markdown(rows), encoding="utf-8"))
    write_json(out / "study_rows.json", told)
    write_whole(out / "index.html", lambda p: p.write_text(page.page(told, size, pictures), encoding="utf-8"))
    if json_path:
        write_json(json_path, told)
    say(f"{out / 'index.html'} tells it; {duration(time.monotonic() - started)}")
    return told


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def draw(done: list[Finished]) -> page.Pictures:
    """Every picture by the name of its file; those of one seed are of seed 0."""
    made: page.Pictures = {
        "critics.png": figures.critics({f.run.gan: f.figures for f in done if f.run.kind == "critic"})
    }
    for data in (*plan.POINTS, *plan.IMAGES):
        family = [f for f in done if f.run.data == data and f.run.remedy is None]
        first = [f for f in family if f.run.seed == 0]
        if not family:
            continue
        if data in plan.IMAGES:
            made[f"{data}-samples.png"] = figures.samples(first)
        else:
            made[f"{data}-modes.png"] = figures.modes_over_training(family)
            made[f"{data}-density.png"] = figures.density(first)
            made[f"{data}-field.png"] = figures.fields(first)
            made[f"{data}-lipschitz.png"] = figures.lipschitz(family)
            made[f"{data}.gif"] = figures.animation(first)
            remedies = [f for f in done if f.run.data == data and f.run.remedy and f.run.seed == 0]
            base = [f for f in first if f.run.gan in {r.run.gan for r in remedies}]
            if remedies:
                made[f"{data}-remedies.png"] = figures.density([*base, *remedies])
        made[f"{data}-losses.png"] = figures.losses(first)
    return made


def machine() -> str:
    """What computed, in words: cores, kind of processor, device."""
    device = jax.devices()[0]
    many = f"{cores()} core" if cores() == 1 else f"{cores()} cores"
    return f"{platform.machine()}, {many}, {device.device_kind} ({jax.default_backend()}), jax {jax.__version__}"
