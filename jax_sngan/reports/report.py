"""The page of one run, or of several side by side: what was trained on what, how it went, and how to do it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_sngan.config.schema import TrainConfig, flatten, from_dict
from jax_sngan.reports import figures, pages
from jax_sngan.reports.curves import read_kinds
from jax_sngan.reports.facts import LAYER, Told, facts
from jax_sngan.reports.methods import sentences
from jax_sngan.reports.pages import Markup
from jax_sngan.reports.subjects import score
from jax_sngan.runs.run_log import duration


def read(workdirs: Sequence[str | Path]) -> Told:
    """What folders of runs tell.

    Raises:
      UserError: as read_kinds and facts.
    """
    return [(kind, [facts(run) for run in kind.runs]) for kind in read_kinds(workdirs)]


def to_json(told: Told) -> dict[str, Any]:
    """The report as plain values: by kind its name, its runs' facts, and its curves with all their points."""
    kinds = []
    for kind, runs in told:
        curves = {}
        for number in kind.numbers:
            curve = kind.curve(number)
            curves[number] = {"steps": curve.steps.tolist(), "values": curve.values.tolist()}
        kinds.append({"name": kind.name, "runs": runs, "curves": curves})
    return {"kinds": kinds}


def page(told: Told, command: str) -> str:
    """The page; command: what made it."""
    runs = [run for _, of_kind in told for run in of_kind]
    if len(runs) == 1:
        title = f"Run {Path(runs[0]['workdir']).name or runs[0]['workdir']}: {told[0][0].name}"
    else:
        title = f"{len(runs)} runs: {'; '.join(kind.name for kind, _ in told)}"
    sections = [
        ("short", "In short", _short(told)),
        ("samples", "Samples over training", figures.samples(told)),
        ("scores", "Scores and how they were measured", _scores(told)),
        *figures.curves(told),
        ("steepness", "How steep the discriminator is", _certificates(told)),
        ("method", "Method", _methods(told)),
        ("options", "Options", _options(told)),
        ("data", "Data", _data(runs)),
        ("machine", "Machine, time and versions", _machines(runs)),
        ("again", "To go on, and to make this page again", _again(runs, command)),
    ]
    lead = "Everything here is read from the run's folder." if len(runs) == 1 else (
        "Runs that differ in their seed alone are one curve: the mean, and a band from the lowest to the highest."
    )  # fmt: skip
    return pages.page(title, f'<h1>{pages.text(title)}</h1><p class="soft">{lead}</p>', sections)


def _short(told: Told) -> str:
    rows = []
    for kind, runs in told:
        steps = sorted({run["done"] for run in runs})
        of = runs[0]["config"]["steps"]
        done = " to ".join(f"{s:,}" for s in dict.fromkeys((steps[0], steps[-1])))
        names = [s["name"] for s in runs[0]["scores"] if s["best"] and not s["name"].endswith("_raw")]
        best = f"{names[0]} {_last_and_best(runs, names[0])[1]}" if names else ""
        seeds = ", ".join(str(run["config"]["seed"]) for run in runs)
        devices = "; ".join(dict.fromkeys(run["origin"]["devices"] or "?" for run in runs if run["origin"]))
        times = [run["seconds"] for run in runs if run["seconds"] is not None]
        took = f"{duration(sum(times))}" if times else ""
        rows.append((kind.name, seeds, f"{done} of {of:,}", best, devices, took))
    head = ("run", "seed" if len(rows) == 1 else "seeds", "steps", "best score", "on", "time of its steps, h:min:s")
    if len(told) == 1 and len(told[0][1]) == 1:
        return pages.facts(zip(head, rows[0], strict=True))
    return pages.table(head, rows, texts=6)


def _spread(values: Sequence[float]) -> str:
    """Mean and, of several that differ, their range."""
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return f"{sum(values) / len(values):.4g}" + (f" ({low} to {high})" if low != high else "")


