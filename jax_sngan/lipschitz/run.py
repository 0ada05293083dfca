"""The Lipschitz certificate of a run's checkpoint, on its own data and its own images."""

from pathlib import Path

import numpy as np

from jax_sngan.data import datasets as data_sets
from jax_sngan.evaluation.evaluate import choose_real, tell_of_path
from jax_sngan.evaluation.sources import trained_on
from jax_sngan.lipschitz.certificate import Certificate, certificate
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.sample import Generator
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system.errors import UserError


def certify_run(
    workdir: str | Path,
    *,
    step: str | int = "latest",
    num: int = 256,
    seed: int = 0,
    ascent: int = 50,
    real: str | None = None,
    data_dir: str | None = None,
) -> tuple[int, Certificate]:
    """Bounds on how steep a run's discriminator is.

    Args:
      step: latest, best, or the number of a checkpoint.
      num: real images, generated ones and points between, where the gradient is taken; the raw generator makes them,
        since it is what this discriminator was trained against.
      seed: of which real images, of the latents, and of the points between.
      ascent: steps from the steepest of them upwards; 0: none.
      real: the real images, as load_data takes them; None: what the run was trained on.
      data_dir: as for training.
    Returns:
      The step of the checkpoint, and its certificate (lipschitz/certificate.py).
    Raises:
      UserError: no such run, checkpoint or data, or a wrong number.
    """
    if num < 2:
        raise UserError(f"num must be at least 2, got {num}")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed must be from 0 to 2**32 - 1, got {seed}")
    if ascent < 0:
        raise UserError(f"ascent must be at least 0, got {ascent}")
    with Checkpoints(open_workdir(workdir)) as checkpoints:
        number, config, like, _ = checkpoints.choose(step, needs="a certificate")
        source, _ = choose_real(real, trained_on(checkpoints, number, config), "train", 0)
        state = checkpoints.restore(number, like)
    m = config.model
    if real is None:
        tell_of_path(source, str(workdir))
    data = data_sets.load_data(source, image_size=m.image_size, channels=m.channels, data_dir=data_dir)
    rows = np.random.default_rng(seed).choice(len(data), min(num, len(data)), replace=False)
    generator = Generator(config, number, state.generator)
    labels = data.labels[rows] if m.num_classes else None
    fake = generator.sample(len(rows), seed=seed, labels=labels)

    def as_seen(images: np.ndarray) -> np.ndarray:
        return images.astype(np.float64) / 127.5 - 1 if images.dtype == np.uint8 else images.astype(np.float64)

    return number, certificate(
        m,
        state.discriminator,
        as_seen(data.images[rows]),
        as_seen(fake),
        labels=labels,
        seed=seed,
        steps=ascent,
        box=None if m.is_points else (-1.0, 1.0),
    )


def table(step: int, found: Certificate) -> str:
    """A certificate for a person."""
    lines = [
        f"discriminator of step {step}",
        "",
        f"{'layer':22}{'sigma':>10}{'by SVD':>10}{'operator':>10}{'at most':>10}",
    ]
    for layer in found.layers:
        sigma = "" if layer.sigma is None else f"{layer.sigma:.4f}"
        rest = f"{layer.reshaped_sigma:10.4f}{layer.operator_norm:10.4f}{layer.operator_bound:10.4f}"
        lines.append(f"{layer.name:22}{sigma:>10}{rest}")
    lines += ["", f"{'gradient norm':22}{'mean':>10}{'largest':>10}"]
    for name, largest in found.largest.items():
        mean = f"{found.mean[name]:.4g}" if name in found.mean else ""
        lines.append(f"{name:22}{mean:>10}{largest:>10.4g}")
    lines += ["", f"{found.lower:.4g} <= Lipschitz constant <= {found.upper:.4g}"]
    return "\n".join(lines)
