"""What the rows say: mean and spread over seeds, rankings, and the sentences about them. No sentence knows its winner
before it has counted."""

from statistics import mean, stdev
from typing import Any, NamedTuple

from jax_sngan.study.plan import GANS, POINTS, REMEDIES, SPECTRAL

Row = dict[str, Any]
DATA_TITLES = {
    "ring": "the ring of 8 Gaussians",
    "grid": "the grid of 25 Gaussians",
    "fashion": "Fashion-MNIST's ten classes",
    "stacked_fashion": "the thousand modes of stacked garments",
}


class Figure(NamedTuple):
    """One column of the table."""

    title: str
    higher_is_better: bool | None  # None: neither is
    digits: int
    unit: str = ""
    factor: float = 1.0


FIGURES = {
    "covered": Figure("modes covered", True, 1),
    "high_quality": Figure("high quality", True, 1, " %", 100.0),
    "reverse_kl": Figure("KL to the true shares", False, 3),
    "js": Figure("Jensen-Shannon", False, 3),
    "wasserstein": Figure("Wasserstein", False, 3),
    "fcd": Figure("Frechet classifier distance", False, 2),
    "lipschitz_lower": Figure("steepest found", None, 2),
    "lipschitz_upper": Figure("Lipschitz bound", None, 2),
    "g_updates": Figure("G updates", None, 0),
    "d_updates": Figure("D updates", None, 0),
    "seconds": Figure("seconds", None, 1),
}


class Spread(NamedTuple):
    """Mean and standard deviation over seeds; deviation 0 for one seed."""

    gan: str
    mean: float
    deviation: float
    seeds: int


def of(rows: list[Row], data: str, remedy: str | None = None) -> list[Row]:
    """The rows of a data set, of the family itself or of one remedy."""
    return [r for r in rows if r["data"] == data and r.get("remedy") == remedy]


def spread(rows: list[Row], gan: str, figure: str) -> Spread | None:
    """A figure of one GAN over its seeds, or None where a seed lacks it."""
    values = [r.get(figure) for r in rows if r["gan"] == gan]
    known = [float(v) for v in values if v is not None]
    if not values or len(known) < len(values):
        return None
    return Spread(gan, mean(known), stdev(known) if len(known) > 1 else 0.0, len(known))


def ranking(rows: list[Row], data: str, figure: str) -> list[Spread]:
    """The GANs that have a figure, the best first; equals in the family's order."""
    found = [s for gan in GANS if (s := spread(of(rows, data), gan, figure)) is not None]
    return sorted(found, key=lambda s: -s.mean if FIGURES[figure].higher_is_better else s.mean)


def number(figure: str, value: float) -> str:
    """A figure as a person reads it."""
    f = FIGURES[figure]
    return f"{value * f.factor:,.{f.digits}f}{f.unit}"


def with_spread(figure: str, s: Spread) -> str:
    """mean ± deviation; the mean alone for one seed or a count that never differs."""
    f = FIGURES[figure]
    plus = (
        f" ± {s.deviation * f.factor:,.{f.digits}f}" if s.seeds > 1 and figure not in ("g_updates", "d_updates") else ""
    )
    return f"{s.mean * f.factor:,.{f.digits}f}{plus}{f.unit}"


def who_leads(rows: list[Row], data: str, figure: str) -> str:
    """A sentence: who is first, who last, and whether the seeds' spread is larger than the lead. "" without rows."""
    order = ranking(rows, data, figure)
    if len(order) < 2:
        return ""
    best, last = order[0], order[-1]
    shown = [number(figure, s.mean) for s in order]
    what = FIGURES[figure].title
    where = DATA_TITLES[data]
    if shown[0] == shown[-1]:
        return f"On {where}, all have the same {what}: {shown[0]}."
    first = [s for s, text in zip(order, shown, strict=True) if text == shown[0]]
    names = _listed([GANS[s.gan].title for s in first])
    lead = f"On {where}, {names} {'leads' if len(first) == 1 else 'lead'} in {what} with {shown[0]}"
    text = f"{lead}; last is {GANS[last.gan].title} with {shown[-1]}."
    if len(first) == 1:
        second = order[1]
        if best.seeds > 1 and abs(best.mean - second.mean) <= best.deviation + second.deviation:
            text += f" The lead over {GANS[second.gan].title} ({shown[1]}) is within the spread of the seeds."
    return text