def _last_and_best(runs: Sequence[dict[str, Any]], name: str) -> tuple[str, str]:
    """A score of a kind of run, over its seeds; the best with where it was."""
    there = [s for run in runs for s in run["scores"] if s["name"] == name]
    if not there:
        return "–", "–"
    last = _spread([s["last"][1] for s in there])
    found = [s["best"] for s in there if s["best"]]
    if not found:
        return last, ""
    steps = sorted(step for step, _ in found)
    at = " to ".join(dict.fromkeys(f"{s:,}" for s in (steps[0], steps[-1])))
    return last, f"{_spread([v for _, v in found])} at step {at}"


def _scores(told: Told) -> str:
    entries = {s["name"]: s for _, runs in told for s in runs[0]["scores"]}
    parts: list[str] = []
    if entries:
        rows = []
        for name, entry in entries.items():
            better = f" ({entry['better']} is better)" if entry["better"] else ""
            own = _last_and_best(told[0][1], name) if len(told) == 1 else ()
            rows.append((name, entry["metric"] + better, entry["protocol"], *own))
        head = ("name", "what it is", "protocol", *(("last", "best") if len(told) == 1 else ()))
        parts.append(pages.table(head, rows, texts=3))
    if entries and len(told) > 1:
        values = [(kind.name, *(_last_and_best(runs, name)[0] for name in entries)) for kind, runs in told]
        best = [(kind.name, *(_last_and_best(runs, name)[1] for name in entries)) for kind, runs in told]
        for what, lines in (("last", values), ("best", best)):
            parts.append(pages.table((f"run, {what} value", *entries), lines))
    for run in (run for _, runs in told for run in runs if run["evaluation"]):
        found = run["evaluation"]
        lines = []
        for name, value in found["metrics"].items():
            named, low_high = score(name), found["intervals"].get(name)
            between = f"{low_high[0]:.4g} to {low_high[1]:.4g}" if low_high else ""
            lines.append((name, named.protocol if named else "", f"{value:.4g}", between))
        seeds = len(found["seeds"])
        parts.append(
            f"<h3>Evaluated afterwards: {pages.text(run['workdir'])}, step {found['step']}</h3>"
            + pages.table(
                ("name", "protocol", "value", f"95 % over {seeds} seeds" if seeds > 1 else ""), lines, texts=2
            )
        )
    if not parts:
        said = '<p class="soft">Not scored: it was trained without <code>--evaluate-every N</code>.'
        ours = [run["evaluate"] for _, runs in told for run in runs if run["framework"] == "jax"]
        return f"{said} Afterwards:</p><pre>{pages.text(ours[0])}</pre>" if ours else f"{said}</p>"
    return "\n".join(parts)


def _certificates(told: Told) -> str:
    parts, missing = [], []
    for run in (run for _, runs in told for run in runs):
        found = run["certificate"]
        if found is None:
            if run["framework"] == "jax" and run["gan"] is None:
                missing.append(run["certify"])
            continue
        rows = [
            (layer["name"], *("–" if layer[n] is None else f"{layer[n]:.4f}" for n in
             LAYER))
            for layer in found["layers"]
        ]  # fmt: skip
        parts.append(
            f"<p>{pages.text(run['workdir'])}, step {found['step']}: its Lipschitz constant lies between "
            f"<strong>{found['lower']:.4g}</strong>, the steepest gradient found, and "
            f"<strong>{found['upper']:.4g}</strong>, the product of the layers' norms.</p>"
            + pages.table(("layer", "sigma", "by SVD", "norm as a map", "at most"), rows)
        )
    if missing and not parts:
        parts.append(
            '<p class="soft">Not measured. A certificate bounds the largest slope of D from both sides; the report '
            f"shows one that lies in the run's folder:</p><pre>{pages.text(missing[0])}</pre>"
        )
    return "\n".join(parts)


