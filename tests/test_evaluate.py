"""Scores of a checkpoint: right names, right generator, one line for what is wrong."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import jax_sngan
from jax_sngan import evaluate as evaluation
from jax_sngan.metrics import frechet_distance


def pixels(images: np.ndarray) -> np.ndarray:
    """A feature extractor that needs no training: means over 7x7 squares."""
    return images.reshape(len(images), 4, 7, 4, 7).mean(axis=(2, 4)).reshape(len(images), 16)


def test_scores_are_of_the_checkpoints_images(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = jax_sngan.load_data("fashion", image_size=28, channels=1)

    class Net(SimpleNamespace):
        def features(self, images: np.ndarray) -> np.ndarray:
            return pixels(images)

        def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return pixels(images), np.tile([0.0, 1.0, 0.5], (len(images), 1))

    net = Net(source="none", accuracy=0.0, checksum="0")
    monkeypatch.setattr(evaluation.classifier, "load", lambda *_, **__: net)
    monkeypatch.setattr(evaluation.data_sets, "load", lambda *_, **__: real)
    result = evaluation.evaluate(tiny_run, num=200, seed=4)
    generated = jax_sngan.load(tiny_run).sample(200, seed=4)
    assert result["step"] == 6
    assert result["metrics"] == {
        "fcd_200_test": pytest.approx(frechet_distance(pixels(real.images), pixels(generated)), rel=1e-9),
        "classes_200_test": 1,
        "smallest_share_200_test": 0.0,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["no workdir nowhere"]),
        (["RUN", "--metrics", "fid"], ["unknown metric 'fid'; there are: fcd, classes"]),
        (["RUN", "--num", "1"], ["num must be at least 2, got 1"]),
        (["RUN", "--real", "fashion"], ["fashion", "test"]),
        (["RUN", "--data-dir", "/nowhere"], ["/nowhere"]),
    ],
)
def test_evaluating_refuses_in_one_line(
    script: Callable, tiny_run: Path, arguments: list[str], words: list[str]
) -> None:
    outcome = script("evaluate.py", *(str(tiny_run) if a == "RUN" else a for a in arguments))
    assert outcome.is_one_line("evaluate.py", *words), outcome
