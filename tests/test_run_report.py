"""`sngan report`: a page that says what is in runs' folders, escapes what it found there, and refuses in one line."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import browser, chromium
from logged_runs import LAYERS, SCORE, write_logged_run
from PIL import Image

from conftest import ROOT, TINY, Outcome
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import replace
from jax_sngan.reports import curves, pages, plots, report, subjects
from jax_sngan.runs import pictures

LONGER = replace(TINY, {"steps": 200})


class Whole(HTMLParser):
    """Fails where an end tag does not close the last one that is open; keeps what was loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(html: str) -> Whole:
    """A page that is whole and asks for nothing."""
    page = Whole()
    page.feed(html)
    assert page.open == []
    assert not [link for link in page.links if not link.startswith(("data:image/", "#"))]
    assert not page.tags & {"script", "iframe", "object", "link", "form"}
    return page


def words(html: str) -> str:
    """What a person reads of it."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.replace("&#x27;", "'")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the preset fashion with two changes, all names in its log, a certificate and an evaluation."""
    config = replace(preset("fashion"), {"steps": 400, "seed": 3, "generator_optimizer.learning_rate": 3e-4})
    workdir = write_logged_run(tmp_path_factory.mktemp("runs") / "a<b>&c", config)
    layer = {"name": "score", "sigma": 2.0, "reshaped_sigma": 2.1, "operator_norm": 2.2, "operator_bound": 2.3}
    certificate = {"step": 400, "lower": 0.4321, "upper": 1.25, "layers": [layer]}
    (workdir / "certificate.json").write_text(json.dumps(certificate))
    scores = {"step": 400, "num": 5000, "metrics": {SCORE: 12.5}, "intervals": {SCORE: [12.0, 13.0]}, "seeds": [0, 1]}
    (workdir / "evaluation.json").write_text(json.dumps(scores))
    return workdir


def test_one_run_is_told_whole(script: Callable[..., Outcome], run: Path, tmp_path: Path) -> None:
    outcome = script("report.py", run, "--out", "page.html", "--json", "page.json")
    assert outcome.code == 0, outcome
    html = (tmp_path / "page.html").read_text()
    page = checked(html)
    assert "b" not in page.tags - {"b"}
    text = words(html)
    for said in (
        "a&lt;b&gt;&amp;c",  # the folder's name is text
        "400 of 400", "generator_optimizer.learning_rate", "0.0003", "10,000 images, 28 x 28 x 1, 10 classes",
        "spectral normalisation (one power iteration a pass)", "hinge loss", "beta1", "Seed 3; computed by JAX",
        "5,000 generated images against all real images of the test split; averaged weights", "lower is better",
        "0.4321", "1.25", "12.5", "12 to 13", "95 % over 2 seeds", "1 x cpu (cpu)", "jaxlib", "commit",
        "--resume=must", "my_number", "What trained",
    ):  # fmt: skip
        assert said in text, said
    for subject in (*subjects.SUBJECTS, subjects.SCORES, subjects.OTHERS):
        assert subject.words.split(".")[0] in words(html).replace("&#x27;", "'"), subject.title
    assert all(f">{layer}<" in html for layer in LAYERS)  # legends of the plots by layer
    assert html.count("data:image/gif") == 1
    assert html.count("data:image/png") == 8
    told = json.loads((tmp_path / "page.json").read_text())["kinds"][0]
    assert told["curves"]["d_sigma/score"]["values"][0][-1] == pytest.approx(4.0)
    facts = told["runs"][0]
    assert facts["changed"]["steps"] == [preset("fashion").steps, 400]
    config = preset("fashion")
    assert facts["seconds"] == pytest.approx(400 * config.n_dis * config.batch_size / 900, rel=0.01)
    assert facts["parameters"][0] > 1000


