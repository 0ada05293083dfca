"""The benchmark: what it makes of measurements, what it measures, and what it says to a wrong option."""

import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest

from conftest import ROOT
from jax_sngan.benchmark import paired, watching, workloads
from jax_sngan.benchmark.runner import Plan, measure, starts, torch_version
from jax_sngan.config.schema import replace
from jax_sngan.system.errors import UserError

SMALL = {"batch_size": 2, "model.generator_width": 2, "model.discriminator_width": 2, "model.latent_size": 4}
# The keys that whoever reads the result relies on.
KEYS = {
    "work", "jax_s", "torch_eager_s", "torch_best_s", "torch_best", "ratio_best", "ratio_eager", "gflop", "peak_share",
    "jax_mb", "torch_mb",
}  # fmt: skip


def test_a_row_is_made_of_medians():
    work = workloads.Workload("sample", workloads.workloads()["cnn32"].config, images=10, stands_for=100)
    seconds = {"jax": [1.0, 2.0, 9.0], "eager": [8.0, 8.0, 9.0], "channels_last": [5.0, 6.0, 7.0]}
    told = {
        "jax": {"gflop": 30.0, "compile_s": 1.0, "mb": 5.0},
        "eager": {"mb": 1.0, "gflop": 60.0},
        "channels_last": {"mb": 2.0},
        "compiled": {"failed": "no"},
    }
    row = workloads.row(work, seconds, told, peak=100.0)
    assert row.keys() >= KEYS
    assert (row["jax_s"], row["torch_eager_s"], row["torch_best_s"], row["torch_best"]) == (20, 80, 60, "channels_last")
    assert (row["ratio_best"], row["ratio_eager"], row["gflop"], row["peak_share"]) == (3, 4, 300, 0.15)
    assert (row["jax_mb"], row["torch_mb"], row["failed"]) == (5, 2, {"compiled": "no"})
    alone = workloads.row(work, {"jax": seconds["jax"]}, {"jax": told["jax"]}, peak=100.0)
    assert alone["torch_best"] is alone["ratio_best"] is None


def test_what_became_slower_is_said():
    def result(ratio, share):
        return {"rows": [{"work": "a", "ratio_best": ratio, "peak_share": share}]}

    assert workloads.slower(result(2.0, 0.5), result(2.1, 0.9)) == []  # within a tenth; the share is not read
    assert workloads.slower(result(2.0, 0.5), result(2.5, 0.5)) == ["a: ratio_best was 2.5, is 2"]
    assert workloads.slower(result(None, 0.4), result(2.5, 0.5)) == ["a: peak_share was 0.5, is 0.4"]
    assert workloads.slower(result(1.0, 0.1), {"rows": []}) == []


def test_growth_is_the_exponent():
    exponent, constant = workloads.growth([1, 2, 4, 8], [3, 12, 48, 192])
    assert exponent == pytest.approx(2)
    assert constant == pytest.approx(3)


def test_both_starts_are_told():
    result = {"machine": {"device": "d", "cores": 2}, "matmul_gflops": 1.0, "rows": []}
    assert "start" not in workloads.table(result)
    told = workloads.table(result | {"starts": {"preset": "points", "first_s": 12.34, "second_s": 4.56}})
    assert told.endswith(
        "train points, to its first step done: 12.3 s with an empty cache of programs, 4.6 s with a full one"
    )


@pytest.mark.long
def test_a_second_start_finds_the_programs():
    found = starts("fashion")
    assert found["preset"] == "fashion"
    assert 0 < found["second_s"] < found["first_s"]


