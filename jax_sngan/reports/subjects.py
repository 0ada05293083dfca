"""The numbers of a log by subject: which belong together on one plot, and what they say, in plain words."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

METRICS = {
    "fcd": ("Frechet distance of the package's classifier's features", "lower"),
    "fid": ("Frechet Inception distance", "lower"),
    "fd": ("Frechet distance of another network's features", "lower"),
    "fcd_inf": ("Frechet distance at infinitely many images, classifier's features", "lower"),
    "fid_inf": ("Frechet Inception distance at infinitely many images", "lower"),
    "fd_inf": ("Frechet distance at infinitely many images, another network's features", "lower"),
    "kcd": ("kernel distance, classifier's features", "lower"),
    "kid": ("kernel Inception distance", "lower"),
    "kd": ("kernel distance, another network's features", "lower"),
    "cs": ("Inception Score's formula on the classifier's probabilities", "higher"),
    "is": ("Inception Score", "higher"),
    "score": ("Inception Score's formula on another network's probabilities", "higher"),
    "precision": ("precision: share of generated images that look real", "higher"),
    "recall": ("recall: share of real images that could have been generated", "higher"),
    "density": ("density: how densely real images surround generated ones", "higher"),
    "coverage": ("coverage: share of real images with a generated one near", "higher"),
    "classes": ("classes with at least 2 % of the images", "higher"),
    "smallest_share": ("share of the rarest class", "higher"),
    "intra_fcd": ("mean of the classes' own Frechet distances, classifier's features", "lower"),
    "intra_fid": ("mean of the classes' own Frechet Inception distances", "lower"),
    "intra_fd": ("mean of the classes' own Frechet distances, another network's features", "lower"),
    "nearest": ("distance to the nearest real image over that between real images; near 0: copies", ""),
    "path_length": ("squared feature step along a path between latents", "lower"),
}
_PROTOCOL = re.compile(
    r"(?P<metric>[a-z]\w*?)_(?P<counts>\d+k?(?:_\d+k?)?)_(?P<real>[a-z][a-z_]*?)"
    r"(?P<standing>_standing\d+)?(?P<raw>_raw)?"
)


class Score(NamedTuple):
    """What the name of a score says."""

    name: str
    metric: str  # in words
    better: str  # lower, higher, or "" where neither is known to be
    protocol: str  # how it was measured, in words
    base: str  # its name without what tells the generator apart


def score(name: str) -> Score | None:
    """A number's name read as a score's (metrics.score_name); None where it is none."""
    found = _PROTOCOL.fullmatch(name)
    if found is None:
        return None
    metric = found["metric"]
    known = next((m for m in sorted(METRICS, key=len, reverse=True) if metric == m or metric.startswith(f"{m}_")), "")
    words, better = METRICS.get(known, (metric, ""))
    features = f" ({metric[len(known) + 1 :]})" if known and metric != known else ""
    *real_count, generated = found["counts"].split("_")
    of = f"{_count(real_count[0])} real images" if real_count else "all real images"
    sort = {"test": "the test split", "train": "the training split"}.get(found["real"], found["real"])
    said = f"{_count(generated)} generated images against {of} of {sort}"
    generator = "the generator's own weights" if found["raw"] else "averaged weights"
    if found["standing"]:
        generator += f", batch statistics taken anew on {_count(found['standing'].removeprefix('_standing'))} latents"
    base = f"{metric}_{found['counts']}_{found['real']}"
    return Score(name, words + features, better, f"{said}; {generator}", base)


def _count(text: str) -> str:
    n = int(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
    return f"{n:,}"


class Panel(NamedTuple):
    """One plot: its title, a pattern of the names of its numbers, and how they are drawn."""

    title: str
    pattern: str
    y_label: str = ""
    log: bool = False
    level: float | None = None


class Subject(NamedTuple):
    """Plots that are looked at together."""

    key: str
    title: str
    words: str
    panels: Sequence[Panel]


SUBJECTS = (
    Subject(
        "losses",
        "Losses",
        "What each network minimises. They play against each other, so neither has to fall: a loss of D that goes to "
        "its least and stays there says that D has won and that G may learn nothing more. Losses of different kinds "
        "(hinge, Wasserstein, …) can't be compared.",
        (
            Panel("Losses", r"[dg]_loss", "loss"),
            Panel("Penalty on D's gradient, a part of its loss", r"d_penalty", "penalty"),
        ),
    ),
    Subject(
        "judgement",
        "What the discriminator says",
        "Its raw scores: high means real. As long as the two means stay apart by less than their spread, D is unsure "
        "and G learns. An accuracy of 1 on both, or means that run away from each other, says that D has won; an "
        "accuracy near one half, that it can't tell them apart. Samples whose spread falls to 0 beside that of real "
        "images are a few images, many times: mode collapse.",
        (
            Panel("Mean score", r"d_(real|fake)", "score"),
            Panel("Spread of the scores", r"d_(real|fake)_std", "standard deviation"),
            Panel("Share that D tells right", r"d_accuracy_(real|fake)", "share", level=0.5),
            Panel("How varied the samples are, beside real images", r"g_spread", "share", level=1.0),
        ),
    ),
    Subject(
        "norms",
        "Gradients, updates and the average",
        "How large the gradients are that each network is given, and how far an update moves its weights. Logarithmic. "
        "A gradient of G that falls by powers of ten while D's losses are at their least is one that is gone; norms "
        "that rise by powers of ten come before a NaN. The average's distance says how far the averaged G, which is "
        "drawn and scored, is from the one that is trained.",
        (
            Panel("Gradient norm", r"[dg]_grad_norm", "norm", log=True),
            Panel("Norm of an update", r"[dg]_update_norm", "norm", log=True),
            Panel("Distance of the averaged G from the raw", r"g_average_distance", "distance", log=True),
            Panel("Gradient norm by layer", r"[dg]_grad_norm/.*", "norm", log=True),
            Panel("Norm of an update by layer", r"[dg]_update_norm/.*", "norm", log=True),
        ),
    ),
    Subject(
        "sigma",
        "Spectral norms by layer",
        "Sigma is the largest singular value of a layer's weights as the power iteration has it; spectral "
        "normalisation divides by it. True singular values, where they were logged, come beside: what lies between "
        "the two is how far one iteration lags behind the weights.",
        (
            Panel("Sigma as the power iteration has it", r"[dg]_sigma/.*", "sigma"),
            Panel("Singular values", r"[dg]_singular_value/.*", "singular value"),
        ),
    ),
    Subject(
        "rates",
        "Learning rates",
        "What the optimisers stepped with; a constant rate is a level line.",
        (Panel("Learning rate", r"[dg]_learning_rate", "rate"),),
    ),
    Subject(
        "speed",
        "Speed and memory",
        "Real images that D saw a second while steps were done (pictures, scores and checkpoints are not counted), "
        "the most memory so far, and how long images were fetched since the last line of the log: where that is much "
        "of the time, a faster device helps nothing.",
        (
            Panel("Images a second", r"images_per_second", "images / s"),
            Panel("Memory", r"memory_mb", "MB"),
            Panel("Time that data were waited for", r"data_wait_s", "s"),
        ),
    ),
)
SCORES = Subject(
    "scores",
    "Scores of the images",
    "The averaged generator beside its own weights. A name is a protocol (docs/quality.md): scores compare where "
    "their names and their real images are the same.",
    (),
)
OTHERS = Subject("others", "Other numbers", "What else the log has.", ())


def arranged(names: Iterable[str]) -> list[tuple[Subject, list[tuple[Panel, list[str]]]]]:
    """Every name once: by subject, and by plot within it; what is of no subject has a plot of its own."""
    left = list(names)
    found: list[tuple[Subject, list[tuple[Panel, list[str]]]]] = []
    for subject in SUBJECTS:
        panels = []
        for panel in subject.panels:
            mine = [name for name in left if re.fullmatch(panel.pattern, name)]
            left = [name for name in left if name not in mine]
            if mine:
                panels.append((panel, mine))
        if panels:
            found.append((subject, panels))
    scores: dict[str, list[str]] = {}
    for name in left:
        if (told := score(name)) is not None:
            scores.setdefault(told.base, []).append(name)
    if scores:
        panels = []
        for base, mine in scores.items():
            told = score(mine[0])
            assert told is not None
            better = f" ({told.better} is better)" if told.better else ""
            panels.append((Panel(f"{base}: {told.metric}{better}", "", ""), mine))
        found.insert(0, (SCORES, panels))
    others: dict[str, list[str]] = {}
    for name in left:
        if score(name) is None:
            others.setdefault(name.partition("/")[0], []).append(name)
    if others:
        found.append((OTHERS, [(Panel(base, "", ""), mine) for base, mine in others.items()]))
    return found
