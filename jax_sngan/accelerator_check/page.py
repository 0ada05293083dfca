"""The accelerator's check as one page (reports/pages.py)."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jax_sngan.reports import pages


def page(told: Mapping[str, Any]) -> str:
    """The page of check.summary's dict."""
    of = {o["stage"]: o["told"] for o in told["stages"] if o["told"] is not None}
    rows = [result["row"] for name, result in of.items() if name.startswith("benchmark_") and "row" in result]
    verdict = "passed" if told["passed"] else "not passed, or not all of it was done"
    sections = [
        ("machine", "Machine", _machine(of.get("probe"))),
        ("ladder", "JAX against torch", _ladder(of.get("ladder"))),
        ("ladder-cpu", "JAX against torch on the CPU", _ladder(of.get("ladder_torch_on_cpu"))),
        ("benchmark", "Time and memory of a step", _benchmark(rows)),
        ("compiled", "What the compiled program says", _compiled(of.get("compiled"), rows)),
        ("mesh", "Mesh of one device", _beside(of.get("mesh"))),
        ("resume", "Resume", _beside(of.get("resume"))),
        ("stages", "Stages", _stages(told["stages"])),
    ]
    head = f"<h1>Accelerator check: {verdict}</h1><p>{told['seconds']:.0f} seconds.</p>"
    return pages.page("Accelerator check", head, sections)


def _number(value: float | None, form: str = ".3g") -> str:
    return "–" if value is None else format(value, form)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.3g}"


def _machine(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    rows = [(name, value) for name, value in told["machine"].items()]
    rows += [("devices", told["devices"]), ("memory, MiB", _number(told["memory_mb"], ".0f"))]
    rows += [(f"matrix product in {name}, TFLOP/s", f"{g / 1e3:.3g}") for name, g in told["gflops"].items()]
    rows += [("peaks from", told["chip_source"])]
    rows += [(f"without {module}", what) for module, what in told["without"].items()]
    return pages.facts(rows)


def _ladder(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    rows = [
        (c["case"], c["dtype"], _number(c["error"], ".1e"), _number(c["tolerance"], ".0e"), "yes" if c["passed"] else
         f"no: {c['message']}")
        for c in told["cases"]
    ]  # fmt: skip
    line = f"{told['run']} of {told['planned']} cases: {told['summary']}."
    return f"<p>{escape(line)}</p>" + pages.table(("case", "type", "error", "allowed", "within"), rows, texts=2)


def _benchmark(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = []
    for r in rows:
        kinds = {kind: sum(s) / len(s) for kind, s in r["seconds"].items() if kind != "jax" and s}
        sides = [f"{kind} {_ms(s)}" for kind, s in kinds.items()]
        sides += [f"{kind} failed: {why}" for kind, why in r["failed"].items()]
        memory = [f"{side} {_number(mb, '.0f')}" for side, mb in r["mb"].items()]
        lines.append(
            (f"{r['work']}, {r['arithmetic']}", _ms(r["jax_s"]), "; ".join(sides) or "–", _number(r["ratio_best"]),
             _number(r["gflop"]), _number(r["peak_share"], ".0%"), _number(r["mfu"], ".0%"), "; ".join(memory))
        )  # fmt: skip
    head = ("a step", "JAX, ms", "torch, ms", "best / JAX", "GFLOP", "of matrix product", "MFU", "MiB at the peak")
    return pages.table(head, lines)


def _compiled(told: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> str:
    if told is None:
        return ""
    like = [r for r in rows if r["arithmetic"] == "tf32"] or rows  # as it was compiled
    measured = {r["work"]: r["jax_s"] for r in like}
    lines = []
    for work, e in told["workloads"].items():
        s = e["seconds"] or {}
        peaks = [_ms(s.get(name)) for name in ("compute", "bandwidth", "launch", "step")]
        lines.append((work, *peaks, _ms(measured.get(work)), f"{e['kernels']:,}", _number(e["gb"]), e["why"]))
    head = ("work", "FLOP / peak, ms", "bytes / bandwidth", "launches", "at the least", "measured", "kernels", "GB", "")
    return pages.table(head, lines, last=True)


def _beside(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    line = f"{told['of']}: error {told['error']:.1e}, allowed {told['tolerance']:.0e}"
    if "to_the_bit" in told:
        line += "; the log is the same to the bit" if told["to_the_bit"] else "; not to the bit"
    return f"<p>{escape(line)}.</p>"


def _stages(outcomes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (o["stage"], o["what"], o["status"], f"{o['seconds']:.0f}", f"{o['limit_s']:.0f}", o["why"]) for o in outcomes
    ]
    return pages.table(("stage", "what", "how it ended", "s", "limit", ""), rows, texts=3, last=True)