def test_several_runs_are_compared(tmp_path: Path) -> None:
    seeds = [write_logged_run(tmp_path / f"s{s}", replace(LONGER, {"seed": s})) for s in (0, 1)]
    torch = write_logged_run(tmp_path / "torch", LONGER, framework="torch")
    loss = write_logged_run(tmp_path / "loss", replace(LONGER, {"loss": "non_saturating"}))
    told = report.read([*seeds, torch, loss])
    assert [len(runs) for _, runs in told] == [2, 1, 1]
    html = report.page(told, "sngan report …")
    checked(html)
    text = words(html)
    assert "tiny, loss hinge (2 seeds)" in text
    assert "tiny, torch" in text
    assert re.search(r"run, last value fcd_5k_test .* tiny, torch 10\.\d+ 11\.\d+ 9 ", text)
    assert "In which options they differ: option" in text
    assert "PyTorch (the package's reference)" in text
    assert html.count("<polygon") == 0
    assert html.count('fill-opacity=".16"') >= 10, "a band over the seeds in every plot that has two"
    assert sum(f"To go on with {w}" in text or f"What trained {w}" in text for w in (*seeds, torch, loss)) == 4


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    workdir = write_logged_run(tmp_path / "new", LONGER)
    (workdir / "metrics.jsonl").write_text("")
    for path in (workdir / "samples").iterdir():
        path.unlink()
    text = words(report.page(report.read([workdir]), "c"))
    assert "0 of 200" in text
    assert "To go on with" in text
    assert "--evaluate-every" in text


def test_a_gan_of_the_users_own_is_called_so(tmp_path: Path) -> None:
    workdir = write_logged_run(tmp_path / "own", LONGER)
    (workdir / "checkpoints/200/gan").mkdir()
    (workdir / "checkpoints/200/gan/metadata").write_text('{"name": "mine:make"}')
    ((_, (facts,)),) = told = report.read([workdir])
    assert (facts["gan"], facts["parameters"]) == ("mine:make", None)
    text = words(report.page(told, "c"))
    assert "The GAN is the user's own, mine:make" in text
    assert "hinge loss" not in text
    assert "Not measured. A certificate" not in text, "it can't be had for networks that are not the package's"


def test_numbers_of_the_user_are_text(tmp_path: Path) -> None:
    workdir = write_logged_run(tmp_path / "x", replace(LONGER, {"name": "<script>alert(1)</script>"}))
    log = workdir / "metrics.jsonl"
    lines = [json.loads(line) | {"<img src=x>/<i>": 1.0} for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = checked(report.page(report.read([workdir]), "<u>"))
    assert not page.tags & {"i", "u"}
    assert "alert(1)" not in page.links


def test_refusals(script: Callable[..., Outcome], run: Path, tmp_path: Path) -> None:
    assert script("report.py").is_one_line("report.py", "RUN")
    assert script("report.py", "none").is_one_line("none is no run's folder")
    assert script("report.py", run, run).is_one_line("is given twice")
    assert script("report.py", run, "--out", "page.txt").is_one_line("--out", ".html")
    workdir = write_logged_run(tmp_path / "x", LONGER)
    (workdir / "certificate.json").write_text('{"step": 1}')
    assert script("report.py", workdir).is_one_line("certificate.json is no certificate", "upper")
    (workdir / "certificate.json").unlink()
    (workdir / "checkpoints/200/provenance/metadata").write_text("{}")
    assert script("report.py", workdir).is_one_line("checkpoint", "its provenance is none that this program wrote")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "metric", "protocol"),
    [
        ("fcd_5k_test", "classifier's features", "5,000 generated images against all real images of the test split"),
        ("fid_10k_5k_train_raw", "Inception", "5,000 generated images against 10,000 real images of the training"),
        ("fcd_inf_300_fashion_standing1024", "infinitely many", "taken anew on 1,024 latents"),
        ("precision_inception_5k_test", "(inception)", "5,000 generated images"),
    ],
)
def test_a_scores_name_in_words(name: str, metric: str, protocol: str) -> None:
    told = subjects.score(name)
    assert told is not None
    assert metric in told.metric
    assert protocol in told.protocol
    assert subjects.score("d_sigma/hidden.0") is None