def spectral_verdict(rows: list[Row], data: str) -> str:
    """Whether SN-GAN wins on a data set, figure by figure. "" without rows."""
    won, lost = [], []
    for figure, f in FIGURES.items():
        order = ranking(rows, data, figure) if f.higher_is_better is not None else []
        if len(order) < 2 or not any(s.gan in SPECTRAL for s in order):
            continue
        top = number(figure, order[0].mean)
        first = [s.gan for s in order if number(figure, s.mean) == top]
        if any(gan in SPECTRAL for gan in first):
            shared = [GANS[g].title for g in first if g not in SPECTRAL]
            won.append(f.title + (f" (level with {_listed(shared)})" if shared else ""))
        else:
            place = next(i for i, s in enumerate(order, start=1) if s.gan in SPECTRAL)
            lost.append(
                f"{f.title} (its better form is number {place} of {len(order)}; {GANS[first[0]].title} is first)"
            )
    if not won and not lost:
        return ""
    where = DATA_TITLES[data]
    if not lost:
        return f"On {where}, spectral norm is first in every figure: {_listed(won)}."
    if not won:
        return f"On {where}, spectral norm does not win: not in {'; not in '.join(lost)}."
    return f"On {where}, spectral norm is first in {_listed(won)}, and not in {'; not in '.join(lost)}."


def collapsed(rows: list[Row], data: str) -> list[str]:
    """The GANs of which some run ended with half of the modes or fewer."""
    own = of(rows, data)
    return [gan for gan in GANS if any(r["gan"] == gan and 2 * r["covered"] <= r["modes"] for r in own)]


def headline(rows: list[Row]) -> str:
    """Whether mode collapse was seen in the plane, and which GANs had all modes in every run."""
    found = []
    for data in POINTS:
        own = of(rows, data)
        fell = [f"{GANS[gan].title} ({_runs(own, gan, half=True)})" for gan in collapsed(rows, data)]
        whole = [
            GANS[gan].title
            for gan in GANS
            if (mine := [r for r in own if r["gan"] == gan]) and all(r["covered"] == r["modes"] for r in mine)
        ]
        if own:
            lost = (
                f"half of the modes or fewer were left to {_listed(fell)}" if fell else "no run lost half of the modes"
            )
            kept = f"; all modes in every run: {_listed(whole)}" if whole else "; no GAN had all modes in every run"
            found.append(f"On {DATA_TITLES[data]} {lost}{kept}.")
    return " ".join(found)


def _runs(own: list[Row], gan: str, *, half: bool = False) -> str:
    mine = [r for r in own if r["gan"] == gan]
    count = sum(2 * r["covered"] <= r["modes"] if half else r["covered"] < r["modes"] for r in mine)
    return f"{count} of {len(mine)} runs"


def one_seed(rows: list[Row]) -> str:
    """What was done with a single seed, so that nothing is known of its spread. "" where nothing was."""
    single = [DATA_TITLES[d] for d in DATA_TITLES if (own := of(rows, d)) and len({r["seed"] for r in own}) == 1]
    for data in DATA_TITLES:
        tried = {r["seed"] for r in rows if r["data"] == data and r.get("remedy")}
        if len(tried) == 1:
            single.append(f"the remedies on {DATA_TITLES[data]}")
    return f"With one seed each, so that a lead may be chance: {_listed(single)}." if single else ""


def by_seed(rows: list[Row], data: str) -> list[list[str]]:
    """A line a GAN: its modes covered in each seed, and how far the shares of the modes are from even ones."""
    own, lines = of(rows, data), list[list[str]]()
    for gan in GANS:
        mine = sorted((r for r in own if r["gan"] == gan), key=lambda r: r["seed"])
        if mine:
            kl, quality = spread(own, gan, "reverse_kl"), spread(own, gan, "high_quality")
            covered = ", ".join(str(r["covered"]) for r in mine)
            lines.append(
                [
                    GANS[gan].title,
                    f"{covered} of {mine[0]['modes']}",
                    with_spread("high_quality", quality) if quality else "—",
                    with_spread("reverse_kl", kl) if kl else "—",
                ]
            )
    return lines


def remedies(rows: list[Row], data: str) -> list[list[str]]:
    """A line a remedy, on the seeds that it was tried on: modes covered seed by seed, high quality, and the verdict.

    First the GAN without one, last the same GAN with spectral norm, where the family has it. [] where none was tried.
    """
    tried = {name: mine for name in REMEDIES if (mine := of(rows, data, name))}
    if not tried:
        return []
    seeds = set.intersection(*({r["seed"] for r in mine} for mine in tried.values()))
    base = next(iter(tried.values()))[0]["gan"]
    plain = [r for r in of(rows, data) if r["gan"] == base]
    spectral = [r for r in of(rows, data) if r["gan"] == f"sngan_{base}"]
    lines = []
    for title, mine, verdict in (
        (f"{GANS[base].title}, without a remedy", plain, ""),
        *((REMEDIES[name].title, mine, verdict_of(rows, data, name)) for name, mine in tried.items()),
        ("spectral normalisation of D", spectral, _verdict(plain, [r for r in spectral if r["seed"] in seeds])),
    ):
        there = sorted((r for r in mine if r["seed"] in seeds), key=lambda r: r["seed"])
        if there:
            covered = ", ".join(str(r["covered"]) for r in there)
            quality = number("high_quality", mean(float(r["high_quality"]) for r in there))
            lines.append([title, f"{covered} of {there[0]['modes']}", quality, verdict])
    return lines


