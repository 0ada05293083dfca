"""The report as one page (reports/pages.py)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from jax_sngan.reports import pages
from jax_sngan.reports.pages import Markup
from jax_sngan.reports.plots import Line, Plot
from parity_tests.plot import dots
from parity_tests.report import share

_STYLE = """
td.case, td:first-child { min-width: 11rem; } td.bar { min-width: 6rem; }
.track { display: block; height: .55rem; margin-top: .4rem; background: var(--band); border-radius: .2rem; }
.fill { display: block; height: 100%; border-radius: .2rem; background: var(--c0); min-width: 2px; }
.fill.over { background: var(--bad); }
.reasons dt { font-weight: 600; margin-top: .5rem; } .reasons dd { margin: 0; }
"""
DECADES = 6  # of a bar: from a millionth of the tolerance to all of it


def page(report: Mapping[str, Any]) -> str:
    """The page of a report as report.gather makes it."""
    rungs = sorted({case["rung"] for case in report["cases"]})
    sections = [
        ("overview", "Worst share of the tolerance, by rung", _overview(report)),
        *((f"rung{rung}", _title(report, rung), _rung(report, rung)) for rung in rungs),
        ("growth", "How the error grows over training", _growth(report)),
        ("left-out", "What was left out", _left_out(report)),
        ("where", "Where it was measured, and how to run it again", _circumstances(report)),
    ]
    title = f"Parity report: {'PASS' if report['passed'] else 'FAIL'}"
    return pages.page(title, _head(report), sections, _STYLE)


def _title(report: Mapping[str, Any], rung: int) -> str:
    return f"Rung {rung}: {report['titles'][str(rung)]}"


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
        worst = []
        for dtype in ("float64", "float32"):
            of_type = max((case for case in cases if case["dtype"] == dtype), key=share, default=None)
            worst.append(_percent(share(of_type)) if of_type else "")
        failed = sum(not case["passed"] for case in cases)
        link = Markup(f'<a href="#rung{rung}">{rung}, {escape(report["titles"][str(rung)])}</a>')
        rows.append((link, len(cases), *worst, Markup(f'<span class="bad">{failed}</span>') if failed else 0))
    return pages.table(("rung", "cases", "float64", "float32", "failed"), rows) + (
        '<p class="soft">A case is a test; its error is that comparison of it which takes the largest share of its '
        "tolerance. Errors are relative, max|ours − torch’s| / max|torch’s| of an array, unless the reason says "
        "absolute.</p>"
    )


def _rung(report: Mapping[str, Any], rung: int) -> str:
    cases = [case for case in report["cases"] if case["rung"] == rung]
    failed = [case for case in cases if not case["passed"]]
    shares = {
        dtype: [share(case) for case in cases if case["dtype"] == dtype and case["error"] is not None]
        for dtype in ("float64", "float32")
    }
    parts = [dots(_title(report, rung), shares)]
    if failed:
        parts.append(f'<p class="bad">Failed:</p>{_table(failed)}')
    ordered = sorted(cases, key=lambda case: (-share(case), case["case"]))
    parts.append(pages.details(f"{len(cases)} cases, the largest share first", _table(ordered)))
    reasons = sorted({(case["tolerance"], case["reason"]) for case in cases if case["tolerance"] is not None})
    told = "".join(f"<dt>{_number(t)}</dt><dd>{escape(reason) or 'no reason given'}</dd>" for t, reason in reasons)
    parts.append(pages.details("Why these tolerances", f'<dl class="reasons">{told}</dl>'))
    return "\n".join(parts)


def _table(cases: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for case in cases:
        part = share(case)
        width = 100 if part >= 1 else max(0.0, 100 * (1 + math.log10(part) / DECADES)) if part > 0 else 0
        over = " over" if part > 1 else ""
        bar = Markup(f'<span class="track"><span class="fill{over}" style="width:{width:.0f}%"></span></span>')
        message = f'<br><span class="bad">{escape(case["message"])}</span>' if case["message"] else ""
        name = Markup(escape(case["case"]) + message)
        numbers = _number(case["error"]), _number(case["tolerance"])
        rows.append((name, case["dtype"], case["quantity"] or "the result", *numbers, bar))
    head = ("case", "type", "worst quantity", "error", "tolerance", Markup(f"share, 10<sup>−{DECADES}</sup> to 1"))
    return pages.table(head, rows, texts=3, last=True)


def _growth(report: Mapping[str, Any]) -> str:
    parts = []
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
    parts.append(pages.drawn(_plot(told) for told in report["growth"]))
    return "\n".join(parts)


def _plot(told: Mapping[str, Any]) -> Plot:
    """A plot of growth.py's; so many lines in a row as it says have one colour."""
    runs = told.get("runs", 1)
    lines = [Line(name, told["x"], y, None, i // runs, i % runs) for i, (name, y) in enumerate(told["lines"].items())]
    return Plot(told["title"], lines, y_label=told["y_label"], log=True, note=told.get("note", ""))


def _left_out(report: Mapping[str, Any]) -> str:
    parts = []
    for title, names in (
        ("cases left out", report["left_out"]),
        ("cases skipped", [f"{case['case']}: {case['reason']}" for case in report["skipped"]]),
    ):
        if names:
            parts.append(pages.details(f"{len(names)} {title}", pages.items(names)))
    return "\n".join(parts)


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
    return (
        f"{pages.facts(rows)}<p>To run it again:</p><pre>{escape(report['command'])}</pre>\n"
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
    return "0" if part == 0 else f"{100 * part:.3g} %" if part >= 1e-4 else "< 0.01 %"
