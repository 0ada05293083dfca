"""Folders of runs with all that a long training would have left there, made in a moment: nothing is trained."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.config.schema import TrainConfig, to_dict
from jax_sngan.runs import pictures
from jax_sngan.runs.provenance import provenance

LAYERS = ("hidden.0", "hidden.1", "score")
SCORE = "fcd_5k_test"


def write_logged_run(
    workdir: Path,
    config: TrainConfig,
    *,
    framework: str = "jax",
    every: int = 10,
    layers: tuple[str, ...] = LAYERS,
    origin: dict[str, Any] | None = None,
) -> Path:
    """A run's folder: options, a log with the numbers of `--log-level full`, pictures, a checkpoint without arrays."""
    steps = range(every, config.steps + 1, every)
    rng = np.random.default_rng(config.seed)
    lines = []
    for step in steps:
        t, noise = step / config.steps, float(rng.normal()) * 0.05
        line = {
            "d_loss": 2 - t + noise, "g_loss": t - noise, "d_real": 0.3 + t, "d_fake": -0.3 - t, "d_real_std": 0.5,
            "d_fake_std": 0.6 + noise, "d_accuracy_real": 0.5 + t / 3, "d_accuracy_fake": 0.5 + t / 4, "penalty": 0.1,
            "g_grad_norm": 10 ** (-2 * t), "d_grad_norm": 1.5 + noise, "g_update_norm": 1e-3, "d_update_norm": 2e-3,
            "g_learning_rate": 2e-4 * (1 - t), "d_learning_rate": 4e-4, "g_average_distance": math.exp(-3 * t),
            "images_per_second": 900 + 20 * noise, "memory_mb": 512.0, "g_spread": 1 - t / 2,
            "data_wait_s": 0.001, "my_number": step**2,
        }  # fmt: skip
        for i, layer in enumerate(layers):
            line |= {f"d_sigma/{layer}": 1 + i + t, f"d_singular_value/{layer}": 1 + i + 1.1 * t}
            line |= {f"d_grad_norm/{layer}": 0.5 + i, f"g_update_norm/{layer}": 1e-3 * (1 + i)}
        lines.append({"step": step} | line)
        if step % (5 * every) == 0 or step == config.steps:
            score = 80 * math.exp(-2 * t) + noise
            lines.append({"step": step, SCORE: score, f"{SCORE}_raw": score * 1.1, "classes_5k_test": 9.0})
            grey = (np.clip(rng.normal(128, 90 * t + 10, (64, 28, 28, 1)), 0, 255)).astype(np.uint8)
            pictures.save_grid(workdir / "samples" / f"{step:06d}.png", grey)
    pictures.save_training(workdir / "samples", config.steps)
    (workdir / "config.json").write_text(json.dumps(to_dict(config)))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checkpoint = workdir / "checkpoints" / str(config.steps)
    checkpoint.mkdir(parents=True)
    data = {"summary": "fashion: 10,000 images, 28 x 28 x 1, 10 classes", "sha256": "ab" * 32}
    told = origin or provenance(framework, data, "1 x cpu (cpu)")
    if framework == "torch":
        (checkpoint / "state.pt").touch()
        (checkpoint / "provenance.json").write_text(json.dumps(told))
    else:
        (checkpoint / "_CHECKPOINT_METADATA").touch()
        items: dict[str, Any] = {"config": to_dict(config), "metrics": {}, "unlogged": {"steps": []}}
        for name, item in (items | {"provenance": told}).items():
            (checkpoint / name).mkdir()
            (checkpoint / name / "metadata").write_text(json.dumps(item))
    return workdir