def test_every_number_is_drawn_once() -> None:
    training = ["d_loss", "g_loss", "d_penalty", "d_sigma/a", "d_sigma/b"]
    names = [*training, "fcd_1k_test", "fcd_1k_test_raw", "odd", "odd/x"]
    found = subjects.arranged(names)
    assert sorted(n for _, panels in found for _, mine in panels for n in mine) == sorted(names)
    assert [s.key for s, _ in found] == ["scores", "losses", "sigma", "others"]


def test_every_plot_is_of_a_documented_name() -> None:
    documented = re.findall(r"`([\w/]+)`", (ROOT / "docs/watching.md").read_text())
    names = [*documented, *(name.replace("d_", "g_", 1) for name in documented)]
    panels = [panel for subject in subjects.SUBJECTS for panel in subject.panels]
    assert [p.pattern for p in panels if not any(re.fullmatch(p.pattern, name) for name in names)] == []


def test_a_plot_leaves_out_what_cannot_be_drawn() -> None:
    line = plots.Line("a & b", [1, 2, 3, 4], [1e-3, 0.0, float("nan"), 1e-9])
    svg = plots.svg(plots.Plot("t < 1", [line, line], log=True))
    assert "t &lt; 1" in svg
    assert "a &amp; b" in svg
    path = re.findall(r'<path d="([^"]*)" stroke="var\(--c0\)" stroke-width="1.8"', svg)[0]
    assert path.count("M") == 2
    assert "L" not in path
    assert "no value above 0" in plots.svg(plots.Plot("t", [plots.Line("a", [1], [0.0])], log=True))
    assert len(plots.png([plots.Plot("t", [line], log=True)], 1)) > 1000


def test_long_curves_are_drawn_by_their_means() -> None:
    curve = curves.Curve("a", ["x", "y"], np.arange(1, 1001), np.stack([np.arange(1000.0), np.arange(1000.0) + 2]))
    line = curve.line("a", most=100)
    assert (len(line.x), line.x[0], line.y[0]) == (100, 5.5, 5.5)
    assert line.band is not None
    assert (line.band[0][0], line.band[1][0]) == (4.5, 6.5)


def test_the_animation_is_small_and_ends_with_the_last(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for step in range(10, 460, 10):  # more than are shown
        pictures.save_grid(tmp_path / f"{step:06d}.png", rng.integers(0, 255, (64, 32, 32, 3), dtype=np.uint8))
    path = pictures.save_training(tmp_path, 450)
    assert path is not None
    assert path.stat().st_size < 3_000_000  # of noise, the worst there is
    with Image.open(path) as image:
        assert image.n_frames == pictures.FRAMES
        assert image.size[0] <= pictures.WIDEST
        image.seek(pictures.FRAMES - 1)
        assert image.info["duration"] == pictures.PAUSE
    assert pictures.save_training(tmp_path, 15) is None


@pytest.mark.long
def test_the_page_fits_a_phone_and_a_screen(run: Path, tmp_path: Path) -> None:
    program = chromium()
    if program is None:
        pytest.skip("needs chromium")
    file = tmp_path / "page.html"
    file.write_text(report.page(report.read([run]), "c"))
    with browser(program, tmp_path / "profile") as page:
        for width, height in ((1280, 800), (390, 844)):
            page.size(width, height, touch=width < 600)
            page.open(file.as_uri())
            page.until("document.readyState === 'complete' && document.images.length")
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run("[...document.images].every(i => i.naturalWidth > 0)")
        assert {a.partition(":")[0] for a in page.asked_for()} <= {"file", "data", "about"}


def test_text_is_escaped_unless_it_is_ours() -> None:
    assert pages.text("<a>") == "&lt;a&gt;"
    assert pages.table(("<h>",), [("<c>",)]).count("&lt;") == 2
    assert pages.facts([("<n>", None)]) == ""
