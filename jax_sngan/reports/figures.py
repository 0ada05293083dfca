"""What of a report is looked at: samples over training, and the numbers of the logs as plots, by subject."""

from pathlib import Path

from jax_sngan.reports import pages
from jax_sngan.reports.facts import Told, sample_files
from jax_sngan.reports.pages import Section
from jax_sngan.reports.plots import COLOURS, DASHES, Line, Plot
from jax_sngan.reports.subjects import Panel, Subject, arranged

MOST_POINTS = 250  # of a curve
MOST_LINES = len(COLOURS) * len(DASHES)  # that are told apart on a plot


def samples(told: Told) -> str:
    """Sample grids and animations, of the first seed of each kind."""
    last, moving, over = [], [], []
    for kind, runs in told:
        grids, animation = sample_files(Path(runs[0]["workdir"]))
        name = "" if len(told) == 1 else f"{kind.name}, "
        seed = f", seed {runs[0]['config']['seed']}" if len(runs) > 1 else ""
        pictures = [pages.picture(path.read_bytes(), f"{name}step {step:,}{seed}") for step, path in grids]
        last += pictures[-1:]
        over += pictures
        if animation is not None:
            moving.append(pages.picture(animation.read_bytes(), f"{name}the whole training{seed}"))
    if not last:
        return ""
    # Of several, side by side, what they came to says more than how.
    shown = [pages.strip([*moving, *over])] if len(told) == 1 else [pages.strip(last), pages.strip(moving)]
    return "\n".join(shown) + (
        '<p class="soft">The averaged generator on the same latents at every step: a picture that no longer changes, '
        "or images that grow alike, are seen here first.</p>"
    )


def curves(told: Told) -> list[Section]:
    """A section a subject (reports/subjects.py)."""
    names = list(dict.fromkeys(number for kind, _ in told for number in kind.numbers))
    found = []
    for subject, panels in arranged(names):
        whole, by_layer = (
            [(p, mine) for p, mine in panels if any("/" in n for n in mine) is layers] for layers in (False, True)
        )
        text = f"<p>{pages.text(subject.words)}</p>" + pages.drawn(
            x for p, mine in whole for x in _plots(told, p, mine)
        )
        drawn = pages.drawn(x for p, mine in by_layer for x in _plots(told, p, mine))
        text += pages.details("By layer, of each run", drawn) if drawn and whole and len(told) > 1 else drawn
        found.append((f"curves-{subject.key}", subject.title, text + _thinned(told, subject)))
    return found


def _thinned(told: Told, subject: Subject) -> str:
    longest = max((len(kind.steps(n)) for kind, _ in told for n in kind.numbers), default=0)
    together = -(-longest // MOST_POINTS)
    if subject.key != "losses" or together < 2:
        return ""
    return (
        f'<p class="soft">Of {longest:,} lines of the log, {together} in a row are drawn as one point, their mean.</p>'
    )


def _plots(told: Told, panel: Panel, names: list[str]) -> list[Plot]:
    """A panel: of one kind of run all its numbers on one plot; of several a plot a number, or a plot a run by layer."""
    having = [(i, kind, [n for n in names if n in kind.numbers]) for i, (kind, _) in enumerate(told)]
    having = [(i, kind, mine) for i, kind, mine in having if mine]
    by_layer = any("/" in n for n in names)

    def of(title: str, lines: list[Line], note: str = "") -> Plot:
        return Plot(title, lines, "G updates", panel.y_label, panel.log, panel.level, note)

    if len(having) == 1 or by_layer:
        found = []
        for _, kind, mine in having:
            shown = mine[:MOST_LINES]
            short = [
                n.partition("/")[2] if by_layer and len({m.partition("/")[0] for m in mine}) == 1 else n for n in shown
            ]
            lines = [
                kind.curve(n).line(s, colour=i % len(COLOURS), dash=i // len(COLOURS), most=MOST_POINTS)
                for i, (n, s) in enumerate(zip(shown, short, strict=True))
            ]
            note = f"{len(mine) - len(shown)} more are in the log." if len(mine) > len(shown) else ""
            title = panel.title if len(told) == 1 else f"{panel.title}, {kind.name}"
            found.append(of(title, lines, note))
        return found
    return [
        of(
            f"{panel.title}: {name}" if len(names) > 1 else panel.title,
            [
                kind.curve(name).line(
                    kind.name + (f" ({len(kind.runs)} seeds)" if len(kind.runs) > 1 else ""),
                    colour=i % len(COLOURS),
                    dash=i // len(COLOURS) % len(DASHES),
                    most=MOST_POINTS,
                )
                for i, kind, mine in having
                if name in mine
            ],
        )
        for name in names
    ]
