"""Dots along a logarithmic line, as SVG: what of its tolerance each case takes."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from jax_sngan.reports.plots import decades, drawing, power

WIDTH = 520


def dots(title: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Each row's values, shares of a tolerance, along one logarithmic axis that ends at 1, and a mark there.

    Zeros are counted at the left end; what is above 1 is drawn at the right end in the colour of a failure.
    """
    rows = {label: values for label, values in rows.items() if values}
    if not rows:
        return ""
    low = min([decades(v for v in values if v > 0)[0] for values in rows.values() if any(values)] or [-1])
    low = min(low, -1)
    left, right, step = 130, 40, 26
    height = step * len(rows) + 24

    def across(value: float) -> float:
        return left + (WIDTH - left - right) * (1 - math.log10(min(max(value, 10.0**low), 3)) / low)

    parts = [f'<path d="M{across(1):.1f} 2V{height - 20}" stroke="var(--bad)" stroke-width="1.5"/>']
    every = math.ceil(-low / 8)
    for exponent in range(0, low - 1, -every):
        x = across(10.0**exponent)
        label = "tolerance" if exponent == 0 else power(exponent)
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" class="soft">{label}</text>')
    for i, (label, values) in enumerate(rows.items()):
        y = step * i + step / 2
        zeros = sum(v == 0 for v in values)
        equal = f", {zeros} equal" if zeros else ""
        parts.append(f'<path d="M{left} {y}H{WIDTH - right}" stroke="var(--rule)"/>')
        parts.append(
            f'<text x="0" y="{y + 4}">{escape(label)}<tspan class="soft" font-size=".75em">{equal}</tspan></text>'
        )
        for value in values:
            if value > 0:
                colour = "var(--bad)" if value > 1 else f"var(--c{i})"
                parts.append(f'<circle cx="{across(value):.1f}" cy="{y}" r="4" fill="{colour}" fill-opacity=".55"/>')
    return drawing(f"{title}: errors as shares of their tolerances", WIDTH, height, parts)
