"""Plots from one description: inline SVG for a page, whose colours are the page's, or PNG for a file."""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import Image

COLOURS = ("#1f6fb4", "#c2570c", "#1a7f4b", "#a8326f", "#7a4bb5", "#8a6d00", "#c0392b", "#5d6673")
DASHES = ("", "6 4", "2 3")
WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 10, 44
_FEW = 30  # points of a line that are marked each
_DPI = 110


@dataclass(frozen=True)
class Line:
    """One curve. Where y is NaN it is interrupted."""

    label: str
    x: Sequence[float]  # [n]
    y: Sequence[float]  # [n]
    band: tuple[Sequence[float], Sequence[float]] | None = None  # from the first [n] to the second [n]
    colour: int = 0
    dash: int = 0


@dataclass(frozen=True)
class Plot:
    """Lines over one x. With log, what is not above 0 is left out, and the line interrupted there."""

    title: str
    lines: Sequence[Line]
    x_label: str = "training step"
    y_label: str = ""
    log: bool = False
    level: float | None = None  # a dotted line across: what the lines are held against
    note: str = ""


def svg(plot: Plot) -> str:
    """A plot as SVG, with its legend below as HTML; without one where the title says what the only line is."""
    values = [v for line in plot.lines for ys in (line.y, *(line.band or ())) for v in ys] + [plot.level or math.nan]
    values = [v for v in values if _drawn(v, plot.log)]
    xs = [x for line in plot.lines for x in line.x]
    if not values:
        return f'<p class="soft">{escape(plot.title)}: no value {"above 0" if plot.log else "that is finite"}.</p>'
    low, high, ticks = _powers(values) if plot.log else _steps(min(values), max(values), 5)
    first, last = min(xs), max(xs)
    first = 0 if 0 < first < last / 10 else first

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / ((last - first) or 1)

    def down(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - (math.log10(y) if plot.log else y)) / (high - low)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in ticks:
        y = down(10.0**tick if plot.log else tick)
        text = power(round(tick)) if plot.log else _plain(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="var(--rule)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in (t for t in _steps(first, last, 5)[2] if first <= t <= last):
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{_plain(tick)}</text>')
    middle = f"{(TOP + bottom) / 2:.0f}"
    parts.append(
        f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle" class="soft">'
        f'{escape(plot.x_label)}</text><text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle" '
        f'class="soft">{escape(plot.y_label)}</text>'
    )
    if plot.level is not None and _drawn(plot.level, plot.log):
        parts.append(f'<path d="M{LEFT} {down(plot.level):.1f}H{right}" stroke="var(--soft)" stroke-dasharray="2 4"/>')
    for line in plot.lines:
        points = [
            [(across(x), down(y)) if _drawn(y, plot.log) else None for x, y in zip(line.x, ys, strict=True)]
            for ys in (line.y, *(line.band or ()))
        ]
        if line.band and None not in points[1] + points[2]:
            edge = _path(points[1]) + "L" + _path(points[2][::-1])[1:]
            parts.append(f'<path d="{edge}Z" fill="{_colour(line)}" fill-opacity=".16"/>')
        parts.append(f'<path d="{_path(points[0])}" {_stroke(line)}/>')
        if len(line.x) <= _FEW:
            parts += [
                f'<circle cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="2.6" fill="{_colour(line)}"/>' for p in points[0] if p
            ]
    legend = "".join(
        f'<li><svg viewBox="0 0 32 12" aria-hidden="true"><path d="M0 6H32" {_stroke(line)}/></svg>'
        f"{escape(line.label)}</li>"
        for line in plot.lines
    )
    told = len(plot.lines) > 1 or plot.lines[0].label not in plot.title
    return drawing(plot.title, WIDTH, HEIGHT, parts) + (f'<ul class="legend">{legend}</ul>' if told else "")


def drawing(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    """An SVG element that a screen reader calls by its title."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def png(plots: Sequence[Plot], columns: int, *, width: float = 5.5, height: float = 4.0) -> bytes:
    """`figure`, as PNG."""
    return small_png(figure(plots, columns, width=width, height=height))


def figure(plots: Sequence[Plot], columns: int, *, width: float = 5.5, height: float = 4.0) -> Any:
    """Plots side by side, in rows of so many; inches of each. The legend is where matplotlib finds room."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(plots) / columns)
    drawn = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = drawn.subplots(rows, columns, squeeze=False).flat
    for axes, plot in zip(panels, plots, strict=False):
        for line in plot.lines:
            colour = COLOURS[line.colour % len(COLOURS)]
            marker = "." if len(line.x) <= _FEW else ""
            dash = (0, tuple(map(int, DASHES[line.dash].split()))) if line.dash else "-"
            axes.plot(line.x, line.y, marker=marker, ls=dash, lw=1.5, color=colour, label=line.label)
            if line.band:
                axes.fill_between(line.x, *line.band, color=colour, alpha=0.16, linewidth=0)
        if plot.level is not None:
            axes.axhline(plot.level, color="#888888", lw=0.8, ls=":")
        axes.set(xlabel=plot.x_label, ylabel=plot.y_label, title=plot.title, yscale="log" if plot.log else "linear")
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
        if len(plot.lines) > 1:
            axes.legend(fontsize=8, frameon=False)
    for axes in drawn.axes[len(plots) :]:
        axes.set_axis_off()
    return drawn


def small_png(figure: Any) -> bytes:
    """A matplotlib figure with a palette of 128 colours: a third of the bytes, and no difference that one sees."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def power(exponent: int) -> str:
    """A power of ten, as SVG's text."""
    return f'10<tspan dy="-5" font-size=".75em">{"−" if exponent < 0 else ""}{abs(exponent)}</tspan>'


def decades(values: Iterable[float]) -> tuple[int, int]:
    """The powers of ten that enclose values above 0, at least one apart."""
    there = list(values)
    low, high = math.floor(math.log10(min(there))), math.ceil(math.log10(max(there)))
    return low, max(high, low + 1)


def _powers(values: Sequence[float]) -> tuple[float, float, list[float]]:
    low, high = decades(values)
    return low, high, [float(t) for t in range(low, high + 1, math.ceil((high - low) / 8))]


def _steps(low: float, high: float, about: int) -> tuple[float, float, list[float]]:
    """Round numbers from below low to above high, some `about` of them; and the least and greatest of these."""
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return start * step, end * step, [i * step for i in range(start, end + 1)]


def _drawn(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _plain(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{round(value, 6):,.10g}".replace("-", "−")


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    path, pen = "", "M"
    for point in points:
        if point:
            path += f"{pen}{point[0]:.1f} {point[1]:.1f}"
        pen = "L" if point else "M"
    return path


def _colour(line: Line) -> str:
    return f"var(--c{line.colour % len(COLOURS)})"


def _stroke(line: Line) -> str:
    dash = f' stroke-dasharray="{DASHES[line.dash]}"' if line.dash else ""
    return f'stroke="{_colour(line)}" stroke-width="1.8" fill="none" stroke-linejoin="round"{dash}'
