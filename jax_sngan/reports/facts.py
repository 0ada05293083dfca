"""What a run's folder tells of it: all that a report says, as plain values. Loads neither jax nor torch of itself."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jax_sngan.config import class_names, presets
from jax_sngan.config.schema import TrainConfig, flatten, to_dict
from jax_sngan.reports.curves import Kind, LoggedRun
from jax_sngan.reports.subjects import score
from jax_sngan.runs import checkpoint_items, provenance
from jax_sngan.runs.selection import steps_in
from jax_sngan.runs.workdir import training_command
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import ANIMATION, read_json
from jax_sngan.system.invocation import own_command

CERTIFICATE, EVALUATION = "certificate.json", "evaluation.json"  # in a run's folder, by certify and evaluate --json
LAYER = ("sigma", "reshaped_sigma", "operator_norm", "operator_bound")  # of a certificate, each a number or None
_FRAMES = 8  # sample grids on a page

Told = list[tuple[Kind, list[dict[str, Any]]]]  # each kind of run, with the facts of its runs


def facts(run: LoggedRun) -> dict[str, Any]:
    """A run as plain values.

    Returns:
      workdir, framework, config; changed: option -> [its preset's, its own]; done, the last step logged; data and
      classes; parameters of both networks, or gan, what a GAN of the user's own is called; scores; certificate,
      evaluation; origin, as its newest checkpoint says; seconds of its steps; written: when its files were; resume.
    Raises:
      UserError: a file of it can't be read, or is none of ours.
    """
    config, workdir = run.config, run.workdir
    origin, gan = _checkpoint(workdir, run.framework)
    done = max((step for values in run.found.values() for step in values), default=0)
    return {
        "workdir": str(workdir),
        "framework": run.framework,
        "config": to_dict(config),
        "changed": changed(config),
        "done": done,
        "data": origin["data"] if origin else None,
        "classes": list(class_names.parse(config.class_names)),
        "gan": gan,
        "parameters": parameters(config) if gan is None else None,
        "scores": _scores(run),
        "certificate": _certificate(workdir / CERTIFICATE),
        "evaluation": _evaluation(workdir / EVALUATION),
        "origin": origin,
        "seconds": _seconds(run),
        "written": _written(workdir),
        "resume": training_command(config, workdir, "torch" if run.framework == "torch" else "jax"),
        "certify": own_command("certify", workdir, "--json", workdir / CERTIFICATE),
        "evaluate": own_command("evaluate", workdir, "--json", workdir / EVALUATION),
    }


def changed(config: TrainConfig) -> dict[str, list[Any]]:
    """Each option in which a config differs from its preset: [the preset's, its own]; {} where it is of none."""
    if config.name not in presets.names():
        return {}
    of_preset, own = flatten(presets.preset(config.name)), flatten(config)
    free = ("seed", "class_names")  # a run's own affair, and its data's
    return {name: [of_preset[name], v] for name, v in own.items() if v != of_preset[name] and name not in free}


def parameters(config: TrainConfig) -> list[int]:
    """How many numbers the generator and the discriminator of a config learn."""
    from jax_sngan.core.state import state_shapes  # jax takes a second to load, and most of a report needs none of it
    from jax_sngan.training.trainer import count

    state = state_shapes(config)
    return [count(state.generator.params), count(state.discriminator.params)]


def sample_files(workdir: Path) -> tuple[list[tuple[int, Path]], Path | None]:
    """Some sample grids over training, (step, file), the first and the last among them; and the animation, if any."""
    files = sorted(p for p in (workdir / "samples").glob("*.png") if re.fullmatch(r"\d{6,}", p.stem))
    last = len(files) - 1
    chosen = sorted({round(i * last / (_FRAMES - 1)) for i in range(_FRAMES)}) if files else []
    moving = workdir / "samples" / ANIMATION
    return [(int(files[i].stem), files[i]) for i in chosen], moving if moving.is_file() else None


def _checkpoint(workdir: Path, framework: str) -> tuple[dict[str, Any] | None, str | None]:
    """The provenance of the newest checkpoint, and what its GAN is called where that is not its config's."""
    folders = [workdir / "checkpoints" / str(step) for step in steps_in(workdir / "checkpoints")]
    if not folders:
        return None, None
    try:
        if framework == "torch":
            return provenance.parse(read_json(folders[-1] / "provenance.json")), None
        held = checkpoint_items.read(folders[-1])
    except UserError as error:
        raise UserError(f"checkpoint {folders[-1]} can't be read: {error}") from error
    gan = held["gan"]
    return held["provenance"], None if gan is None else gan["name"]


def _scores(run: LoggedRun) -> list[dict[str, Any]]:
    """Each score of the log: its name, what that says, its last value and its best, with their steps."""
    found = []
    for name, values in run.found.items():
        told = score(name)
        if told is None:
            continue
        last = max(values)
        entry = told._asdict() | {"last": [last, values[last]], "best": None}
        if told.better:
            at = (min if told.better == "lower" else max)(values, key=values.__getitem__)
            entry["best"] = [at, values[at]]
        found.append(entry)
    return found


def _seconds(run: LoggedRun) -> float | None:
    """How long its steps took by the speeds in its log; None where it has none. Compiling and scoring is left out."""
    speeds = run.found.get("images_per_second", {})
    images = run.config.n_dis * run.config.batch_size
    total, before = 0.0, 0
    for step, speed in sorted(speeds.items()):
        total += (step - before) * images / speed if speed > 0 else 0.0
        before = step
    return round(total, 1) if speeds else None


def _written(workdir: Path) -> list[str]:
    """When its first and its last file were written, as the file system says, in UTC."""
    files = [workdir / "config.json", workdir / "run.json", workdir / "metrics.jsonl"]
    times = [p.stat().st_mtime for p in files if p.exists()]
    return [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in (min(times), max(times))]


def _certificate(path: Path) -> dict[str, Any] | None:
    """What `certify --json` wrote, as far as a report says it."""
    told = _read(path, "certificate", "step", "lower", "upper", "layers")
    if told is None:
        return None
    layers: list[Any] = told["layers"] if isinstance(told["layers"], list) else [None]
    if not _numbers(told[name] for name in ("step", "lower", "upper")) or not all(
        isinstance(layer, dict)
        and "name" in layer
        and _numbers(layer.get(name, "") for name in LAYER if layer.get(name, "") is not None)
        for layer in layers
    ):
        raise UserError(f"{path} is no certificate: write it by certify --json")
    return {name: told[name] for name in ("step", "lower", "upper")} | {
        "layers": [{name: layer[name] for name in ("name", *LAYER)} for layer in layers]
    }


def _evaluation(path: Path) -> dict[str, Any] | None:
    """What `evaluate --json` wrote of a run, as far as a report says it."""
    told = _read(path, "evaluation", "step", "metrics", "intervals", "seeds")
    if told is None:
        return None
    metrics, intervals, seeds = told["metrics"], told["intervals"], told["seeds"]
    if not (
        isinstance(metrics, dict)
        and isinstance(intervals, dict)
        and isinstance(seeds, list)
        and _numbers([told["step"], *metrics.values()])
        and all(isinstance(v, list) and len(v) == 2 and _numbers(v) for v in intervals.values())
    ):
        raise UserError(f"{path} is no evaluation of a run: write it by evaluate --json")
    return {"step": told["step"], "metrics": metrics, "intervals": intervals, "seeds": seeds}


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(v, int | float) for v in values)


def _read(path: Path, what: str, *names: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    told = read_json(path)
    if not isinstance(told, dict) or not told.keys() >= set(names):
        raise UserError(f"{path} is no {what}: it must hold {', '.join(names)}")
    return told
