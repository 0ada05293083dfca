"""The study runs from its command, resumes, tells on one page what its rows say, and refuses in one line."""

import dataclasses
import json
import re

import numpy as np
import pytest

from jax_sngan.data import datasets as data_sets
from jax_sngan.metrics import classifier
from jax_sngan.study import critics, figures, folder, page, plan, run, summary, training

TINY = dataclasses.replace(
    plan.QUICK,
    name="tiny",
    seeds=1,
    data=("ring",),
    point_steps=3,
    point_width=4,
    point_batch=8,
    remedy_base="non_saturating",
    remedies={"ring": ("tenth_of_data",)},
    critic_steps=2,
    critic_width=4,
    distances=(0.0, 2.0),
)
SOME = ("non_saturating", "wgan_gp", "sngan_hinge")


def silent(line):
    del line


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A tiny study's folder and what it told."""
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # Half of the family: each member is a program to compile.
        patch.setattr(plan, "CRITICS", {k: plan.CRITICS[k] for k in ("standard", "wgan_gp")})
        patch.setattr(plan, "GANS", {k: plan.GANS[k] for k in SOME})
        told = run.run(out, TINY, command="python a < b", json_path=str(out.parent / "told.json"), say=silent)
    return out, told


def test_the_contract(study):
    out, told = study
    written = json.loads((out.parent / "told.json").read_text())  # strict JSON: no NaN, no infinity
    assert written == json.loads((out / "study_rows.json").read_text())
    assert [(r["gan"], r["data"], r["seed"], r["remedy"]) for r in written["rows"]] == [
        *((gan, "ring", 0, None) for gan in SOME),
        (TINY.remedy_base, "ring", 0, "tenth_of_data"),
    ]
    for row in written["rows"]:
        assert row["modes"] == 8
        assert 0 <= row["covered"] <= 8
        assert 0 < row["lipschitz_lower"] <= row["lipschitz_upper"]
        assert (row["g_updates"], row["d_updates"]) == (3, 3 * TINY.point_n_dis)
        assert 0 <= row["js"] <= np.log(2)
    assert "| WGAN-GP | 1 |" in (out / "table.md").read_text()


