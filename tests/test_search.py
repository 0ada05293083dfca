"""The search: its file, what a trial may cost, what it keeps, and its table."""

import json
import shutil

import numpy as np
import pytest

import jax_sngan
from conftest import ROOT
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import replace
from jax_sngan.search import cost, table
from jax_sngan.search import run as searching
from jax_sngan.search.trials import Trial, configured, key, read_plan
from jax_sngan.system.errors import UserError
from jax_sngan.training.loop import TrainingDiverged

SMALL = {
    "steps": 40, "batch_size": 4, "model.generator_width": 2, "model.discriminator_width": 2, "model.latent_size": 4,
}  # fmt: skip
CLASSES = {"name": "classes", "why": "does it pay?", "changes": {"model.num_classes": 10}, "share": 0.1}
FASTER = {"name": "faster", "why": "a rate", "changes": {"generator_optimizer.learning_rate": 0.01}, "share": 0.1}


def written(path, *trials, **others):
    path.write_text(json.dumps({"base": "fashion", "common": SMALL, "trials": list(trials)} | others))
    return path


def test_the_default_is_what_the_search_of_the_documents_chose():
    plan = read_plan(ROOT / "docs/search/fashion.json")
    chosen = [trial for trial in plan.trials if trial.name == "b16-g24-slow-d" and trial.share > 0.25]
    assert [trial.seed for trial in chosen] == [0, 1, 2]
    assert plan.base == preset("sngan")
    assert preset("fashion") == replace(plan.base, chosen[0].changes | {"name": "fashion", "steps": 10_000})


def searched(path, out, monkeypatch, extractor):
    """What a search said."""
    said = []
    searching.Search(path, out, num=20, features=extractor, say=said.append).run()
    return said


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cost, "SECONDS", 0.01)


@pytest.fixture
def pixels():
    from jax_sngan.metrics.extractors import Extractor

    def means(images):
        n = len(images)
        return images.reshape(n, 4, 7, 4, 7).mean((2, 4)).reshape(n, 16).astype(np.float32), None

    return Extractor("pixels", "0", means)


def test_a_search_is_gone_on_with_and_tells_what_it_found(tmp_path, monkeypatch, pixels):
    path, out = written(tmp_path / "plan.json", CLASSES), tmp_path / "out"
    said = searched(path, out, monkeypatch, pixels)
    assert len(said) == 2
    (row,) = json.loads((out / "table.json").read_text())
    assert (row["name"], row["seed"], row["share"], row["base"]) == ("classes", 0, 0.1, "fashion")
    assert row["steps"] == max(2, round(0.1 * 40 / row["cost"]))
    assert row["config"]["model"]["num_classes"] == 10
    assert row["config"]["steps"] == row["steps"]
    assert row["seconds"] > 0
    name, raw = row["scores"]  # the averaged generator's and its own weights'
    assert raw == f"{name}_raw"
    run = jax_sngan.load(next((out / "runs").iterdir()))
    assert (run.step, run.classes) == (row["steps"], 10)

    written(path, CLASSES, FASTER | {"seeds": [0, 1]})
    said = searched(path, out, monkeypatch, pixels)
    assert len(said) == 4  # the first trial is there already
    assert "each 1.00 of the base's" in said[0]  # a rate costs nothing, and is not measured
    assert len(list((out / "costs").iterdir())) == 1
    text = (out / "table.md").read_text()
    assert text.count("\n| classes | model.num_classes 10 | 0 | ") == 1
    assert text.count("\n| faster | generator_optimizer.learning_rate 0.01 | 0, 1 | ") == 1

    # A row that is lost is made again, over what is left of its run.
    shutil.rmtree(out / "trials")
    written(path, CLASSES)
    searched(path, out, monkeypatch, pixels)
    (again,) = json.loads((out / "table.json").read_text())
    assert (again["cost"], again["steps"]) == (row["cost"], row["steps"])
    assert again["scores"] == row["scores"]


