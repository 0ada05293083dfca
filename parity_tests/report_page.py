"""The report as one HTML page that needs nothing else: no script, no font, no file beside it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from parity_tests.plot import dots, lines
from parity_tests.report import share

STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --paper: #fff; --soft: #5d6673; --rule: #d9dee4; --band: #f4f6f8;
  --good: #1a7f4b; --bad: #c62828; --c0: #1f6fb4; --c1: #c2570c; --c2: #7a4bb5; --c3: #1d7d74;
  --c4: #a8326f; --c5: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #14171b; --soft: #9aa4b0; --rule: #333a43;
  --band: #1c2127; --good: #55c58b; --bad: #ff7b72; --c0: #6db3f2; --c1: #f2995a; --c2: #b794f4; --c3: #5fc9bd;
  --c4: #f08bbf; --c5: #a3acb8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, dl { margin: .5rem 0; max-width: 46rem; }
.verdict { font-size: 1.1rem; font-weight: 600; border-left: .3rem solid; padding: .2rem .8rem; margin: 1rem 0; }
.good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--soft); } td.n, th.n { text-align: right; white-space: nowrap; }
td.case { overflow-wrap: anywhere; min-width: 11rem; } td.bar { min-width: 6rem; }
.track { display: block; height: .55rem; margin-top: .4rem; background: var(--band); border-radius: .2rem; }
.fill { display: block; height: 100%; border-radius: .2rem; background: var(--c0); min-width: 2px; }
.fill.over { background: var(--bad); }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--c0); padding: .3rem 0; }
.reasons dt { font-weight: 600; margin-top: .5rem; } .reasons dd { margin: 0; }
svg { display: block; width: 100%; height: auto; margin: .5rem 0; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg text.soft, svg tspan.soft { fill: var(--soft); }
@media (max-width: 600px) { svg text { font-size: 19px; } }
a { color: var(--c0); }
.legend { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  font-size: .875rem; }
.legend svg { display: inline-block; width: 2rem; height: .8rem; margin: 0 .4rem 0 0; vertical-align: middle; }
pre, code { font: .875rem ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--band); padding: .6rem .8rem; overflow-x: auto; }
"""
DECADES = 6  # of a bar: from a millionth of the tolerance to all of it


