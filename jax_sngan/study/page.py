"""The study as one page (reports/pages.py)."""

from html import escape
from typing import Any

from jax_sngan.reports import pages
from jax_sngan.reports.plots import Plot
from jax_sngan.study import summary
from jax_sngan.study.plan import CRITICS, GANS, IMAGE_N_DIS, IMAGES, POINTS, Size
from jax_sngan.study.training import CONFIDENCE, POINTS_SCORED

Pictures = dict[str, bytes | list[Plot]]  # by the name of their file: a PNG or GIF, or curves to draw
_STYLE = """
.formula { overflow-x: auto; padding: .5rem .9rem; border-left: 3px solid var(--c0); background: var(--band);
  font-style: italic; max-width: 46rem; }
.found { background: var(--band); border-radius: 6px; padding: .5rem .9rem; max-width: 46rem; }
.found b { color: var(--c0); font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; }
"""


def page(told: dict[str, Any], size: Size, pictures: Pictures) -> str:
    """The page.

    Args:
      told: what run.run returns; every figure and every sentence about one comes from it.
      size: how much was done.
      pictures: PNG and GIF by file name; those that are missing are left out with their captions.
    """
    sections = [
        ("collapse", "The game, and mode collapse", _collapse(told, pictures)),
        ("remedies", "Remedies", _remedies(told, pictures)),
        ("divergences", "The standard GAN: Jensen-Shannon and Kullback-Leibler", _divergences(told, pictures)),
        ("wasserstein", "The Wasserstein distance", _wasserstein(told, pictures)),
        ("lipschitz", "1-Lipschitz continuity", _lipschitz(told, pictures)),
        ("clipping", "Weight clipping", _bound(told, "wgan", _CLIPPING + (_MOMENTUM if size.point_beta1 else ""))),
        ("penalty", "Gradient penalty", _bound(told, "wgan_gp", _PENALTY)),
        ("spectral", "Spectral normalisation", _spectral(told)),
        ("images", "On images", _images(told, pictures)),
        ("table", "All figures", _tables(told, pictures)),
        ("how", "How it was measured", _how(told, size)),
    ]
    rows = told["rows"]
    title = "The GAN family, side by side"
    if any(summary.collapsed(rows, data) for data in POINTS):
        title = "From mode collapse to spectral normalisation"
    head = (
        f"<h1>{title}</h1>\n"
        '<p class="soft">Six GANs with the same networks, data, seeds and numbers of updates. Every figure on this '
        "page, and every sentence that says who leads, comes from the runs that are described at its end.</p>"
        + _found(summary.headline(rows), summary.one_seed(rows))
    )
    return pages.page("The GAN family, side by side", head, sections, _STYLE)


_LOSSES = "Losses over training (seed 0), smoothed. Those of different GANs can't be compared with each other."
_CLIPPING = (
    "<p>WGAN (Arjovsky et al. 2017) keeps the critic's slopes bounded by force: after each update every weight is cut "
    "to the range from −c to c. Then the network can't be arbitrarily steep; but <em>how</em> steep it can be depends "
    "on c and on the depth, and most weights end at one of the two ends.</p>"
)
_MOMENTUM = (
    "<p>The paper itself warns of two things that this study's settings have: with momentum in the critic's optimiser, "
    "or at a high rate, its training becomes unstable at times.</p>"
)
_PENALTY = (
    "<p>WGAN-GP (Gulrajani et al. 2017) asks for the slope itself. An optimal critic has slope 1 on the lines between "
    "real and generated points, so D pays for each departure from it there:</p>"
    '<p class="formula">λ · mean of ( ‖∇D(x̂)‖ − 1 )², x̂ at a random place between a real and a generated point</p>'
    "<p>That is a wish and not a bound: elsewhere D may be steeper. It costs a second gradient each update.</p>"
)


def _collapse(told: dict[str, Any], pictures: Pictures) -> str:
    rows = told["rows"]
    known = " and ".join(summary.DATA_TITLES[data] for data in POINTS if summary.of(rows, data))
    parts = [
        "<p>A generator G turns random numbers into points; a discriminator D learns to tell them from real ones; G "
        "learns to be taken for real. Nothing in G's loss asks for <em>variety</em>. A generator that makes one point "
        "well may be better off than one that makes many, D then learns to reject that one, G moves to the next: "
        "<strong>mode collapse</strong>.</p>"
        f"<p>To see it, the data must be known: {known}. Each Gaussian is a mode. A point is of high quality within "
        "three standard deviations of a mode, and a mode is covered if a point of high quality lies there. Few modes "
        "with many good points are a collapse; few good points anywhere are a training that failed in another way. The "
        "KL divergence says how unevenly the good points are shared among the modes; 0: evenly. Grey: the modes; blue: "
        "generated points; beside the names: modes covered; in the corner: updates of G.</p>"
    ]
    for data in POINTS:
        title, lines = summary.DATA_TITLES[data], summary.by_seed(rows, data)
        if not lines:
            continue
        head = ("GAN", "modes covered, seed by seed", "high quality", "KL to even shares")
        parts += [
            _figure(pictures, f"{data}.gif", f"Generators on {title}, from the first update to the last (seed 0)."),
            pages.table(head, lines),
            _figure(
                pictures, f"{data}-modes.png", f"The same over training, on {title}; bands span the seeds, dotted: all."
            ),
            _figure(pictures, f"{data}-density.png", f"Where the points lie in the end ({title}, seed 0)."),
        ]
    return "\n".join(parts)


