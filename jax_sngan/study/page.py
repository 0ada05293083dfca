"""The study as one HTML page: no file beside it, no script, light and dark, on a phone too."""

import base64
from html import escape
from typing import Any

from jax_sngan.study import summary
from jax_sngan.study.plan import CRITICS, GANS, IMAGES, N_DIS, POINTS, REMEDIES, REMEDY_BASE, Size
from jax_sngan.study.training import CONFIDENCE, POINTS_SCORED

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2630;--soft:#5b6875;--paper:#fbfbf9;--card:#fff;--line:#d9dee3;--mark:#1f61a1}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa7b3;--paper:#14181c;--card:#1d2329;--line:#37404a;
--mark:#7db6ea}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.6 Georgia,"Times New Roman",serif}
main{max-width:52rem;margin:0 auto;padding:1.2rem}
h1{font-size:1.9rem;line-height:1.2;margin:1.2rem 0 .4rem}
h2{font-size:1.3rem;margin:2.6rem 0 .4rem;padding-top:.6rem;border-top:1px solid var(--line)}
p{margin:.7rem 0}small,.soft,figcaption{color:var(--soft);font-size:.86rem}
figure{margin:1.2rem 0}figure img{display:block;width:100%;height:auto;background:#fff;border-radius:6px;
border:1px solid var(--line)}
.formula{overflow-x:auto;padding:.5rem .9rem;border-left:3px solid var(--mark);background:var(--card);font-style:italic}
.found{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.5rem .9rem}
.found b{color:var(--mark);font-weight:600;font-size:.8rem;text-transform:uppercase;letter-spacing:.06em}
.wide{overflow-x:auto}table{border-collapse:collapse;font:14px/1.4 system-ui,sans-serif;margin:.6rem 0}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal;min-width:5rem}
th:first-child,td:first-child{text-align:left}
code{font-size:.85em;background:var(--card);padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}
nav a{color:var(--mark);margin-right:.9rem;white-space:nowrap}
"""


def page(told: dict[str, Any], size: Size, pictures: dict[str, bytes]) -> str:
    """The page.

    Args:
      told: what run.run returns; every figure and every sentence about one comes from it.
      size: how much was done.
      pictures: PNG and GIF by file name; those that are missing are left out with their captions.
    """
    sections = [
        ("collapse", "The game, and mode collapse", _collapse(told, pictures)),
        ("remedies", "Remedies", _remedies(told)),
        ("divergences", "The standard GAN: Jensen-Shannon and Kullback-Leibler", _divergences(told, pictures)),
        ("wasserstein", "The Wasserstein distance", _wasserstein(told, pictures)),
        ("lipschitz", "1-Lipschitz continuity", _lipschitz(told, pictures)),
        ("clipping", "Weight clipping", _bound(told, "wgan", _CLIPPING)),
        ("penalty", "Gradient penalty", _bound(told, "wgan_gp", _PENALTY)),
        ("spectral", "Spectral normalisation", _spectral(told)),
        ("images", "On images", _images(told, pictures)),
        ("table", "All figures", _tables(told, pictures)),
        ("how", "How it was measured", _how(told, size)),
    ]
    shown = [s for s in sections if s[2]]
    links = "".join(f'<a href="#{name}">{escape(title)}</a> ' for name, title, _ in shown)
    body = "\n".join(f'<section><h2 id="{name}">{escape(title)}</h2>\n{text}</section>' for name, title, text in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The GAN family, side by side</title><style>{_STYLE}</style></head>\n<body><main>\n"
        "<h1>From mode collapse to spectral normalisation</h1>\n"
        '<p class="soft">Six GANs with the same networks, data, seeds and numbers of updates. Every figure on this '
        "page, and every sentence that says who leads, comes from the runs that are described at its end.</p>\n"
        f"<nav>{links}</nav>\n{body}\n</main></body></html>\n"
    )


_LOSSES = "Losses over training (seed 0), smoothed. Those of different GANs can't be compared with each other."
_CLIPPING = (
    "<p>WGAN (Arjovsky et al. 2017) keeps the critic's slopes bounded by force: after each update every weight is cut "
    "to the range from −c to c. Then the network can't be arbitrarily steep; but <em>how</em> steep it can be depends "
    "on c and on the depth, and most weights end at one of the two ends.</p>"
)
_PENALTY = (
    "<p>WGAN-GP (Gulrajani et al. 2017) asks for the slope itself. An optimal critic has slope 1 on the lines between "
    "real and generated points, so D pays for each departure from it there:</p>"
    '<p class="formula">λ · mean of ( ‖∇D(x̂)‖ − 1 )², x̂ at a random place between a real and a generated point</p>'
    "<p>That is a wish and not a bound: elsewhere D may be steeper. It costs a second gradient each update.</p>"
)


def _collapse(told: dict[str, Any], pictures: dict[str, bytes]) -> str:
    rows = told["rows"]
    parts = [
        "<p>A generator G turns random numbers into points; a discriminator D learns to tell them from real ones; G "
        "learns to be taken for real. Nothing in G's loss asks for <em>variety</em>. A generator that makes one point "
        "well may be better off than one that makes many, D then learns to reject that one, G moves to the next: "
        "<strong>mode collapse</strong>.</p>"
        "<p>To see it, the data must be known. Eight Gaussians on a ring, 25 on a grid: each is a mode. A point is of "
        "high quality within three standard deviations of a mode, and a mode is covered if a point of high quality "
        "lies there. Grey: the modes; blue: generated points; the numbers: modes covered.</p>"
    ]
    for data in POINTS:
        title = summary.DATA_TITLES[data]
        parts.append(_figure(pictures, f"{data}.gif", f"Generators on {title}, from the first update to the last."))
        parts.append(_figure(pictures, f"{data}-modes.png", f"Modes covered on {title}; the bands span the seeds."))
        parts.append(_found(summary.collapse(rows, data), summary.who_leads(rows, data, "covered")))
        parts.append(_figure(pictures, f"{data}-density.png", f"Where the points lie in the end ({title}, seed 0)."))
    return "\n".join(parts)


def _remedies(told: dict[str, Any]) -> str:
    rows = told["rows"]
    parts = []
    for data in summary.DATA_TITLES:
        lines = [line for remedy in REMEDIES if (line := summary.remedy_sentence(rows, data, remedy))]
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            parts.append(f"<p>On {escape(summary.DATA_TITLES[data])}:</p><ul>{items}</ul>")
    if not parts:
        return ""
    intro = (
        "<p>Against collapse one reads: more varied data, dropout, batch normalisation, another learning rate, another "
        f"loss. Each was tried alone on the {escape(GANS[REMEDY_BASE].title)}, with and without, on the same seeds. "
        "(Of the data, “with” is training on a tenth of them: worse figures then speak for more data.) "
        "Spectral norm is one more: the tables at the end have that GAN with it.</p>"
    )
    return intro + "\n".join(parts)


def _divergences(told: dict[str, Any], pictures: dict[str, bytes]) -> str:
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
            "Left: D's loss against the exact Jensen-Shannon divergence (dashed: its limit). Middle: three critics "
            "against the exact Wasserstein distance. Right: how fast G's loss falls as its Gaussian approaches.",
        ),
    ]
    parts += [
        _found(summary.critic_sentence(name, f, CRITICS[name].title))
        for name, f in told["critics"].items()
        if CRITICS[name].of == "jsd"
    ]
    parts.append(_found(*(summary.who_leads(told["rows"], data, "js") for data in POINTS)))
    return "\n".join(parts)


def _wasserstein(told: dict[str, Any], pictures: dict[str, bytes]) -> str:
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


def _lipschitz(told: dict[str, Any], pictures: dict[str, bytes]) -> str:
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
    lines = [_standing(told, gan, data) for data in summary.DATA_TITLES]
    return text + _found(*lines)


def _spectral(told: dict[str, Any]) -> str:
    return "\n".join(
        [
            "<p>Spectral normalisation (Miyato et al. 2018) divides each matrix of weights by its largest singular "
            "value:</p>"
            '<p class="formula">W → W / σ(W), σ(W) = max ‖W h‖ / ‖h‖</p>'
            "<p>Every layer then has norm 1 and so has the product, everywhere and not only between the samples. σ is "
            "found by one step of the power iteration an update, which costs next to nothing. (A convolution as a "
            "linear map may have a larger norm than its kernel as a matrix: there the bound is not 1.)</p>",
            _found(*(_standing(told, "sngan_hinge", data) for data in summary.DATA_TITLES)),
            "<p>Does it win here? The figures decide:</p>",
            _found(*(summary.spectral_verdict(told["rows"], data) for data in summary.DATA_TITLES)),
        ]
    )


def _standing(told: dict[str, Any], gan: str, data: str) -> str:
    """A GAN's figures on a data set in one sentence. "" without rows."""
    own = summary.of(told["rows"], data)
    said = []
    for figure in ("covered", "high_quality", "lipschitz_lower", "lipschitz_upper"):
        s = summary.spread(own, gan, figure)
        if s is not None:
            said.append(f"{summary.FIGURES[figure].title} {summary.with_spread(figure, s)}")
    return f"{GANS[gan].title} on {summary.DATA_TITLES[data]}: {', '.join(said)}." if said else ""