def test_what_is_wrong_is_named(script, tmp_path):
    assert script("benchmark.py", "--work", "cnn").is_one_line("--work", "cnn32", "got cnn")
    assert script("benchmark.py", "--arithmetic", "fp8").is_one_line("--arithmetic", "tf32", "got fp8")
    assert script("benchmark.py", "--device", "tpu").is_one_line("device must be auto, cpu, cuda", "got tpu")
    assert script("benchmark.py", "--repetitions=0").is_one_line("--repetitions", "at least 1", "0")
    assert script("benchmark.py", "--sweep=growth.jpg").is_one_line("growth.jpg", ".png")
    assert script("benchmark.py", "--check=none.json").is_one_line("none.json")
    (tmp_path / "other.json").write_text(json.dumps([1]))
    assert script("benchmark.py", "--check", tmp_path / "other.json").is_one_line("--check", "other.json")


@pytest.mark.parametrize(
    ("kind", "platform", "arithmetic", "words"),
    [
        ("fast", "gpu", "float32", "must be eager, or of channels_last"),
        ("eager+graphs", "gpu", "float32", "must be eager, or of"),
        ("graphs+graphs", "gpu", "float32", "must be eager, or of"),
        ("channels_last+graphs", "cpu", "float32", "graphs are of CUDA"),
        ("autocast", "gpu", "tf32", "autocast is for --arithmetic bfloat16"),
    ],
)
def test_kinds_are_forms_joined(kind, platform, arithmetic, words):
    with pytest.raises(UserError, match=words):
        workloads.check_kind(kind, platform, arithmetic)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("arithmetic", workloads.ARITHMETICS)
def test_the_default_kinds_are_kinds(platform, arithmetic):
    chosen = workloads.kinds(platform, arithmetic)
    for kind in chosen:
        workloads.check_kind(kind, platform, arithmetic)
    assert ("autocast" in chosen) == (platform == "gpu" and arithmetic == "bfloat16")
    assert any("graphs" in kind for kind in chosen) == (platform == "gpu")


def test_an_interval_for_the_median_is_of_order_statistics():
    assert paired.median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None  # holds it with 15/16 at most
    assert paired.median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == [1.0, 6.0]
    ordered = [float(i) for i in range(15)]
    assert paired.median_interval(ordered) == [3.0, 11.0]  # scipy.stats.binomtest's: 0.9648; one further in: 0.8815
    rng = np.random.default_rng(0)
    found = [paired.median_interval(sorted(rng.standard_cauchy(15))) for _ in range(2000)]
    assert 0.95 < np.mean([low <= 0 <= high for low, high in found]) < 0.98


def test_slower_is_said_only_where_it_is():
    rng = np.random.default_rng(0)
    drift = 1 + np.linspace(0, 1, 15)  # a machine that gets twice as slow meanwhile
    burst = np.ones(15)
    burst[[2, 7, 14]] = 4.0  # and other work in some of the pairs, on one side alone

    def told(factor):
        noise = rng.normal(1, 0.03, (2, 15))
        return paired.verdict(factor * drift * burst * noise[0], drift * noise[1])

    same, slow, fast = (told(factor) for factor in (1.0, 1.15, 0.8))
    assert (same["slower"], same["faster"]) == (False, False)
    assert same["interval"][0] < 1 < same["interval"][1]
    assert (slow["slower"], slow["faster"]) == (True, False)
    assert (fast["slower"], fast["faster"]) == (False, True)
    few = paired.verdict([2.0] * 3, [1.0] * 3)
    assert (few["ratio"], few["interval"], few["slower"]) == (2.0, None, False)
    barely = paired.verdict([1.015] * 15, [1.0] * 15)  # two processes of one program differ as much
    assert barely["interval"] == [1.015, 1.015]
    assert not barely["slower"]