def collapse(rows: list[Row], data: str) -> str:
    """How many runs of each GAN missed modes. "" without rows."""
    own = of(rows, data)
    if not own:
        return ""
    parts = []
    for gan in GANS:
        missing = [r["modes"] - r["covered"] for r in own if r["gan"] == gan]
        if any(missing):
            parts.append(f"{GANS[gan].title} ({_runs(own, gan)}, at worst {max(missing)} missing)")
    modes = own[0]["modes"]
    if not parts:
        return f"On {DATA_TITLES[data]}, no run ended with a mode missing."
    return f"On {DATA_TITLES[data]}, of {modes} modes some were missing at the end for {_listed(parts)}."


def verdict_of(rows: list[Row], data: str, remedy: str) -> str:
    """What a remedy did on the seeds that both have. "" without rows."""
    changed = of(rows, data, remedy)
    return _verdict([r for r in of(rows, data) if changed and r["gan"] == changed[0]["gan"]], changed)


def _verdict(plain: list[Row], changed: list[Row]) -> str:
    """A change counts if it is larger than the deviation of the plain GAN over all its seeds."""
    both = {r["seed"] for r in plain} & {r["seed"] for r in changed}
    if not both:
        return ""
    said = []
    for figure, what, words in (
        ("covered", "modes", ("more", "fewer")),
        ("high_quality", "quality", ("better", "worse")),
    ):
        without, with_it = (mean(float(r[figure]) for r in side if r["seed"] in both) for side in (plain, changed))
        deviation = stdev(float(r[figure]) for r in plain) if len(plain) > 1 else 0.0
        if abs(with_it - without) > deviation:
            said.append(f"{words[with_it < without]} {what}")
    return ", ".join(said) or "no change beyond the spread of the seeds"


def critic_sentence(gan: str, figures: dict[str, Any], title: str) -> str:
    """How near an estimate comes to the truth."""
    truth, estimate, t = figures["truth"], figures["estimate"], figures["distances"]
    if figures["pull_saturating"] is not None:
        worst = max(abs(a - b) for a, b in zip(truth, estimate, strict=True))
        pull, saturated = abs(figures["pull"][-1]), abs(figures["pull_saturating"][-1])
        return (
            f"{title} comes within {worst:.3f} of 2 JSD at every distance. At the largest, {t[-1]:g}, the standard "
            f"loss pulls G with {saturated:.3f}, the non-saturating one with {pull:.3f}."
        )
    ratios = [e / w for e, w in zip(estimate, truth, strict=True) if w > 0]
    return (
        f"{title} estimates {ratios[-1]:.2f} times the Wasserstein distance at the largest distance; over all of them "
        f"the factor is between {min(ratios):.2f} and {max(ratios):.2f}."
    )


def lipschitz_sentence(rows: list[Row], data: str) -> str:
    """How steep each D is at the end. "" without rows."""
    parts = []
    for gan in GANS:
        low, high = (spread(of(rows, data), gan, f) for f in ("lipschitz_lower", "lipschitz_upper"))
        if low is not None and high is not None:
            parts.append(f"{GANS[gan].title} {low.mean:.2f} (bound {high.mean:,.2f})")
    return f"Steepest slope found at the end, on {DATA_TITLES[data]}: {_listed(parts)}." if parts else ""


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def table(rows: list[Row], data: str) -> tuple[list[str], list[list[str]]]:
    """Head and lines of one data set's table: mean ± standard deviation over seeds, a line a GAN."""
    own = of(rows, data)
    columns = [f for f in FIGURES if any(r.get(f) is not None for r in own)]
    lines = []
    for gan in GANS:
        seeds = sum(r["gan"] == gan for r in own)
        if seeds:
            cells = [with_spread(f, s) if (s := spread(own, gan, f)) is not None else "—" for f in columns]
            lines.append([GANS[gan].title, str(seeds), *cells])
    return ["GAN", "seeds", *(FIGURES[f].title for f in columns)], lines


def markdown(rows: list[Row]) -> str:
    """All tables, as Markdown."""
    parts = []
    for data, title in DATA_TITLES.items():
        if of(rows, data):
            head, lines = table(rows, data)
            body = [head, ["---"] * len(head), *lines]
            text = "\n".join(f"| {' | '.join(cells)} |" for cells in body)
            parts.append(f"## {title[0].upper()}{title[1:]}\n\n{text}\n")
    return "\n".join(parts)
