"""The benchmark: what it makes of measurements, what it measures, and what it says to a wrong option."""

import json

import pytest

from jax_sngan.benchmark import workloads
from jax_sngan.benchmark.runner import Plan, measure
from jax_sngan.system.errors import UserError

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


def test_jax_is_measured():
    small = {"batch_size": 2, "model.generator_width": 2, "model.discriminator_width": 2, "model.latent_size": 4}
    row = measure(workloads.workloads()["fashion"], Plan(2, 100.0, changes=small))
    assert row.keys() >= KEYS
    assert len(row["seconds"]["jax"]) == 2
    assert min(row["jax_s"], row["gflop"]) > 0
    assert row["torch_best"] is row["ratio_best"] is None


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
