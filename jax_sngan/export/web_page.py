"""A folder that any static server serves: generators to play with, run in the visitor's browser, without a network."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.data.mixtures import MIXTURES
from jax_sngan.export.export import Trained, export_one, load_trained, names_of, require
from jax_sngan.export.ort_web import add_runtime
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import check_unused, new_folder, read_json, write_json
from jax_sngan.system.invocation import called

PAGE = Path(__file__).parent / "page"  # index.html, its style and its scripts
DIRECTIONS = 8  # sliders


def export_page(
    workdirs: Sequence[str | Path],
    out: str | Path,
    step: str = "latest",
    *,
    scores: Sequence[str | Path] = (),
    ort_web: str | Path | None = None,
    standing: int = 0,
) -> list[dict[str, Any]]:
    """Writes the page of one run, or of several side by side.

    Args:
      out: a new folder; it is there once every generator was read back and agreed, or not at all.
      scores: files of `evaluate --json`, one for each workdir: what the page shows beside the scores that a run's own
        evaluation wrote at that step, and in place of those of the same name.
      ort_web: as ort_web.add_runtime.
      standing: as export.load_trained.
    Returns:
      what models.json holds, in the order of workdirs.
    Raises:
      UserError: as export.export_runs; or scores are not one a workdir or of another step, or onnxruntime-web can't be
        had.
    """
    check_unused(Path(out))
    require("web")
    measured = _measured(workdirs, scores)
    for workdir in workdirs:
        open_workdir(workdir)
    runs = [load_trained(w, step, standing) for w in workdirs]
    for workdir, trained, scored in zip(workdirs, runs, measured, strict=True):
        if scored and scored["step"] != trained.step:
            raise UserError(f"--scores of {workdir} are of step {scored['step']}, the checkpoint is of {trained.step}")
    with new_folder(out) as folder:
        shutil.copytree(PAGE, folder, dirs_exist_ok=True)
        runtime = add_runtime(folder / "ort", ort_web)
        (folder / "models").mkdir()
        told = []
        for name, trained, scored in zip(names_of(workdirs), runs, measured, strict=True):
            facts = export_one(trained, "onnx", folder / "models", name)
            told.append(
                {
                    "name": name,
                    **facts,
                    "scores": trained.scores | scored.get("metrics", {}),
                    "runtime": runtime,
                    "directions": np.round(directions(trained), 6).tolist(),
                    "centres": centres(trained),
                }
            )
        write_json(folder / "models.json", told)
    return told


def directions(trained: Trained, count: int = DIRECTIONS) -> np.ndarray:
    """[count, latent_size] unit directions along which the generator's first layer changes most, steepest first.

    The singular vectors of its matrix (Shen & Zhou 2021, SeFa, eq. 6), each with its largest entry positive.
    """
    from jax_sngan.export.onnx_graph import first_layer  # onnx is of the extra `export`

    found = np.linalg.svd(first_layer(*trained.portable).T, full_matrices=False)[2][:count]
    largest = np.take_along_axis(found, np.argmax(np.abs(found), 1)[:, None], 1)
    return found * np.sign(largest)


def centres(trained: Trained) -> list[list[float]] | None:
    """[x, y] of each Gaussian that a generator of points was to learn; None of images, or of other points."""
    known = MIXTURES.get(trained.config.data) if trained.config.model.is_points else None
    return None if known is None else np.round(known().centres, 6).tolist()


def _measured(workdirs: Sequence[str | Path], scores: Sequence[str | Path]) -> list[dict[str, Any]]:
    if not scores:
        return [{} for _ in workdirs]
    if len(scores) != len(workdirs):
        raise UserError(f"--scores must name one file for each of the {len(workdirs)} workdirs, got {len(scores)}")
    found = [read_json(path) for path in scores]
    for path, scored in zip(scores, found, strict=True):
        if not isinstance(scored, dict) or not {"step", "metrics"} <= set(scored):
            raise UserError(f"--scores {path} must be what {called('evaluate')} --json writes, with step and metrics")
    return found