def test_a_trial_that_diverges_is_a_row_too(tmp_path, monkeypatch, pixels):
    def diverges(config):
        raise TrainingDiverged("d_loss is not finite at step 3")

    monkeypatch.setattr(searching, "_timed_training", diverges)
    out = tmp_path / "out"
    said = searched(written(tmp_path / "plan.json", FASTER), out, monkeypatch, pixels)
    assert said[-1].endswith("d_loss is not finite at step 3")
    assert "| 0 (diverged) | - | - | 4 | - |" in (out / "table.md").read_text()


def test_the_table_has_the_best_first_and_an_interval_over_seeds():
    def row(name, seed, value, share=1.0):
        scores = {"fcd_5k_test": value, "fcd_5k_test_raw": value + 1}
        told = {"name": name, "why": "why", "changes": {}, "share": share, "seed": seed, "steps": 3500}
        return told | {"scores": scores, "seconds": 600.0, "diverged": None}

    rows = [row("a", 0, 3.0, 0.25), *(row("base", s, v) for s, v in enumerate((9.0, 10.0, 11.0))), row("b", 0, 5.0)]
    quarter, whole = table.markdown(rows).split("\n\nAt 1 of")
    assert "| a | none | 0 | 3.00 | 4.00 | 3,500 | 600 | why |" in quarter
    first, second = whole.strip().splitlines()[-2:]
    assert first.startswith("| b | none | 0 | 5.00 |")
    assert second.startswith("| base | none | 0, 1, 2 | 10.00 (7.52 to 12.48; 9.00, 10.00, 11.00) |")
    assert table.markdown([]) == ""


def test_cost_is_that_of_one_in_the_other():
    base = replace(preset("fashion"), SMALL)
    data = jax_sngan.load_data("fashion", image_size=28, channels=1)
    assert 1.3 < cost.relative_cost(replace(base, {"batch_size": 64}), base, data) < 30


def test_what_decides_a_trial_is_in_its_key():
    base = replace(preset("fashion"), SMALL)
    one = Trial("a", "why", {"batch_size": 8}, 0.5, 0)
    assert configured(base, one, 7) == replace(base, {"batch_size": 8, "steps": 7})
    assert key(base, one) == key(base, one._replace(name="b", why="another"))
    others = [one._replace(changes={"batch_size": 9}), one._replace(share=0.25), one._replace(seed=1)]
    assert len({key(base, one), key(replace(base, {"steps": 41}), one), *(key(base, o) for o in others)}) == 5


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "must hold base"),
        ({"base": "fashion"}, "must hold base"),
        ({"base": "fashion", "trials": [], "more": 1}, "must hold base"),
        ({"base": "none", "trials": []}, "unknown preset 'none'"),
        ({"base": "fashion", "trials": [{"name": "a"}]}, "trial 0 must have name, why, changes, share"),
        ({"base": "fashion", "trials": [CLASSES | {"name": "A b"}]}, "trial 0: name must be of small letters"),
        ({"base": "fashion", "trials": [CLASSES | {"share": 0}]}, "share must be above 0 and at most 4, got 0"),
        ({"base": "fashion", "trials": [CLASSES | {"changes": {"steps": 3}}]}, "steps come of the share"),
        ({"base": "fashion", "trials": [CLASSES | {"changes": {"batch": 3}}]}, "unknown option 'batch'"),
        ({"base": "fashion", "trials": [CLASSES | {"seeds": []}]}, r"seeds must be a list of numbers, got \[\]"),
        ({"base": "fashion", "trials": [CLASSES, FASTER, CLASSES]}, "twice: classes at 0.1, seed 0"),
    ],
)
def test_a_file_that_is_no_search_is_refused(told, words, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match=words):
        read_plan(path)


def test_the_command_says_what_is_wrong_in_a_line(script, tmp_path):
    path = written(tmp_path / "plan.json", CLASSES)
    assert script("search.py", path).is_one_line("--out")
    assert script("search.py", tmp_path / "none.json", "--out=out").is_one_line("none.json")
    told = script("search.py", path, "--out=out", "--dry-run")
    assert told.out == "classes, 0.1 of the base's time, seed 0: to do; changes: model.num_classes=10\n"
    assert not (tmp_path / "out").exists()
    assert script("search.py", path, "--out=out", "--table").code == 0
    assert json.loads((tmp_path / "out/table.json").read_text()) == []