def test_two_commits_are_measured_in_turn():
    if not (ROOT / ".git").exists():
        pytest.skip("an unpacked archive has no commits")
    with paired.checked_out("HEAD") as (commit, tree):
        assert (tree / "jax_sngan/__init__.py").is_file()
        # What stands in that tree is what is run: here a step that takes half a second longer.
        side = tree / "jax_sngan/benchmark/server.py"
        quick, slow = ("                " + call for call in ("repeat(count)", "time.sleep(0.5); repeat(count)"))
        assert quick in side.read_text()
        side.write_text(side.read_text().replace(quick, slow))
        row = paired.measure_pairs(workloads.workloads()["fashion"], tree, 2, SMALL)
    assert len(commit) == 40
    assert not tree.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(tree) not in listed.stdout
    assert len(row["seconds"]["now"]) == len(row["seconds"]["then"]) == 2
    assert row["then_s"] > row["now_s"] + 0.4
    assert (row["interval"], row["faster"]) == (None, False)  # two pairs say nothing yet
    assert commit[:12] in paired.table({"commit": commit, "rows": [row]})


def test_processes_are_started_anew_after_some_pairs(monkeypatch):
    starts = []

    def pairs(work, tree, count, *rest):
        starts.append(count)
        return iter([(1.0, 1.25)] * count)

    monkeypatch.setattr(paired, "_pairs", pairs)
    row = paired.measure_pairs(workloads.workloads()["fashion"], ROOT, 12, {})
    assert starts == [5, 5, 2]
    assert (row["ratio"], row["interval"], row["faster"]) == (0.8, [0.8, 0.8], True)
    assert paired.table({"commit": "0" * 40, "rows": [row]}).endswith("12   faster")


def test_what_a_step_tells_beside_its_losses_is_measured(script, tmp_path):
    seconds = watching.in_pairs(replace(workloads.workloads()["fashion"].config, SMALL), 3)
    assert {name: len(own) for name, own in seconds.items()} == {"now": 3, "then": 3}
    assert min(seconds["now"] + seconds["then"]) > 0
    told = script("benchmark.py", "--watching", "--quick", "--work=fashion", "--json", tmp_path / "cost.json")
    assert told.code == 0, told
    assert told.out.startswith("the step against one that tells its losses")
    (row,) = json.loads((tmp_path / "cost.json").read_text())["watching"]["rows"]
    assert (row["work"], len(row["seconds"]["now"]), len(row["seconds"]["then"])) == ("fashion", 1, 1)
    assert row["interval"] is None  # one process says nothing


def test_torch_may_have_an_environment_of_its_own(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    plan = Plan(2, 100.0, kinds=("eager",), changes=SMALL, torch_python=str(python))
    row = measure(workloads.workloads()["fashion"], plan)
    assert row.keys() >= KEYS
    assert len(row["seconds"]["jax"]) == 2
    assert min(row["jax_s"], row["gflop"]) > 0
    assert (tmp_path / "asked").read_text().startswith("-m torch_ref.benchmark.torch_side fashion")
    if find_spec("torch"):
        assert row["torch_best"] == "eager"
        assert torch_version(str(python)) == version("torch")
    else:
        assert row["torch_best"] is row["ratio_best"] is None
        assert "torch" in row["failed"]["eager"]
        assert torch_version(str(python)) is None


def test_what_is_wrong_of_a_comparison_is_named(script, tmp_path):
    assert script("benchmark.py", "--against=HEAD", "--kinds=eager").is_one_line("--kinds", "--against")
    assert script("benchmark.py", "--against=HEAD", "--check=a.json").is_one_line("--check", "--against")
    assert script("benchmark.py", "--against=HEAD", "--watching").is_one_line("--watching", "--against")
    assert script("benchmark.py", "--watching", "--starts").is_one_line("--starts", "--watching")
    assert script("benchmark.py", "--watching", "--work=sample_resnet32").is_one_line("--watching", "draws samples")
    # A copy of the files alone has no commits.
    git = subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True)
    why = "not a git repository" if git.returncode else "no such commit"
    assert script("benchmark.py", "--against=no-such-commit").is_one_line("--against", why)
    missing = script("benchmark.py", "--torch-python", tmp_path / "none")
    assert missing.is_one_line("--torch-python", "none", "No such file")
    assert script("benchmark.py", "--torch-python=/bin/false").is_one_line(
        "--torch-python", "/bin/false", "exit code 1"
    )
