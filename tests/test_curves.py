"""Learning curves: runs of one kind under one curve, kinds told apart, what is missing told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from conftest import TINY, Outcome
from jax_sngan.config.schema import TrainConfig, replace, to_dict
from jax_sngan.reports.curves import read_curves
from jax_sngan.system.errors import UserError

SCORE = "fcd_100_test_50"


def write_run(workdir: Path, config: TrainConfig, scores: dict[int, float], framework: str = "jax") -> str:
    """A run's folder as far as it is read here: its options, its log, and whose checkpoints stand in it."""
    checkpoint = workdir / "checkpoints" / "4"
    checkpoint.mkdir(parents=True)
    (checkpoint / {"jax": "manifest.json", "torch": "state.pt"}[framework]).touch()
    (workdir / "config.json").write_text(json.dumps(to_dict(config)))
    lines = [{"step": step, "d_loss": 1.0, "g_loss": float(step)} for step in (1, 2, 3, 4)]
    lines += [{"step": step, SCORE: value, f"{SCORE}_raw": 9.0} for step, value in scores.items()]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(workdir)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two seeds, the first once more by torch, and one with another loss."""
    other_loss = replace(TINY, {"loss": "non_saturating"})
    return [
        write_run(tmp_path / "seed0", TINY, {2: 3.0, 4: 1.0}),
        write_run(tmp_path / "torch", TINY, {2: 3.0, 4: 1.5}, "torch"),
        write_run(tmp_path / "seed1", replace(TINY, {"seed": 1}), {1: 8.0, 2: 5.0, 4: 2.0}),
        write_run(tmp_path / "loss", other_loss, {4: 7.0}),
    ]


def test_seeds_make_one_curve(runs: list[str]) -> None:
    (metric, (both, torch, loss)), *more = read_curves(runs).items()
    assert metric == SCORE
    assert not more, "neither the losses nor the generator's own weights"
    assert both.name == f"{TINY.name}, loss {TINY.loss}"
    assert torch.name == f"{TINY.name}, torch"
    assert loss.name == f"{TINY.name}, loss non_saturating"
    assert both.runs == [runs[0], runs[2]]
    assert both.steps.tolist() == [2, 4], "what both have"
    assert both.values.tolist() == [[3.0, 1.0], [5.0, 2.0]]
    assert both.spread == pytest.approx(0.5**0.5)
    assert loss.values.tolist() == [[7.0]]


def test_any_number_of_the_log(runs: list[str]) -> None:
    (curve,) = read_curves(runs[:1], ["g_loss"])["g_loss"]
    assert curve.values.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_what_cannot_be_drawn(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"seed0 has no 'fid'; its metrics.jsonl has d_loss, g_loss, {SCORE}"):
        read_curves(runs, ["fid"])
    with pytest.raises(UserError, match="given twice"):
        read_curves([runs[0], f"{runs[0]}/../seed0"])
    with pytest.raises(UserError, match="no run's folder"):
        read_curves([tmp_path])
    log = Path(runs[0]) / "metrics.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if SCORE not in line))
    with pytest.raises(UserError, match="has no scores; train with --evaluate-every"):
        read_curves(runs)


def test_the_command(script: Callable[..., Outcome], runs: list[str], tmp_path: Path) -> None:
    picture, numbers = tmp_path / "curves.png", tmp_path / "curves.json"
    outcome = script("plot_runs.py", *runs, "--log", f"--out={picture}", f"--json={numbers}")
    assert outcome.code == 0, outcome
    assert f"step      4         1.5 +- 0.707   1 to 2, 2 seeds\n  {TINY.name}, torch" in outcome.out
    with Image.open(picture) as image:
        assert image.size == (605, 440)
    assert json.loads(numbers.read_text())[SCORE][0]["values"] == [[3.0, 1.0], [5.0, 2.0]]
    assert script("plot_runs.py", str(tmp_path / "none")).is_one_line("plot_runs.py", "none")
