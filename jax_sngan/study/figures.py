"""The study's pictures: curves as reports/plots.py draws them, the plane as PNG, an animation as GIF."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jax_sngan.data.mixtures import MIXTURES, Mixture
from jax_sngan.reports.plots import Line, Plot, small_png
from jax_sngan.runs.pictures import grid
from jax_sngan.study.folder import Finished
from jax_sngan.study.plan import CRITICS, GANS, REMEDIES

REACH = 2.0  # the plane is shown from -this to +this
# Each GAN's own, of plots.COLOURS: spectral norm green, red what has no bound.
COLOURS = {"standard": 6, "non_saturating": 1, "wgan": 4, "wgan_gp": 0, "sngan_hinge": 2, "sngan_non_saturating": 5}
PANEL, TITLE = 200, 18  # pixels of a panel of the animation, and of the line above it
_INK, _REAL, _MADE, _PAPER = (60, 60, 60), (205, 205, 205), (31, 97, 161), (255, 255, 255)


def title(run: Finished) -> str:
    """What a panel is called by: the remedy, or the GAN where there is none."""
    return REMEDIES[run.run.remedy].title if run.run.remedy else GANS[run.run.gan].title


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


def losses(runs: list[Finished]) -> list[Plot]:
    """Both losses of one seed over training, a plot a GAN."""
    found = []
    for run in runs:
        values = run.arrays["losses"].astype(np.float64)
        width = max(1, len(values) // 60)
        smooth = [np.convolve(v, np.ones(width) / width, mode="valid") for v in values.T]
        part = slice(None, None, max(1, width // 2))
        steps = (np.arange(len(smooth[0])) + width // 2)[part].tolist()
        lines = [
            Line(name, steps, v[part].tolist(), colour=i) for i, (name, v) in enumerate(zip("DG", smooth, strict=True))
        ]
        found.append(Plot(GANS[run.run.gan].title, lines, "G updates", "loss"))
    return found


def modes_over_training(runs: list[Finished]) -> list[Plot]:
    """Modes covered at each moment: the mean over seeds, and from the least to the most as a band."""
    lines = []
    for gan in GANS:
        own = [r.arrays for r in runs if r.run.gan == gan]
        if own:
            covered = np.stack([a["covered"] for a in own])
            lines.append(_over_seeds(gan, own[0]["frame_steps"], covered))
    return [Plot("Modes covered", lines, "G updates", "modes", level=runs[0].figures["modes"])]


def lipschitz(runs: list[Finished]) -> list[Plot]:
    """Slopes of D over training, the mean over seeds: the steepest found, and the bound from the layers' norms.

    A fresh network is left out: its u and v are random, and spectral norm's sigma still means nothing.
    """
    found = []
    for column, title in ((1, "Steepest slope found"), (2, "Bound from the layers")):
        lines = []
        for gan in GANS:
            own = [r.arrays["slopes"] for r in runs if r.run.gan == gan]
            if own:
                after = np.stack(own)[:, own[0][:, 0] > 0]
                lines.append(_over_seeds(gan, after[0, :, 0], after[:, :, column]))
        found.append(Plot(title, lines, "G updates", "slope of D", log=True, level=1.0))
    return found


def _over_seeds(gan: str, steps: NDArray[Any], values: NDArray[Any]) -> Line:
    """values [seeds, moments] as their mean, with a band from the least to the most."""
    band = (values.min(0).tolist(), values.max(0).tolist()) if len(values) > 1 else None
    return Line(GANS[gan].title, steps.tolist(), values.mean(0).tolist(), band, COLOURS[gan])


def critics(told: dict[str, dict[str, Any]]) -> list[Plot]:
    """Estimates against the truth, and what pulls G, as two Gaussians move apart."""
    jsd, distance, pull = [], [], []
    exact: Line | None = None  # drawn last: what lies on it would hide it
    for name, f in told.items():
        t, critic = f["distances"], CRITICS[name]
        if critic.of == "jsd":
            jsd += [
                Line("log 4 − loss of D", t, f["estimate"], colour=COLOURS["standard"]),
                Line("2 JSD, exact", t, f["truth"], colour=7, dash=2),
            ]
            for loss, of, gan in (
                ("standard", "pull_saturating", "standard"),
                ("non-saturating", "pull", "non_saturating"),
            ):
                pull.append(Line(f"{loss} loss", t, np.abs(f[of]).tolist(), colour=COLOURS[gan]))
            continue
        colour = COLOURS.get(name, COLOURS["sngan_hinge"])
        distance.append(Line(critic.title, t, np.abs(f["estimate"]).tolist(), colour=colour))
        pull.append(Line(critic.title, t, np.abs(f["pull"]).tolist(), colour=colour))
        exact = Line("distance, exact", t, f["truth"], colour=7, dash=2)
    if exact is not None:
        distance.append(exact)
    x = "distance of the means, in standard deviations"
    plots = [
        Plot("Jensen-Shannon: D's estimate", jsd, x, "nats", level=2 * float(np.log(2))),
        Plot("Wasserstein: the critics' estimates", distance, x, "distance"),
        Plot("Pull on the generator", pull, x, "slope of G's loss", log=True),
    ]
    return [plot for plot in plots if plot.lines]


def samples(runs: list[Finished]) -> bytes:
    """Sample grids side by side."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    for axes, run in zip(figure.subplots(2, 3).flat, runs, strict=False):
        picture = grid(run.arrays["grid"], columns=8)
        axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(GANS[run.run.gan].title, fontsize=9)
    for axes in figure.axes:
        axes.set_axis_off()
    return small_png(figure)


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


def _panels(runs: list[Finished], draw: Callable[[Axes, Finished], None]) -> bytes:
    """One panel of the plane a run, three in a row."""
    rows = -(-len(runs) // 3)
    figure = Figure(figsize=(8, 3.0 * rows), layout="constrained")
    for axes, run in zip(figure.subplots(rows, 3, squeeze=False).flat, runs, strict=False):
        draw(axes, run)
        axes.set_title(title(run), fontsize=9, pad=7)
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect="equal")
        axes.xaxis.labelpad = 3
    for axes in figure.axes[len(runs) :]:
        axes.set_axis_off()
    return small_png(figure)


def _centres(axes: Axes, run: Finished, colour: str) -> None:
    centres = MIXTURES[run.run.data]().centres
    axes.plot(centres[:, 0], centres[:, 1], "o", ms=7, mfc="none", mec=colour, mew=0.6)


def _finite(xy: NDArray[Any]) -> NDArray[Any]:
    return xy[np.isfinite(xy).all(axis=1)]
