"""What this project's report has beside its rows (parity_kit/page.py): where it was measured, what was left out."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jax_sngan.reports import pages
from parity_kit.climb import Climb


def page(report: Climb) -> str:
    """The page of a report as report.gather makes it."""
    about = report.about
    none = report.error or "Not run: --rungs asks for some rungs alone."
    return report.page(
        "JAX against PyTorch, number by number",
        _head(about),
        titles=about["titles"],
        no_curves=f'<p class="{"bad" if report.error else "soft"}">{escape(none)}</p>',
        more=[
            ("left-out", "What was left out", _left_out(about)),
            ("where", "Where it was measured, and how to run it again", _circumstances(report)),
        ],
    )


def _head(about: Mapping[str, Any]) -> str:
    part = "The quick selection" if about["quick"] else "The ladder"
    if len(about["rungs"]) < len(about["titles"]):
        part += f", rungs {', '.join(map(str, about['rungs']))} alone"
    n = len(about["left_out"])
    part += f"; {n} cases were left out, see below." if n else "; no case was left out."
    where = f"{about['machine'].get('device', '?')} ({_processor(about['machine'])})"
    return (
        f"<p>{escape(part)} Measured on {escape(where)}, {escape(about['date'])}, in "
        f"{about['seconds']:.0f} s. Beside these, {len(about['checks'])} checks without a number passed: what must "
        "raise, what must not move.</p>"
    )


def _left_out(about: Mapping[str, Any]) -> str:
    parts = []
    for title, names in (
        ("cases left out", about["left_out"]),
        ("cases skipped", [f"{case['case']}: {case['reason']}" for case in about["skipped"]]),
    ):
        if names:
            parts.append(pages.details(f"{len(names)} {title}", pages.items(names)))
    return "\n".join(parts)


def _circumstances(report: Climb) -> str:
    machine = report.about["machine"]
    rows: Sequence[tuple[str, Any]] = [
        ("date", report.about["date"]),
        ("processor", f"{_processor(machine)}, {machine.get('system', '?')}"),
        ("JAX's device", f"{machine.get('device', '?')}, backend {machine.get('backend', '?')}"),
        ("torch's device", machine.get("torch_device", "?")),
        ("JAX's matmul precision", machine.get("matmul_precision", "?")),
        *report.about["versions"].items(),
    ]
    one = repr(report.rows[0].more["test"]) if report.rows else ""
    return (
        f"{pages.facts(rows)}<p>To run it again:</p><pre>{escape(report.about['command'])}</pre>\n"
        f"<p>One case: <code>pytest {escape(one)}</code></p>"
    )


def _processor(machine: Mapping[str, Any]) -> str:
    cores = machine.get("cores", "?")
    return f"{machine.get('machine', '?')}, {cores} core{'' if cores == 1 else 's'}"
