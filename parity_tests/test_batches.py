"""More images than one call takes: sampling, standing statistics, scores, evaluation; against torch, image by image."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from torch import nn

from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.gan import as_gan
from jax_sngan.evaluation import sources
from jax_sngan.evaluation.evaluate import score_one
from jax_sngan.interop import torch_layout
from jax_sngan.metrics import frechet_distance
from jax_sngan.metrics.reference import Reference
from jax_sngan.models.network import Variables
from jax_sngan.runs.run import Run
from jax_sngan.runs.sample import CHUNK
from parity_tests.compare import assert_within, relative_error
from parity_tests.tolerances import NETWORK_F64
from parity_tests.trees import assert_agree, load_module, random_variables
from torch_ref.models.network import build

NUM = 2 * CHUNK + 5
CLASSES = 3
GIVEN = np.random.default_rng(5).integers(0, CLASSES, NUM)  # classes in no order
CONFIG = replace(
    TrainConfig(),
    {
        "model.image_size": 28, "model.channels": 1, "model.latent_size": 4, "model.generator_width": 2,
        "model.discriminator_width": 2, "model.dtype": "float64",
    },
)  # fmt: skip


def pair(classes: int) -> tuple[Run, dict[str, nn.Module]]:
    """A run after some training, and torch's networks of the same weights."""
    config = replace(CONFIG, {"model.num_classes": classes})
    rng, found = np.random.default_rng(0), dict[str, Variables]()
    modules = build(config.model)._asdict()
    for network, module in modules.items():
        found[network] = random_variables(config.model, network, rng)
        load_module(module, torch_layout.variables_to_torch(config.model, network, found[network]))

    def nothing() -> Any: ...

    run = Run(config, as_gan(config), 7, found["generator"], lambda: found["discriminator"], nothing, nothing)
    return run, modules


def one_by_one(module: nn.Module, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """torch's results in evaluation, each of a batch of one."""
    module.eval()
    with torch.no_grad():
        made = [
            module(torch.from_numpy(x[i : i + 1].copy()), None if labels is None else torch.tensor(labels[i : i + 1]))
            for i in range(len(x))
        ]
    return torch.cat(made).numpy()


def images_of(module: nn.Module, latents: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Pixels [n, h, w, c] from 0 to 255, not rounded."""
    return (torch_layout.images_from_torch(one_by_one(module, latents, labels)) + 1) * 127.5


def in_turn(num: int, classes: int) -> np.ndarray | None:
    return np.arange(num) % classes if classes else None


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_sampling(classes: int) -> None:
    run, modules = pair(classes)
    latents = run.latents(NUM, seed=3)
    expected = images_of(modules["generator"], latents, in_turn(NUM, classes))
    assert_within(relative_error(run.pixels(latents), expected), NETWORK_F64)
    images = run.sample(NUM, seed=3)
    assert images.dtype == np.uint8
    assert np.abs(images - expected).max() <= 0.5 + 1e-9  # rounded to the next
    if classes:
        expected = images_of(modules["generator"], latents, GIVEN)
        assert_within(relative_error(run.pixels(latents, GIVEN), expected), NETWORK_F64)


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_scores(classes: int) -> None:
    run, modules = pair(classes)
    images = np.random.default_rng(1).integers(0, 256, (NUM, 28, 28, 1), np.uint8)
    seen = torch_layout.images_to_torch(images / 127.5 - 1)
    labels = GIVEN if classes else None
    expected = one_by_one(modules["discriminator"], seen, labels)
    assert_within(relative_error(run.score(images, labels), expected), NETWORK_F64)


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_standing_statistics(classes: int) -> None:
    """The mean over batches of 64 of what torch's BatchNorm has seen: a momentum of 1 keeps nothing of the old."""
    run, modules = pair(classes)
    module = modules["generator"]
    num = 3 * CHUNK
    latents, labels = run.latents(num, 2**31), in_turn(num, classes)
    norms = [m for m in module.modules() if hasattr(m, "running_mean")]
    for norm in norms:
        norm.momentum = 1.0
    seen: list[dict[str, np.ndarray]] = []
    module.train()
    with torch.no_grad():
        for start in range(0, num, CHUNK):
            part = None if labels is None else torch.tensor(labels[start : start + CHUNK])
            module(torch.from_numpy(latents[start : start + CHUNK].copy()), part)
            seen.append({n: b.numpy().copy() for n, b in module.named_buffers() if "running" in n})
    expected = {name: np.mean([s[name] for s in seen], axis=0) for name in seen[0]}
    made = run.standing(num)
    found = torch_layout.variables_to_torch(run.config.model, "generator", jax.tree.map(np.asarray, made.variables))
    assert_agree({name: found[name] for name in expected}, expected, NETWORK_F64)
    module.load_state_dict({n: torch.from_numpy(a) for n, a in expected.items()}, strict=False)
    pixels = images_of(module, latents[:3], None if labels is None else labels[:3])
    assert_within(relative_error(made.pixels(latents[:3]), pixels), NETWORK_F64)


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_evaluation(classes: int, squares: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of images that were made and scored batch by batch are those of torch's, made one by one."""
    monkeypatch.setattr(sources, "BATCH", CHUNK)
    run, modules = pair(classes)
    given = sources.Subject(run.gan, None, 7, run.images, name="a run")
    latents, labels = run.latents(NUM, seed=4), in_turn(NUM, classes)
    images = np.rint(images_of(modules["generator"], latents, labels)).astype(np.uint8)
    parts = list(given.batches(NUM, 4))
    assert [len(p) for p, _ in parts] == [CHUNK, CHUNK, 5]
    np.testing.assert_array_equal(np.concatenate([p for p, _ in parts]), images)
    if classes:
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), labels)
    features, _ = squares.extract(images)
    real = np.random.default_rng(2).normal(100, 20, (300, 16))
    reference = Reference("noise", real, np.arange(300) % 3, CLASSES)
    found = score_one(given, reference, squares, ["fcd"], NUM, 4, progress=False)
    (value,) = found.values()
    assert value == pytest.approx(frechet_distance(real, features), rel=1e-9)