def test_the_page_stands_alone(study):
    out, _ = study
    text = (out / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:image/(?:png|gif);base64,|#)', text)
    assert "<script" not in text
    assert "url(" not in text
    assert text.count("data:image/gif") == 1
    assert "python a &lt; b" in text
    # Each figure of the folder is on the page, as it is or drawn anew, and the sections are in the article's order.
    files = {path.stem for path in (out / "figures").iterdir()}
    assert files == {
        "critics",
        "ring",
        "ring-density",
        "ring-field",
        "ring-lipschitz",
        "ring-losses",
        "ring-modes",
        "ring-remedies",
    }
    assert text.count("<img") == 4
    assert text.count('role="img"') == 3 + 1 + 2 + len(SOME)
    order = [text.index(f'<h2 id="{name}"') for name in ("collapse", "remedies", "divergences", "wasserstein",
             "lipschitz", "clipping", "penalty", "spectral")]  # fmt: skip
    assert order == sorted(order)


def test_finished_runs_are_kept_and_missing_ones_made_again(study):
    out, told = study
    wanted = plan.runs(TINY)
    made = []

    def stub(run):
        made.append(run.name)
        return {"covered": 1, "modes": 8, "high_quality": 0.5}, {"x": np.zeros(1)}

    points = [r for r in wanted if r.kind == "points" and r.gan in SOME]
    times = {p: p.stat().st_mtime_ns for p in (out / "runs").iterdir()}
    folder.perform(out, points, {"points": stub}, silent)
    assert made == []
    assert times == {p: p.stat().st_mtime_ns for p in (out / "runs").iterdir()}
    # Another config is another run, whatever its name; half a run is none.
    assert folder.finished(out, dataclasses.replace(points[0], spec={**points[0].spec, "steps": 4})) is None
    before = {p: p.read_bytes() for p in (out / "runs").iterdir()}
    (out / "runs" / f"{points[0].name}.json").write_text("{")
    arrays = out / "runs" / f"{points[1].name}.npz"
    arrays.write_bytes(before[arrays][: len(before[arrays]) // 2])
    folder.perform(out, points, {"points": stub}, silent)
    assert made == [points[0].name, points[1].name]
    for path, content in before.items():
        path.write_bytes(content)


def test_the_same_run_gives_the_same_numbers(study):
    out, told = study
    again = next(r for r in plan.runs(TINY) if r.gan == "sngan_hinge")
    figures_again = training.points(again)[0]
    row = next(r for r in told["rows"] if r["gan"] == "sngan_hinge")
    assert {k: v for k, v in figures_again.items() if k != "seconds"} == {
        k: v for k, v in row.items() if k in figures_again and k != "seconds"
    }


def test_a_run_on_images(monkeypatch):
    fashion = data_sets.load_data("fashion", image_size=28, channels=1)
    few = dataclasses.replace(fashion, images=fashion.images[:400], labels=fashion.labels[:400])
    judge = classifier.train(few, images_seen=400)
    monkeypatch.setattr(classifier, "load_classifier", lambda source, image_size: judge)
    seen = []  # by the certificate, which has tests of its own
    monkeypatch.setattr(training, "slope", lambda config, state, real, fake, box: seen.extend([real, fake]))
    size = dataclasses.replace(
        TINY,
        data=("stacked_fashion",),
        remedies={},
        image_steps=1,
        image_width=2,
        image_samples=200,
        stacked_seeds=1,
    )
    one = next(r for r in plan.runs(size) if r.gan == "sngan_hinge" and r.kind == "images")
    told, arrays = training.images(one)
    assert told["modes"] == 1000
    assert 0 <= told["covered"] <= 200
    assert told["high_quality"] >= told["covered"] / 200  # each covered mode has a good sample
    assert np.count_nonzero(arrays["shares"]) > 0
    assert [x.shape for x in seen] == [(200, 28, 28, 3)] * 2
    assert all(-1 <= x.min() < x.max() <= 1 for x in seen)
    assert told["lipschitz_upper"] is None
    assert arrays["grid"].shape == (training.SHOWN, 28, 28, 3)


def test_the_exact_divergence():
    assert critics.true_js(0.0) == pytest.approx(0, abs=1e-12)
    assert critics.true_js(40.0) == pytest.approx(np.log(2))
    # Two nearby Gaussians: JSD -> t^2 / 8, as Fisher's information is 1.
    assert critics.true_js(0.01) == pytest.approx(0.01**2 / 8, rel=1e-3)


# What the sentences say ---------------------------------------------------------------------------------------------


def rows_of(covered, **same):
    """A row a seed and GAN of the grid: {gan: [covered of seed 0, of seed 1, ...]}."""
    return [
        {"gan": gan, "data": "grid", "seed": seed, "remedy": None, "modes": 25, "covered": c, **same}
        for gan, values in covered.items()
        for seed, c in enumerate(values)
    ]


def test_sentences_follow_the_numbers():
    rows = rows_of({"wgan": [25, 25], "sngan_hinge": [20, 20], "standard": [3, 5]})
    text = summary.who_leads(rows, "grid", "covered")
    assert text == (
        "On the grid of 25 Gaussians, WGAN (clipped weights) leads in modes covered with 25.0; last is Standard GAN "
        "with 4.0."
    )
    verdict = summary.spectral_verdict(rows, "grid")
    assert "spectral norm does not win" in verdict
    assert "number 2 of 3; WGAN (clipped weights) is first" in verdict
    assert "Standard GAN (2 of 2 runs, at worst 22 missing)" in summary.collapse(rows, "grid")
    assert "WGAN" not in summary.collapse(rows, "grid")

    turned = rows_of({"wgan": [20, 20], "sngan_hinge": [25, 25], "standard": [3, 5]})
    assert summary.who_leads(turned, "grid", "covered").startswith(
        "On the grid of 25 Gaussians, SN-GAN (hinge) leads in modes covered with 25.0"
    )
    assert "spectral norm is first in every figure: modes covered." in summary.spectral_verdict(turned, "grid")


def test_a_lead_within_the_spread_is_said():
    close = rows_of({"wgan": [25, 21], "sngan_hinge": [20, 24], "standard": [3, 5]})
    assert "is within the spread of the seeds" in summary.who_leads(close, "grid", "covered")
    one = rows_of({"wgan": [25], "standard": [3]})
    assert summary.one_seed(one) == "With one seed each, so that a lead may be chance: the grid of 25 Gaussians."
    assert summary.one_seed(close) == ""
    level = rows_of({"wgan": [25, 25], "sngan_hinge": [25, 25], "standard": [24, 25]})
    assert "WGAN (clipped weights) and SN-GAN (hinge) lead in" in summary.who_leads(level, "grid", "covered")
    assert "level with WGAN (clipped weights)" in summary.spectral_verdict(level, "grid")
    equal = rows_of({"wgan": [25], "standard": [25]})
    assert "all have the same modes covered: 25.0" in summary.who_leads(equal, "grid", "covered")
    assert "no run ended with a mode missing" in summary.collapse(equal, "grid")
    assert summary.who_leads(equal, "ring", "covered") == ""


def test_lower_is_better_where_it_is():
    rows = [
        {"gan": gan, "data": "ring", "seed": 0, "remedy": None, "modes": 8, "covered": 8, "wasserstein": w}
        for gan, w in (("standard", 0.1), ("sngan_hinge", 0.3))
    ]
    assert [s.gan for s in summary.ranking(rows, "ring", "wasserstein")] == ["standard", "sngan_hinge"]
    rows[0]["wasserstein"] = None  # it diverged: out of this ranking, and a dash in the table
    assert [s.gan for s in summary.ranking(rows, "ring", "wasserstein")] == ["sngan_hinge"]
    head, lines = summary.table(rows, "ring")
    assert lines[0][head.index("Wasserstein")] == "—"


def test_collapse_is_told_by_seed():
    rows = rows_of({"standard": [3, 25], "wgan": [24, 25], "sngan_hinge": [25, 25]}, high_quality=0.5, reverse_kl=0.1)
    assert summary.collapsed(rows, "grid") == ["standard"]
    assert summary.headline(rows) == (
        "On the grid of 25 Gaussians half of the modes or fewer were left to Standard GAN (1 of 2 runs); all modes in "
        "every run: SN-GAN (hinge)."
    )
    assert summary.by_seed(rows, "grid")[0][:2] == ["Standard GAN", "3, 25 of 25"]
    assert summary.headline(rows_of({"wgan": [13]})) == (
        "On the grid of 25 Gaussians no run lost half of the modes; no GAN had all modes in every run."
    )


def test_remedies_compare_the_same_seeds():
    rows = rows_of({"non_saturating": [10, 12]}, high_quality=0.5)  # they deviate by 1.4
    rows.append({**rows[0], "remedy": "dropout", "covered": 12, "high_quality": 0.6})
    plain, dropout = summary.remedies(rows, "grid")
    assert plain == ["Non-saturating GAN, without a remedy", "10 of 25", "50.0 %", ""]
    assert dropout == ["dropout 0.2 in D", "12 of 25", "60.0 %", "more modes, better quality"]
    assert summary.one_seed(rows).endswith("the remedies on the grid of 25 Gaussians.")
    rows.append({**rows[1], "remedy": "dropout", "covered": 14, "high_quality": 0.6})
    assert [line[1] for line in summary.remedies(rows, "grid")] == ["10, 12 of 25", "12, 14 of 25"]
    rows += rows_of({"sngan_non_saturating": [25, 25]}, high_quality=0.5)
    assert summary.remedies(rows, "grid")[-1] == ["spectral normalisation of D", "25, 25 of 25", "50.0 %", "more modes"]
    for covered, quality, verdict in (
        (12, 0.5, "no change beyond the spread of the seeds"),
        (8, 0.5, "fewer modes"),
        (8, 0.9, "fewer modes, better quality"),
        (14, 0.1, "more modes, worse quality"),
    ):
        for row in rows[2:4]:
            row.update(covered=covered, high_quality=quality)
        assert summary.verdict_of(rows, "grid", "dropout") == verdict
    assert summary.verdict_of(rows, "grid", "loss") == ""
    assert summary.remedies(rows, "ring") == []


# The command --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--out must name the folder"]),
        (["--out", "new", "--seeds", "0"], ["--seeds must be at least 1, got 0"]),
        (["--out", "new", "--steps", "-1"], ["--steps must be at least 1, got -1"]),
        (["--out", "new", "--data", "ring,moons"], ["'moons'", "ring, grid, fashion"]),
        (["--out", "new", "--quick", "--data", "fashion"], ["--quick has no runs on fashion"]),
        (["--out", "new", "--sedes", "1"], ["unknown option --sedes", "did you mean --seeds?"]),
        (["--out", "full"], ["--out full holds something else"]),
        (["--out", "full/file"], ["--out full/file holds something else"]),
        (["--out", "new", "--json", "full"], ["cannot write full: it is a folder"]),
        (["--out", "/proc/study"], ["cannot write /proc/study"]),
    ],
)
def test_refusals(script, tmp_path, arguments, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    outcome = script("compare_gans.py", *arguments)
    assert outcome.is_one_line("compare_gans.py", *words), outcome
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full"]


def test_dry_run_lists_and_makes_nothing(script, tmp_path):
    outcome = script("compare_gans.py", "--out", "new", "--quick", "--dry-run")
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert len(lines) == len(plan.runs(plan.QUICK)) + 1
    assert lines[-1].startswith("about ")
    assert not list(tmp_path.iterdir())
    full = script("compare_gans.py", "--out", "new", "--dry-run", "--seeds", "2").out.splitlines()
    assert sum("stacked_fashion-" in line for line in full) == 2 * len(plan.GANS)
    assert sum(line.startswith("fashion-") and "-seed1" in line for line in full) >= len(plan.GANS)


def test_every_run_has_its_own_name_and_key():
    runs = plan.runs(plan.FULL)
    assert len({r.name for r in runs}) == len({r.key for r in runs}) == len(runs)
    base = next(r for r in runs if r.gan == "standard" and r.data == "ring")
    for gan in plan.GANS:  # the same but for the loss and what bounds D
        other = plan.train_config(next(r for r in runs if r.gan == gan and r.data == "ring"))
        changed = {
            n for n, v in dataclasses.asdict(other).items() if v != dataclasses.asdict(plan.train_config(base))[n]
        }
        assert changed <= {"name", "loss", "weight_clip", "penalty", "model"}
        assert other.model.discriminator_norm == "none"


def test_a_generator_that_diverged_is_drawn(study):
    out, _ = study
    done = folder.finished(out, next(r for r in plan.runs(TINY) if r.gan == "wgan_gp" and r.kind == "points"))
    arrays = {k: np.full_like(v, np.nan) if v.dtype.kind == "f" else v for k, v in done.arrays.items()}
    np.savez(out.parent / "diverged.npz", **arrays)
    broken = folder.Finished(done.run, done.figures, out.parent / "diverged.npz")
    for draw in (figures.density, figures.fields, figures.animation):
        assert len(draw([broken])) > 500


def test_a_page_without_rows_of_a_kind():
    told = {"rows": rows_of({"wgan": [25]}, high_quality=0.5), "critics": {}, "command": "c", "machine": "m",
            "computed_seconds": 1.0}  # fmt: skip
    text = page.page(told, TINY, {})
    assert 'id="images"' not in text
    assert 'id="remedies"' not in text
    assert "WGAN (clipped weights) on</th>" in text
    assert '<td>the grid of 25 Gaussians</td><td class="n">25.0</td>' in text
    assert "<h1>The GAN family" in text, "no title of a collapse that was not seen"