def _remedies(told: dict[str, Any], pictures: Pictures) -> str:
    parts = []
    for data, title in summary.DATA_TITLES.items():
        if lines := summary.remedies(told["rows"], data):
            head = ("remedy", "modes covered, seed by seed", "high quality", "what it did")
            caption = f"Where the points lie in the end, with each remedy ({title}, seed 0)."
            parts.append(f"<h3>On {escape(title)}</h3>" + pages.table(head, lines, last=True))
            parts.append(_figure(pictures, f"{data}-remedies.png", caption))
    if not parts:
        return ""
    less = ""
    if any(row.get("remedy") == "tenth_of_data" for row in told["rows"]):
        less = "(“A tenth of the data” is the other way round: what it loses speaks for more data.) "
    intro = (
        "<p>Against collapse one reads: more varied data, dropout, batch normalisation, another learning rate, fewer "
        f"updates of D, another loss, spectral normalisation. Each was tried alone on the GAN of the first line. {less}"
        "A change counts if it is larger than the deviation of the plain GAN's seeds; more modes at a worse quality "
        "are a blur that touches all of them.</p>"
    )
    return intro + "\n".join(parts)


def _divergences(told: dict[str, Any], pictures: Pictures) -> str:
    parts = [
        "<p>If D is optimal, D(x) = p(x) / (p(x) + q(x)) for data p and generator q, and the standard game (Goodfellow "
        "et al. 2014) makes G minimise</p>"
        '<p class="formula">2 · JSD(p, q) − log 4, where JSD = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q)</p>'
        "<p>The Kullback-Leibler divergence KL(p ‖ q), the mean of log p(x)/q(x) over p, is infinite where q misses "
        "what p has; the Jensen-Shannon divergence never exceeds log 2 = 0.69. Two distributions that do not overlap "
        "are all equally far apart in it: it is flat, and G learns nothing of where to go. The loss that does not "
        "saturate, −log D, keeps a gradient, but no longer minimises a divergence of this kind.</p>"
        "<p>Here D was trained to its optimum on two Gaussians of variance 1 that move apart. Whatever the loss says "
        "can be held against the exact value.</p>",
        _figure(
            pictures,
            "critics.png",
            "Jensen-Shannon: D's loss against the exact divergence (dotted across: its limit, 2 log 2). Wasserstein: "
            "three critics against the exact distance. Pull: how fast G's loss falls as its Gaussian approaches.",
        ),
    ]
    parts += [
        _found(summary.critic_sentence(name, f, CRITICS[name].title))
        for name, f in told["critics"].items()
        if CRITICS[name].of == "jsd"
    ]
    parts.append(_found(*(summary.who_leads(told["rows"], data, "js") for data in POINTS)))
    return "\n".join(parts)


def _wasserstein(told: dict[str, Any], pictures: Pictures) -> str:
    lines = [
        summary.critic_sentence(name, f, CRITICS[name].title)
        for name, f in told["critics"].items()
        if CRITICS[name].of == "wasserstein"
    ]
    return "\n".join(
        [
            "<p>The Wasserstein distance asks how far mass has to be carried to make one distribution of the other. It "
            "knows which points are near: two Gaussians a distance t apart are t apart, overlap or not, and its "
            "gradient does not die out. By the duality of Kantorovich and Rubinstein</p>"
            '<p class="formula">W(p, q) = max over f with slope at most 1 of (mean of f over p − mean of f over q)</p>'
            "<p>so a discriminator without a sigmoid, a <em>critic</em>, estimates it, if its slopes stay below 1. "
            "With slopes up to K it estimates K times as much, or less where the network can't reach the optimum.</p>",
            _found(*lines),
            _found(*(summary.who_leads(told["rows"], data, "wasserstein") for data in POINTS)),
        ]
    )


def _lipschitz(told: dict[str, Any], pictures: Pictures) -> str:
    parts = [
        "<p>A function is 1-Lipschitz if it never changes faster than its input: |f(x) − f(y)| ≤ ‖x − y‖. For a "
        "network a bound from above is the product of its layers' norms, as the activations' slopes are at most 1; the "
        "largest gradient found, by a search uphill, is one from below. The truth lies between.</p>"
    ]
    for data in POINTS:
        title = summary.DATA_TITLES[data]
        parts.append(_figure(pictures, f"{data}-lipschitz.png", f"D's slope over training on {title}; dotted: 1."))
        parts.append(_found(summary.lipschitz_sentence(told["rows"], data)))
        parts.append(
            _figure(
                pictures,
                f"{data}-field.png",
                f"D's score as colour (blue high), and where its gradient points, which moves G's points, on {title}. "
                "Circles: modes; cyan: generated points. Arrows have one length; the median slope stands below.",
            )
        )
    return "\n".join(parts)


