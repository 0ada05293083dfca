"""The study's pictures: PNG by matplotlib, an animation as GIF by pillow; all as bytes."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jax_sngan.data.mixtures import MIXTURES, Mixture
from jax_sngan.runs.pictures import grid
from jax_sngan.study.folder import Finished
from jax_sngan.study.plan import CRITICS, GANS

REACH = 2.0  # the plane is shown from -this to +this
COLOURS = dict(zip(GANS, ("#c0392b", "#e08e0b", "#7d5ba6", "#2e86c1", "#1e8449", "#48b06a"), strict=True))
PANEL, TITLE = 200, 18  # pixels of a panel of the animation, and of the line above it
_INK, _REAL, _MADE, _PAPER = (60, 60, 60), (205, 205, 205), (31, 97, 161), (255, 255, 255)


def density(runs: list[Finished]) -> bytes:
    """Where the generators of one seed put their points in the end, by a histogram with logarithmic colours."""

    def draw(axes: Axes, run: Finished) -> None:
        xy = _finite(run.arrays["sample"])
        counts, edges, _ = np.histogram2d(xy[:, 0], xy[:, 1], bins=110, range=[[-REACH, REACH]] * 2)
        axes.imshow(
            np.log1p(counts.T), origin="lower", extent=(-REACH, REACH, -REACH, REACH), cmap="Blues", vmin=0, vmax=4
        )
        _centres(axes, run, "#d35400")
        axes.set_xlabel(f"{run.figures['covered']} of {run.figures['modes']} modes", fontsize=8)

    return _panels(runs, draw)


def fields(runs: list[Finished]) -> bytes:
    """D's score as colour, its gradient as arrows, real modes and generated points."""

    def draw(axes: Axes, run: Finished) -> None:
        arrays = run.arrays
        score, gradient = arrays["field"].astype(np.float64), arrays["gradient"].astype(np.float64)
        axis = np.linspace(-REACH, REACH, len(score))
        if np.isfinite(score).all() and np.ptp(score) > 0:
            axes.contourf(axis, axis, score, levels=24, cmap="RdYlBu")
            part = slice(1, None, 3)
            u, v = gradient[part, part, 0], gradient[part, part, 1]
            length = np.hypot(u, v)
            scale = np.maximum(length, 1e-12)
            axes.quiver(axis[part], axis[part], u / scale, v / scale, scale=24, width=0.005, color="#333333")
            axes.set_xlabel(f"|gradient| {np.median(length):.2g}", fontsize=8)
        xy = _finite(arrays["sample"])[:300]
        axes.plot(xy[:, 0], xy[:, 1], ".", ms=2.5, color="#00e5ff", mec="#004d57", mew=0.2)
        _centres(axes, run, "black")

    return _panels(runs, draw)


def losses(runs: list[Finished]) -> bytes:
    """Both losses of one seed over training."""

    def draw(axes: Axes, run: Finished) -> None:
        values = run.arrays["losses"].astype(np.float64)
        width = max(1, len(values) // 60)
        smooth = [np.convolve(v, np.ones(width) / width, mode="valid") for v in values.T]
        steps = np.arange(len(smooth[0])) + width // 2
        axes.plot(steps, smooth[0], lw=1, color="#1f61a1", label="D")
        axes.plot(steps, smooth[1], lw=1, color="#d35400", label="G")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7, frameon=False)

    return _panels(runs, draw, plane=False)