def _images(told: dict[str, Any], pictures: dict[str, bytes]) -> str:
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


def _tables(told: dict[str, Any], pictures: dict[str, bytes]) -> str:
    parts = ["<p>Mean ± standard deviation over the seeds.</p>"]
    for data, title in summary.DATA_TITLES.items():
        if summary.of(told["rows"], data):
            head, lines = summary.table(told["rows"], data)
            cells = "".join(f"<th>{escape(h)}</th>" for h in head)
            body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in line)}</tr>" for line in lines)
            parts.append(
                f"<h3>{escape(title[0].upper() + title[1:])}</h3>"
                + _figure(pictures if data in POINTS else {}, f"{data}-losses.png", _LOSSES)
                + f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
            )
    return "\n".join(parts)


def _how(told: dict[str, Any], size: Size) -> str:
    points_updates, images_updates = N_DIS["points"], N_DIS["images"]
    return "\n".join(
        [
            f"<p><code>{escape(told['command'])}</code></p>",
            f"<p>{escape(told['machine'])}; the runs took {told['computed_seconds']:,.0f} seconds in all.</p>",
            "<p>“The same updates” means: the same number of G updates, and before each of them the same number of D "
            f"updates for every GAN, {points_updates} in the plane and {images_updates} on images (remedies may differ "
            "in it where they say so). Networks have the same layers and widths, with no normalisation in D but the "
            "spectral one; the optimiser is the same Adam, its rate falling to 0. So these are not the settings with "
            "which each paper got its best figures. Clipping bound and penalty weight in the plane are the best of "
            "three each, by one trial on seed 0.</p>",
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


def _figure(pictures: dict[str, bytes], name: str, caption: str) -> str:
    if name not in pictures:
        return ""
    kind = "gif" if name.endswith(".gif") else "png"
    code = base64.b64encode(pictures[name]).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{code}"><figcaption>{text}</figcaption></figure>'
