"""Rung 7, scores: both frameworks evaluate the same run alike, and keep the same best checkpoint."""

import json
from pathlib import Path

import pytest

from jax_sngan.config.schema import ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from jax_sngan.evaluation import evaluate
from jax_sngan.metrics.extractors import Extractor
from jax_sngan.system.errors import UserError
from jax_sngan.training.trainer import train
from parity_tests.compare import assert_within, relative_error
from parity_tests.tolerances import SCORE_F64
from torch_ref.commands.train import train as torch_train
from torch_ref.runs.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parent.parent
CONFIG = TrainConfig(
    steps=3, batch_size=4, n_dis=1, ema_decay=0.5,
    generator_optimizer=OptimizerConfig(learning_rate=0.05),
    model=ModelConfig(
        image_size=28, channels=1, latent_size=4, generator_width=2, discriminator_width=2, dtype="float64"
    ),
)  # fmt: skip


def test_both_frameworks_score_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squares: Extractor
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluate.classifier, "fashion_mnist_here", lambda: None)
    monkeypatch.setattr(evaluate, "open_extractor", lambda *_: squares)
    frameworks = {"jax": train, "torch": torch_train}
    scores = {}
    for framework, run_training in frameworks.items():
        options = {"evaluate_every": 1, "evaluate_num": 100, "evaluate_metrics": "fcd"}
        run = RunConfig(
            workdir=str(tmp_path / framework),
            log_every=1,
            sample_every=0,
            keep_checkpoints=1,
            checkpoint_every=0,
            **options,
        )
        run_training(CONFIG, run)
        lines = [json.loads(line) for line in (tmp_path / framework / "metrics.jsonl").read_text().splitlines()]
        scores[framework] = {line["step"]: line for line in lines if "d_loss" not in line}
        assert [line["step"] for line in lines if "d_loss" in line] == [1, 2, 3]
    for step, ours in scores["jax"].items():
        theirs = scores["torch"][step]
        assert set(ours) == set(theirs) == {"step", "fcd_100_fashion", "fcd_100_fashion_raw"}
        for name in set(ours) - {"step"}:
            assert_within(relative_error(ours[name], theirs[name]), SCORE_F64, f"{name}, step {step}")
    best = min(scores["torch"], key=lambda s: scores["torch"][s]["fcd_100_fashion"])
    assert Checkpoints(tmp_path / "torch").steps() == sorted({best, 3})
    assert scores["jax"][3]["fcd_100_fashion"] != scores["jax"][3]["fcd_100_fashion_raw"]
    with pytest.raises(UserError, match=r"standing_statistics is for sngan train, got 64"):
        frameworks["torch"](CONFIG, RunConfig(workdir=str(tmp_path / "no"), evaluate_every=1, standing_statistics=64))
    assert not (tmp_path / "no").exists()