def page(report: Mapping[str, Any]) -> str:
    """The page of a report as report.gather makes it."""
    body = "\n".join(
        [
            _head(report),
            _overview(report),
            *(_rung(report, rung) for rung in sorted({case["rung"] for case in report["cases"]})),
            _growth(report),
            _left_out(report),
            _circumstances(report),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Parity report: {'PASS' if report['passed'] else 'FAIL'}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    cases = report["cases"]
    failed = [case for case in cases if not case["passed"]]
    text = (
        f"{len(failed)} of {len(cases)} cases failed" if failed else f"{len(cases)} cases, all within their tolerances"
    )
    if not cases:
        text = "nothing was measured"
    part = "The quick selection" if report["quick"] else "The ladder"
    if len(report["rungs"]) < len(report["titles"]):
        part += f", rungs {', '.join(map(str, report['rungs']))} alone"
    n = len(report["left_out"])
    part += f"; {n} cases were left out, see below." if n else "; no case was left out."
    machine = report["machine"]
    where = f"{machine.get('device', '?')} ({_processor(machine)})"
    return (
        "<h1>JAX against PyTorch, number by number</h1>\n"
        f'<p class="verdict {"bad" if failed or not report["passed"] else "good"}">{escape(text)}</p>\n'
        f"<p>{escape(part)} Measured on {escape(where)}, {escape(report['date'])}, in "
        f"{report['seconds']:.0f} s. Beside these, {len(report['checks'])} checks without a number passed: what must "
        "raise, what must not move.</p>"
    )


def _overview(report: Mapping[str, Any]) -> str:
    rows = []
    for rung, of_rung in groupby(sorted(report["cases"], key=lambda c: c["rung"]), key=lambda c: c["rung"]):
        cases = list(of_rung)
        cells = [f'<td><a href="#rung{rung}">{rung}, {escape(report["titles"][str(rung)])}</a></td>']
        for dtype in ("float64", "float32"):
            of_type = [case for case in cases if case["dtype"] == dtype]
            worst = max(of_type, key=share, default=None)
            cells.append(f'<td class="n">{_percent(share(worst)) if worst else ""}</td>')
        failed = sum(not case["passed"] for case in cases)
        cells.append(f'<td class="n {"bad" if failed else ""}">{failed}</td>')
        rows.append(f'<tr>{cells[0]}<td class="n">{len(cases)}</td>{"".join(cells[1:])}</tr>')
    return (
        "<h2>Worst share of the tolerance, by rung</h2>\n"
        '<div class="scroll"><table><thead><tr><th>rung</th><th class="n">cases</th><th class="n">float64</th>'
        '<th class="n">float32</th><th class="n">failed</th></tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
        '<p class="soft">A case is a test; its error is that comparison of it which takes the largest share of its '
        "tolerance. Errors are relative, max|ours − torch’s| / max|torch’s| of an array, unless the reason says "
        "absolute.</p>"
    )


def _rung(report: Mapping[str, Any], rung: int) -> str:
    cases = [case for case in report["cases"] if case["rung"] == rung]
    title = f"Rung {rung}: {report['titles'][str(rung)]}"
    failed = [case for case in cases if not case["passed"]]
    shares = {
        dtype: [share(case) for case in cases if case["dtype"] == dtype and case["error"] is not None]
        for dtype in ("float64", "float32")
    }
    parts = [f'<h2 id="rung{rung}">{escape(title)}</h2>', dots(title, shares)]
    if failed:
        parts.append(f'<p class="bad">Failed:</p>{_table(failed)}')
    ordered = sorted(cases, key=lambda case: (-share(case), case["case"]))
    parts.append(f"<details><summary>{len(cases)} cases, the largest share first</summary>{_table(ordered)}</details>")
    reasons = sorted({(case["tolerance"], case["reason"]) for case in cases if case["tolerance"] is not None})
    told = "".join(f"<dt>{_number(t)}</dt><dd>{escape(reason) or 'no reason given'}</dd>" for t, reason in reasons)
    parts.append(f'<details><summary>Why these tolerances</summary><dl class="reasons">{told}</dl></details>')
    return "\n".join(parts)


def _table(cases: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for case in cases:
        part = share(case)
        width = 100 if part >= 1 else max(0.0, 100 * (1 + math.log10(part) / DECADES)) if part > 0 else 0
        fill = f'<span class="fill{" over" if part > 1 else ""}" style="width:{width:.0f}%"></span>'
        quantity = escape(case["quantity"]) or '<span class="soft">the result</span>'
        message = f'<br><span class="bad">{escape(case["message"])}</span>' if case["message"] else ""
        rows.append(
            f'<tr><td class="case">{escape(case["case"])}{message}</td><td>{escape(case["dtype"])}</td>'
            f'<td class="case">{quantity}</td><td class="n">{_number(case["error"])}</td>'
            f'<td class="n">{_number(case["tolerance"])}</td>'
            f'<td class="bar"><span class="track">{fill}</span></td></tr>'
        )
    return (
        '<div class="scroll"><table><thead><tr><th>case</th><th>type</th><th>worst quantity</th>'
        f'<th class="n">error</th><th class="n">tolerance</th><th>share, 10<sup>−{DECADES}</sup> to 1</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _growth(report: Mapping[str, Any]) -> str:
    parts = ["<h2>How the error grows over training</h2>"]
    if report["growth_error"]:
        parts.append(f'<p class="bad">{escape(report["growth_error"])}</p>')
    elif not report["growth"]:
        parts.append('<p class="soft">Not run: --rungs asks for some rungs alone.</p>')
    else:
        parts.append(
            "<p>Both frameworks train from the same weights on the same inputs. Beside their difference stands that of "
            "torch from itself, when its first weights are moved by a rounding or its sums made in another order: no "
            "program can be expected to stay nearer.</p>"
        )
    for plot in report["growth"]:
        parts += [
            f"<h3>{escape(plot['title'])}</h3>",
            lines(plot),
            f'<p class="soft">{escape(plot.get("note", ""))}</p>',
        ]
    return "\n".join(parts)


def _left_out(report: Mapping[str, Any]) -> str:
    parts = []
    for title, names in (
        ("cases left out", report["left_out"]),
        ("cases skipped", [f"{case['case']}: {case['reason']}" for case in report["skipped"]]),
    ):
        if names:
            items = "".join(f"<li><code>{escape(name)}</code></li>" for name in names)
            parts.append(f"<details><summary>{len(names)} {title}</summary><ul>{items}</ul></details>")
    return "<h2>What was left out</h2>\n" + "\n".join(parts) if parts else ""


def _circumstances(report: Mapping[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    rows: Sequence[tuple[str, Any]] = [
        ("date", report["date"]),
        (
            "processor",
            f"{_processor(machine)}, {machine.get('system', '?')}",
        ),
        ("JAX's device", f"{machine.get('device', '?')}, backend {machine.get('backend', '?')}"),
        ("torch's device", machine.get("torch_device", "?")),
        ("JAX's matmul precision", machine.get("matmul_precision", "?")),
        *versions.items(),
    ]
    table = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return (
        f'<h2>Where it was measured</h2>\n<div class="scroll"><table><tbody>{table}</tbody></table></div>\n'
        f"<h2>To run it again</h2>\n<pre>{escape(report['command'])}</pre>\n"
        f"<p>One case: <code>pytest {escape(repr(report['cases'][0]['test']) if report['cases'] else '')}</code></p>"
    )


def _processor(machine: Mapping[str, Any]) -> str:
    cores = machine.get("cores", "?")
    return f"{machine.get('machine', '?')}, {cores} core{'' if cores == 1 else 's'}"


def _number(value: float | None) -> str:
    if value is None:
        return "—"
    return "0" if value == 0 else f"{value:.1e}"


def _percent(part: float) -> str:
    if math.isinf(part):
        return "over"
    return "0" if part == 0 else f"{100 * part:.2g} %" if part >= 1e-4 else "&lt; 0.01 %"