def modes_over_training(runs: list[Finished]) -> bytes:
    """Modes covered at each moment: the mean over seeds, and from the least to the most as a band."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for gan in GANS:
        own = [r.arrays for r in runs if r.run.gan == gan]
        if own:
            covered = np.stack([a["covered"] for a in own])
            steps = own[0]["frame_steps"]
            axes.plot(steps, covered.mean(0), color=COLOURS[gan], lw=1.6, label=GANS[gan].title)
            axes.fill_between(steps, covered.min(0), covered.max(0), color=COLOURS[gan], alpha=0.12, lw=0)
    axes.axhline(runs[0].figures["modes"], color="#888888", lw=0.8, ls=":")
    axes.set(xlabel="G updates", ylabel="modes covered")
    axes.legend(fontsize=8, frameon=False, ncols=2)
    axes.grid(alpha=0.25)
    return _png(figure)


def lipschitz(runs: list[Finished]) -> bytes:
    """Slopes of D over training, the mean over seeds: the steepest found, and the bound from the layers' norms.

    A fresh network is left out: its u and v are random, and spectral norm's sigma still means nothing.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, column, title in zip(figure.subplots(1, 2), (1, 2), ("steepest slope found", "bound"), strict=True):
        for gan in GANS:
            own = [r.arrays["slopes"] for r in runs if r.run.gan == gan]
            if own:
                after = np.stack(own)[:, own[0][:, 0] > 0]
                axes.plot(after[0, :, 0], after[:, :, column].mean(0), color=COLOURS[gan], label=GANS[gan].title)
        axes.axhline(1, color="#888888", lw=0.8, ls=":")
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("G updates", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    axes.legend(fontsize=7, frameon=False)
    return _png(figure)


def critics(told: dict[str, dict[str, Any]]) -> bytes:
    """Estimates against the truth, and what pulls G, as two Gaussians move apart."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, f in told.items():
        t, critic = np.array(f["distances"]), CRITICS[name]
        if critic.of == "jsd":
            left.plot(t, f["truth"], "k:", lw=1.6, zorder=5, label="2 JSD, exact")
            left.plot(t, f["estimate"], "o-", ms=4, color=COLOURS["standard"], label="log 4 − loss of D")
            right.plot(t, np.abs(f["pull_saturating"]), "o-", ms=4, color=COLOURS["standard"], label="standard loss")
            right.plot(t, np.abs(f["pull"]), "o-", ms=4, color=COLOURS["non_saturating"], label="non-saturating")
            continue
        colour = COLOURS.get(name, COLOURS["sngan_hinge"])
        middle.plot(t, np.abs(f["estimate"]), "o-", ms=4, color=colour, label=critic.title)
        right.plot(t, np.abs(f["pull"]), "o-", ms=4, color=colour, label=critic.title)
    exact = [(f["distances"], f["truth"]) for name, f in told.items() if CRITICS[name].of == "wasserstein"]
    for t, truth in exact[:1]:
        middle.plot(t, truth, "k:", lw=1.6, zorder=5, label="distance, exact")
    left.axhline(2 * np.log(2), color="#888888", lw=0.8, ls="--")
    right.set_yscale("symlog", linthresh=0.01)
    for axes, title in ((left, "Jensen-Shannon"), (middle, "Wasserstein"), (right, "pull on the generator")):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("distance of the means", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=6.5, frameon=False)
    return _png(figure)


def samples(runs: list[Finished]) -> bytes:
    """Sample grids side by side."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    for axes, run in zip(figure.subplots(2, 3).flat, runs, strict=False):
        picture = grid(run.arrays["grid"], columns=8)
        axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(GANS[run.run.gan].title, fontsize=9)
    for axes in figure.axes:
        axes.set_axis_off()
    return _png(figure)


def animation(runs: list[Finished]) -> bytes:
    """The generators of one seed finding the modes; real modes grey, generated points blue."""
    arrays = [r.arrays for r in runs]
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    pictures = []
    for moment, step in enumerate(arrays[0]["frame_steps"]):
        sheet = Image.new("RGB", (columns * PANEL, rows * (PANEL + TITLE)), _PAPER)
        pen = ImageDraw.Draw(sheet)
        for i, (run, own) in enumerate(zip(runs, arrays, strict=True)):
            x, y = i % columns * PANEL, i // columns * (PANEL + TITLE)
            sheet.paste(_panel(own["frames"][moment], MIXTURES[run.run.data]()), (x, y + TITLE))
            pen.text((x + 4, y + 3), f"{GANS[run.run.gan].title}: {own['covered'][moment]}", fill=_INK)
        pen.text((sheet.width - 40, sheet.height - 14), str(step), fill=_INK)
        pictures.append(sheet.quantize(16, method=Image.Quantize.MEDIANCUT))
    buffer = io.BytesIO()
    pauses = [160] * (len(pictures) - 1) + [2000]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=pauses, loop=0)
    return buffer.getvalue()


def _panel(xy: NDArray[np.float32], mixture: Mixture) -> Image.Image:
    panel = Image.new("RGB", (PANEL, PANEL), _PAPER)
    pen = ImageDraw.Draw(panel)
    pen.rectangle((0, 0, PANEL - 1, PANEL - 1), outline=(235, 235, 235))
    for points, radius, colour in ((mixture.centres, 6, _REAL), (_finite(xy), 1, _MADE)):
        for x, y in (np.array([1, -1]) * points / REACH + 1) / 2 * PANEL:
            if 0 <= x < PANEL and 0 <= y < PANEL:
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return panel


def _panels(runs: list[Finished], draw: Callable[[Axes, Finished], None], *, plane: bool = True) -> bytes:
    """One panel a GAN, in two rows."""
    figure = Figure(figsize=(8, 6.0 if plane else 4.6), layout="constrained")
    for axes, run in zip(figure.subplots(2, 3).flat, runs, strict=False):
        draw(axes, run)
        axes.set_title(GANS[run.run.gan].title, fontsize=9, pad=7)
        if plane:
            axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect="equal")
            axes.xaxis.labelpad = 3
    for axes in figure.axes[len(runs) :]:
        axes.set_axis_off()
    return _png(figure)


def _centres(axes: Axes, run: Finished, colour: str) -> None:
    centres = MIXTURES[run.run.data]().centres
    axes.plot(centres[:, 0], centres[:, 1], "o", ms=7, mfc="none", mec=colour, mew=0.6)


def _finite(xy: NDArray[Any]) -> NDArray[Any]:
    return xy[np.isfinite(xy).all(axis=1)]


def _png(figure: Figure) -> bytes:
    """A palette of 128 colours: a third of the bytes, and no difference that one sees."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()
