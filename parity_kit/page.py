"""Rows and growth as one page (jax_sngan/reports/pages.py): a climb's, and the project's own report."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from jax_sngan.reports import pages
from jax_sngan.reports.pages import Markup, Section
from jax_sngan.reports.plots import Line, Plot
from parity_kit.dots import dots
from parity_kit.rows import Row

_STYLE = """
td.case, td:first-child { min-width: 11rem; } td.bar { min-width: 6rem; }
.track { display: block; height: .55rem; margin-top: .4rem; background: var(--band); border-radius: .2rem; }
.fill { display: block; height: 100%; border-radius: .2rem; background: var(--c0); min-width: 2px; }
.fill.over { background: var(--bad); }
.reasons dt { font-weight: 600; margin-top: .5rem; } .reasons dd { margin: 0; }
"""
DECADES = 6  # of a bar: from a millionth of the tolerance to all of it
DTYPES = ("float64", "float32")


def page(
    title: str,
    rows: Sequence[Row],
    curves: Sequence[Mapping[str, Any]],
    *,
    head: str = "",
    titles: Mapping[str, str] | None = None,
    no_curves: str = "",
    more: Sequence[Section] = (),
) -> str:
    """The page.

    Args:
      rows: in the order in which their rungs are shown.
      curves: as growth.Growth.plot gives them.
      head: HTML below the title. titles: of rungs, where they have one. no_curves: HTML where there is no curve.
      more: further sections.
    """
    of = {name: [row for row in rows if row.of == name] for name in dict.fromkeys(row.of for row in rows)}
    named = {name: f"Rung {name}: {titles[name]}" if titles and name in titles else name.capitalize() for name in of}
    sections = [
        ("overview", "Worst share of the tolerance, by rung", _overview(of, named)),
        *((f"rung-{name}", named[name], _rung(named[name], own)) for name, own in of.items()),
        ("growth", "How the error grows over training", _growth(curves) if curves else no_curves),
        *more,
    ]
    return pages.page(title, head, sections, _STYLE)


def verdict(passed: bool, text: str) -> str:
    """The line that says how it ended."""
    return f'<p class="verdict {"good" if passed else "bad"}">{escape(text)}</p>\n'


def _overview(of: Mapping[str, Sequence[Row]], named: Mapping[str, str]) -> str:
    rows = []
    for name, own in of.items():
        worst = []
        for dtype in DTYPES:
            of_type = max((row for row in own if row.dtype == dtype), key=lambda row: row.share, default=None)
            worst.append(_percent(of_type.share) if of_type else "")
        failed = sum(not row.passed for row in own)
        link = Markup(f'<a href="#rung-{escape(name)}">{escape(named[name].removeprefix("Rung "))}</a>')
        rows.append((link, len(own), *worst, Markup(f'<span class="bad">{failed}</span>') if failed else 0))
    return pages.table(("rung", "cases", *DTYPES, "failed"), rows) + (
        '<p class="soft">The error of a case is that comparison of it which takes the largest share of its '
        "tolerance. Errors are relative, max|ours − torch’s| / max|torch’s| of an array, unless the reason says "
        "absolute.</p>"
    )


def _rung(title: str, rows: Sequence[Row]) -> str:
    failed = [row for row in rows if not row.passed]
    shares = {d: [r.share for r in rows if r.dtype == d and math.isfinite(r.error)] for d in DTYPES}
    parts = [dots(title, shares)]
    if failed:
        parts.append(f'<p class="bad">Failed:</p>{_table(failed)}')
    ordered = sorted(rows, key=lambda row: (-row.share, row.what))
    parts.append(pages.details(f"{len(rows)} cases, the largest share first", _table(ordered)))
    reasons = sorted({(float(r.tolerance), r.reason) for r in rows if math.isfinite(r.tolerance)})
    told = "".join(f"<dt>{_number(t)}</dt><dd>{escape(reason) or 'no reason given'}</dd>" for t, reason in reasons)
    parts.append(pages.details("Why these tolerances", f'<dl class="reasons">{told}</dl>'))
    return "\n".join(parts)


def _table(rows: Iterable[Row]) -> str:
    found = []
    for row in rows:
        part = row.share
        width = 100 if part >= 1 else max(0.0, 100 * (1 + math.log10(part) / DECADES)) if part > 0 else 0
        over = " over" if part > 1 else ""
        bar = Markup(f'<span class="track"><span class="fill{over}" style="width:{width:.0f}%"></span></span>')
        message = f'<br><span class="bad">{escape(row.message)}</span>' if row.message else ""
        name = Markup(escape(row.what) + message)
        numbers = _number(row.error), _number(row.tolerance)
        found.append((name, row.dtype, row.quantity or "the result", *numbers, bar))
    head = ("case", "type", "worst quantity", "error", "tolerance", Markup(f"share, 10<sup>−{DECADES}</sup> to 1"))
    return pages.table(head, found, texts=3, last=True)


def _growth(curves: Sequence[Mapping[str, Any]]) -> str:
    return (
        "<p>Both frameworks train from the same weights on the same inputs. Beside their difference stands that of "
        "torch from itself, when its first weights are moved by a rounding or its sums made in another order: no "
        f"program can be expected to stay nearer.</p>\n{pages.drawn(plot(told) for told in curves)}"
    )


def plot(told: Mapping[str, Any]) -> Plot:
    """A plot of Growth.plot's; so many lines in a row as it says have one colour."""
    runs = told.get("runs", 1)
    lines = [Line(name, told["x"], y, None, i // runs, i % runs) for i, (name, y) in enumerate(told["lines"].items())]
    return Plot(told["title"], lines, y_label=told["y_label"], log=True, note=told.get("note", ""))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "—"
    return "0" if value == 0 else f"{value:.1e}"


def _percent(part: float) -> str:
    if math.isinf(part):
        return "over"
    return "0" if part == 0 else f"{100 * part:.3g} %" if part >= 1e-4 else "< 0.01 %"