def _bound(told: dict[str, Any], gan: str, text: str) -> str:
    return text + _standing(told, gan)


def _spectral(told: dict[str, Any]) -> str:
    return "\n".join(
        [
            "<p>Spectral normalisation (Miyato et al. 2018) divides each matrix of weights by its largest singular "
            "value:</p>"
            '<p class="formula">W → W / σ(W), σ(W) = max ‖W h‖ / ‖h‖</p>'
            "<p>Every layer then has norm 1 and so has the product, everywhere and not only between the samples. σ is "
            "found by one step of the power iteration an update, which costs next to nothing. (A convolution as a "
            "linear map may have a larger norm than its kernel as a matrix: there the bound is not 1.)</p>",
            _standing(told, "sngan_hinge"),
            "<p>Does it win here? The figures decide:</p>",
            _found(*(summary.spectral_verdict(told["rows"], data) for data in summary.DATA_TITLES)),
        ]
    )


def _standing(told: dict[str, Any], gan: str) -> str:
    """What became of a GAN, a line a data set. "" without rows."""
    figures = ("covered", "high_quality", "lipschitz_lower", "lipschitz_upper")
    lines = []
    for data, title in summary.DATA_TITLES.items():
        found = {f: summary.spread(summary.of(told["rows"], data), gan, f) for f in figures}
        if any(found.values()):
            lines.append([title, *("—" if s is None else summary.with_spread(f, s) for f, s in found.items())])
    head = [f"{GANS[gan].title} on", *(summary.FIGURES[f].title for f in figures)]
    return pages.table(head, lines) if lines else ""


def _images(told: dict[str, Any], pictures: Pictures) -> str:
    parts = []
    for data in IMAGES:
        if not summary.of(told["rows"], data):
            continue
        title = summary.DATA_TITLES[data]
        parts.append(_figure(pictures, f"{data}-samples.png", f"Samples of {title} (seed 0)."))
        parts.append(_figure(pictures, f"{data}-losses.png", f"Losses on {title} (seed 0), smoothed."))
        parts.append(_found(*(summary.who_leads(told["rows"], data, f) for f in ("covered", "high_quality", "fcd"))))
    if not parts:
        return ""
    intro = (
        "<p>On images the modes are classes, told apart by a small classifier that the package trains itself. An image "
        f"is of high quality if its class has a probability of {CONFIDENCE:g} or more. On stacked garments the three "
        "colours are three garments: a thousand modes.</p>"
    )
    return intro + "\n".join(parts)


def _tables(told: dict[str, Any], pictures: Pictures) -> str:
    parts = ["<p>Mean ± standard deviation over the seeds.</p>"]
    for data, title in summary.DATA_TITLES.items():
        if summary.of(told["rows"], data):
            head, lines = summary.table(told["rows"], data)
            parts.append(
                f"<h3>{escape(title[0].upper() + title[1:])}</h3>"
                + _figure(pictures if data in POINTS else {}, f"{data}-losses.png", _LOSSES)
                + pages.table(head, lines)
            )
    return "\n".join(parts)


def _how(told: dict[str, Any], size: Size) -> str:
    return "\n".join(
        [
            f"<p><code>{escape(told['command'])}</code></p>",
            f"<p>{escape(told['machine'])}; the runs took {told['computed_seconds']:,.0f} seconds in all.</p>",
            "<p>“The same updates” means: the same number of G updates, and before each of them the same number of D "
            f"updates for every GAN, {size.point_n_dis} in the plane and {IMAGE_N_DIS} on images (remedies may differ "
            "in it where they say so). Networks have the same layers and widths, with no normalisation in D but the "
            "spectral one; the optimiser is the same Adam, its rate falling to 0 (in the plane from "
            f"{size.point_rate:g}, β1 = {size.point_beta1:g}). So these are not the settings with which each paper got "
            "its best figures: a high rate, momentum and a D that is trained more than G are what collapse comes from, "
            "and what Miyato et al. (2018, section 4.1) tell GANs apart by. Clipping bound and penalty weight in the "
            "plane are the best of three each, by one trial on seed 0 at a rate of 0.001 without momentum.</p>",
            f"<p>In the plane {POINTS_SCORED:,} points of the raw generator are scored (width {size.point_width}, "
            f"batch {size.point_batch}); on images the averaged generator's. Kullback-Leibler is of the histogram of "
            "modes; Jensen-Shannon of histograms of 50 × 50 cells; Wasserstein is exact, of "
            "1,000 points against 1,000, in units of the data's standard deviation. Two sets of 1,000 real points are "
            "not at distance 0 either.</p>",
        ]
    )


def _found(*sentences: str) -> str:
    said = " ".join(s for s in sentences if s)
    return f'<p class="found"><b>Measured</b> {escape(said)}</p>' if said else ""


def _figure(pictures: Pictures, name: str, caption: str) -> str:
    if name not in pictures:
        return ""
    picture = pictures[name]
    if isinstance(picture, bytes):
        return pages.picture(picture, caption)
    return pages.drawn(picture) + f'<p class="soft">{pages.text(caption)}</p>'