def _methods(told: Told) -> str:
    parts = []
    for kind, runs in told:
        if len(told) > 1:
            parts.append(f"<h3>{pages.text(kind.name)}</h3>")
        config = from_dict(TrainConfig, runs[0]["config"])
        seeds = ", ".join(str(run["config"]["seed"]) for run in runs)
        said = sentences(config, runs[0]["parameters"], runs[0]["gan"])
        of_torch = "PyTorch (the package's reference)" if runs[0]["framework"] == "torch" else "JAX"
        said.append(f"Seed{'s' * (len(runs) > 1)} {seeds}; computed by {of_torch}.")
        parts.append(f"<p>{pages.text(' '.join(said))}</p>")
    return "\n".join(parts)


def _options(told: Told) -> str:
    parts = []
    flat = [flatten(from_dict(TrainConfig, runs[0]["config"])) for _, runs in told]
    if len(told) > 1:
        differing = [name for name in flat[0] if name != "seed" and len({str(of[name]) for of in flat}) > 1]
        rows = [(name, *(of[name] for of in flat)) for name in differing]
        text = "<p>In which options they differ:</p>" + pages.table(
            ("option", *(k.name for k, _ in told)), rows, texts=99
        )
        parts.append(text if rows else "<p>They have the same options.</p>")
    for kind, runs in told:
        name, changed = runs[0]["config"]["name"], runs[0]["changed"]
        rows = [(option, of_preset, own) for option, (of_preset, own) in changed.items()]
        if len(told) > 1:
            parts.append(f"<h3>{pages.text(kind.name)}</h3>")
        if rows:
            parts.append(
                f"<p>What differs from the preset <code>{pages.text(name)}</code>:</p>"
                + pages.table(("option", "preset", "this run"), rows, texts=3)
            )
        else:
            parts.append(f"<p>All as in the preset <code>{pages.text(name)}</code>.</p>")
        whole = flatten(from_dict(TrainConfig, runs[0]["config"]))
        parts.append(pages.details(f"All {len(whole)} options", pages.facts((n, str(v)) for n, v in whole.items())))
    return "\n".join(parts)


def _data(runs: list[dict[str, Any]]) -> str:
    rows: dict[str, Markup] = {}
    for run in runs:
        data, classes = run["data"] or {}, run["classes"]
        said = [("source", run["config"]["data"]), ("images", data.get("summary"))]
        said += [("classes", f"{len(classes)}: {', '.join(classes)}")] if classes else []
        said += [("SHA-256 of the images", data.get("sha256")), ("SHA-256 of the files", data.get("files_sha256"))]
        rows.setdefault(str(said), pages.facts(said))
    return "\n".join(rows.values())


def _machines(runs: list[dict[str, Any]]) -> str:
    head = [Path(run["workdir"]).name for run in runs]
    names = (
        "device",
        "processor",
        "time of its steps",
        "files written, UTC",
        "jax-sngan",
        "commit",
        "sources, SHA-256",
    )
    columns = []
    for run in runs:
        origin = run["origin"] or {"code": {}, "libraries": {}}
        took = "not in the log" if run["seconds"] is None else duration(run["seconds"])
        columns.append(
            dict(
                zip(
                    names,
                    (
                        origin.get("devices"),
                        origin.get("processor"),
                        f"{took} (without compiling, pictures, scores and checkpoints)" if run["seconds"] else took,
                        f"{run['written'][0]} to {run['written'][1]}",
                        origin["code"].get("jax-sngan"),
                        origin.get("commit"),
                        origin["code"].get("sha256"),
                    ),
                    strict=True,
                )
            )
            | origin["libraries"]
        )
    all_names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [(name, *(column.get(name) or "–" for column in columns)) for name in all_names]
    return pages.table(("", *head), rows, texts=99) if len(runs) > 1 else pages.facts(rows)


def _again(runs: list[dict[str, Any]], command: str) -> str:
    parts = []
    for run in runs:
        what = (
            f"To go on with {run['workdir']}"
            if run["done"] < run["config"]["steps"]
            else f"What trained {run['workdir']} (all its steps are done)"
        )
        parts.append(f"<p>{pages.text(what)}:</p><pre>{pages.text(run['resume'])}</pre>")
    return "\n".join(parts) + f"<p>This page:</p><pre>{pages.text(command)}</pre>"
