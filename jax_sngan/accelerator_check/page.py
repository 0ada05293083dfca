"""The accelerator's check as one HTML page: no file beside it, no script, light and dark."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2630;--soft:#5b6875;--paper:#fbfbf9;--line:#d9dee3;--bad:#a3262a}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa7b3;--paper:#14181c;--line:#37404a;--bad:#ef8a8d}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.2rem}.wide{overflow-x:auto}table{border-collapse:collapse;margin:.6rem 0}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child,td.text{text-align:left}.bad{color:var(--bad)}
"""


def page(told: Mapping[str, Any]) -> str:
    """The page of check.summary's dict."""
    of = {o["stage"]: o["told"] for o in told["stages"] if o["told"] is not None}
    rows = [result["row"] for name, result in of.items() if name.startswith("benchmark_") and "row" in result]
    verdict = "passed" if told["passed"] else "not passed, or not all of it was done"
    body = [
        f"<h1>Accelerator check: {verdict}</h1><p>{told['seconds']:.0f} seconds.</p>",
        _machine(of.get("probe")),
        _ladder("JAX against torch", of.get("ladder")),
        _ladder("JAX against torch on the CPU", of.get("ladder_torch_on_cpu")),
        _benchmark(rows),
        _compiled(of.get("compiled"), rows),
        _beside("Mesh of one device", of.get("mesh")),
        _beside("Resume", of.get("resume")),
        _stages(told["stages"]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Accelerator check</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body><main>\n" + "\n".join(filter(None, body)) + "\n</main></body></html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


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
    return "<h2>Machine</h2>" + _table(("", ""), rows)


def _ladder(title: str, told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    rows = [
        (c["case"], c["dtype"], _number(c["error"], ".1e"), _number(c["tolerance"], ".0e"), "yes" if c["passed"] else
         f"no: {c['message']}")
        for c in told["cases"]
    ]  # fmt: skip
    line = f"{told['run']} of {told['planned']} cases: {told['summary']}."
    return f"<h2>{title}</h2><p>{escape(line)}</p>" + _table(("case", "type", "error", "allowed", "within"), rows)


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
    return "<h2>Time and memory of a step</h2>" + _table(head, lines)


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
    return "<h2>What the compiled program says</h2>" + _table(head, lines)


def _beside(title: str, told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    line = f"{told['of']}: error {told['error']:.1e}, allowed {told['tolerance']:.0e}"
    if "to_the_bit" in told:
        line += "; the log is the same to the bit" if told["to_the_bit"] else "; not to the bit"
    return f"<h2>{title}</h2><p>{escape(line)}.</p>"


def _stages(outcomes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (o["stage"], o["what"], o["status"], f"{o['seconds']:.0f}", f"{o['limit_s']:.0f}", o["why"]) for o in outcomes
    ]
    return "<h2>Stages</h2>" + _table(("stage", "what", "how it ended", "s", "limit", ""), rows)
