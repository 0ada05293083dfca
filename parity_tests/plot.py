"""Inline SVG with a logarithmic axis: curves over steps, and dots along a line. Colours are the page's --c0, --c1, …"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = 6
DASHES = ("", "6 4", "2 3")
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 14, 52


def _stroke(i: int, runs: int) -> str:
    """A line's look: a colour for every `runs` lines, which differ by their dashes."""
    i, dash = i // runs, DASHES[i % runs % len(DASHES)]
    return f'stroke="var(--c{i % COLOURS})" stroke-width="2" fill="none"' + (
        f' stroke-dasharray="{dash}"' if dash else ""
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that enclose them."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _power(exponent: int) -> str:
    return f'10<tspan dy="-5" font-size=".75em">{"−" if exponent < 0 else ""}{abs(exponent)}</tspan>'


def lines(plot: Mapping[str, Any]) -> str:
    """Curves over a linear x and a logarithmic y, with a legend below.

    Args:
      plot: {"title", "x": [n], "y_label", "lines": {label: [n]}, perhaps "x_label", and "runs": so many lines in
        a row share a colour}. A value of 0 has no logarithm: the curve is interrupted there.
    """
    runs = plot.get("runs", 1)
    x, curves = plot["x"], plot["lines"]
    positive = [y for ys in curves.values() for y in ys if y > 0]
    if not positive:
        return '<p class="soft">Every value is 0.</p>'
    low, high = _decades(positive)
    first, last = min(x), max(x)

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - first) / max(last - first, 1)

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(value)) / (high - low)

    parts = []
    every = math.ceil((high - low) / 8)
    for exponent in range(low, high + 1, every):
        y = down(10.0**exponent)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--rule)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_power(exponent)}</text>')
    for i in range(5):
        value = round(first + (last - first) * i / 4)
        parts.append(f'<text x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{value}</text>')
    middle = f'y="{HEIGHT - 4}" text-anchor="middle" class="soft"'
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" {middle}>{escape(plot.get("x_label", "training step"))}</text>'
    )
    parts.append(
        f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle" '
        f'class="soft">{escape(plot["y_label"])}</text>'
    )
    for i, ys in enumerate(curves.values()):
        path, pen = "", "M"
        for step, y in zip(x, ys, strict=True):
            path += f"{pen}{across(step):.1f} {down(y):.1f}" if y > 0 else ""
            pen = "L" if y > 0 else "M"
        parts.append(f'<path d="{path}" {_stroke(i, runs)}/>')
    legend = "".join(
        f'<li><svg viewBox="0 0 32 12" aria-hidden="true"><path d="M0 6H32" {_stroke(i, runs)}/></svg>'
        f"{escape(label)}</li>"
        for i, label in enumerate(curves)
    )
    return _svg(plot["title"], WIDTH, HEIGHT, parts) + f'<ul class="legend">{legend}</ul>'


def dots(title: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Each row's values, shares of a tolerance, along one logarithmic axis that ends at 1, and a mark there.

    Zeros are counted at the left end; what is above 1 is drawn at the right end in the colour of a failure.
    """
    rows = {label: values for label, values in rows.items() if values}
    if not rows:
        return ""
    low = min([_decades([v for v in values if v > 0])[0] for values in rows.values() if any(values)] or [-1])
    low = min(low, -1)
    left, right, step = 160, 50, 28
    height = step * len(rows) + 24

    def across(value: float) -> float:
        return left + (WIDTH - left - right) * (1 - math.log10(min(max(value, 10.0**low), 3)) / low)

    parts = [f'<path d="M{across(1):.1f} 2V{height - 20}" stroke="var(--bad)" stroke-width="1.5"/>']
    every = math.ceil(-low / 8)
    for exponent in range(0, low - 1, -every):
        x = across(10.0**exponent)
        label = "tolerance" if exponent == 0 else _power(exponent)
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
    return _svg(f"{title}: errors as shares of their tolerances", WIDTH, height, parts)


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
