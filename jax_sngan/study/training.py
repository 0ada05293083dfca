"""Runs of the study: a config and its data in, figures and arrays for pictures out."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jax_sngan.config.schema import ModelConfig, RunConfig, TrainConfig
from jax_sngan.core.gan import as_gan
from jax_sngan.core.inputs import sample_latents
from jax_sngan.core.pixels import to_float
from jax_sngan.core.state import TrainState, create_state
from jax_sngan.data import datasets as data_sets
from jax_sngan.data.datasets import Dataset
from jax_sngan.data.mixtures import MIXTURES
from jax_sngan.lipschitz.certificate import Certificate, certificate
from jax_sngan.metrics import classifier, frechet_distance
from jax_sngan.metrics.divergences import js_divergence, shared_histograms, wasserstein
from jax_sngan.metrics.modes import ModeScores, image_modes, point_modes, stacked_modes
from jax_sngan.models.network import build
from jax_sngan.runs.sample import averaged, generate
from jax_sngan.study.plan import REMEDIES, Run, train_config
from jax_sngan.training.loop import Numbers
from jax_sngan.training.task import Task
from jax_sngan.training.trainer import train_in_memory

POINTS_SCORED = 2500  # as VEEGAN and PacGAN count modes
POINTS_ASSIGNED = 1000  # of the exact Wasserstein distance
CELLS = 50  # along each axis, of the histograms that the Jensen-Shannon divergence compares
FRAMES, CERTIFICATES = 24, 8  # of a run
BLOCKS = 40  # calls of the device in a run
FRAME_POINTS = 500
FIELD = 41  # points along each axis where D and its gradient are drawn
FIELD_REACH = 2.0
IMAGE_BATCH = 200  # pictures that are generated together
CONFIDENCE = 0.9  # least probability of its class that makes an image one of high quality
SHOWN = 40  # images of a sample grid

Result = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def points(run: Run) -> Result:
    """A run in the plane.

    Returns:
      Figures for a row, and arrays: frames [frames, n, 2] and frame_steps, sample [n, 2], losses [steps, 2] (d, g),
      slopes [certificates, 5] (step, lower and upper bound, mean gradient norm at real and at generated points),
      covered [frames], field [g, g] of D's scores and gradient [g, g, 2].
    """
    config, mixture, started = train_config(run), MIXTURES[run.data](), time.monotonic()
    data = _share(data_sets.load_data(run.data, image_size=1, channels=2), run)
    truth = mixture.sample(POINTS_SCORED, seed=2)[0]
    latents = sample_latents(1000 + run.seed, POINTS_SCORED, config.model.latent_size, jnp.dtype(config.model.dtype))
    frame_steps = _moments(config.steps, FRAMES)
    slope_steps = _moments(config.steps, CERTIFICATES)
    frames, covered, slopes = [], [], []

    def look(step: int, state: TrainState) -> None:
        xy = np.asarray(generate(config, state.generator, latents, None)).reshape(-1, 2)
        if step in frame_steps:
            frames.append(xy[:FRAME_POINTS])
            covered.append(point_modes(xy, mixture.centres, mixture.std).covered)
        if step in slope_steps:
            found = slope(config, state, truth[:256].reshape(-1, 1, 1, 2), xy[:256].reshape(-1, 1, 1, 2), box=None)
            mean = (None, None) if found is None else (found.mean["real"], found.mean["fake"])
            slopes.append([step, *_bounds(found), *mean])

    stops = sorted({*frame_steps, *slope_steps})
    state, losses = train(config, data, stops, look, together=_together(config.steps))
    sample = np.asarray(generate(config, state.generator, latents, None)).reshape(-1, 2)
    modes = point_modes(sample, mixture.centres, mixture.std)
    finite = bool(np.isfinite(sample).all())
    distances: dict[str, float | None] = {"js": None, "wasserstein": None}
    if finite:
        # Cells of the plane where the data are; what lies outside counts to the cell at the edge.
        inside = np.clip(sample, -FIELD_REACH, FIELD_REACH)
        distances["js"] = js_divergence(*shared_histograms(truth, inside, CELLS))
        distances["wasserstein"] = wasserstein(truth[:POINTS_ASSIGNED], sample[:POINTS_ASSIGNED])
    values, gradients = field_of(config, state)
    track = np.array(slopes, np.float64)
    figures = _counted(config, modes) | distances
    figures |= {"lipschitz_lower": _plain(track[-1, 1]), "lipschitz_upper": _plain(track[-1, 2])}
    figures |= {"gradient_real": _plain(track[-1, 3]), "gradient_generated": _plain(track[-1, 4]), "finite": finite}
    figures["seconds"] = round(time.monotonic() - started, 2)
    arrays = {
        "frames": np.array(frames, np.float32),
        "frame_steps": np.array(frame_steps),
        "covered": np.array(covered),
        "sample": sample.astype(np.float32),
        "losses": losses,
        "slopes": track,
        "field": values,
        "gradient": gradients,
    }
    return figures, arrays


def images(run: Run) -> Result:
    """A run on images, scored by the package's own classifier.

    Returns:
      Figures for a row, and arrays: grid uint8 [n, h, w, c], losses [steps, 2], shares [classes or modes].
    """
    config, started = train_config(run), time.monotonic()
    m = config.model
    whole = data_sets.load_data(run.data, image_size=m.image_size, channels=m.channels)
    judge = classifier.load_classifier("fashion", image_size=m.image_size)
    state, losses = train(config, _share(whole, run), [], lambda step, state: None, together=1)
    generator = averaged(state.generator, state.generator_ema)
    latents = sample_latents(1000 + run.seed, run.spec["samples"], m.latent_size, jnp.dtype(m.dtype))
    parts = [latents[i : i + IMAGE_BATCH] for i in range(0, len(latents), IMAGE_BATCH)]
    made = np.concatenate([np.asarray(generate(config, generator, z, None)) for z in parts])
    figures: dict[str, Any] = {}
    if m.channels == 3:
        digits = np.bincount(whole.labels, minlength=1000) / len(whole)
        modes = stacked_modes(
            [judge.probabilities(made[..., c : c + 1]) for c in range(3)], confidence=CONFIDENCE, true_shares=digits
        )
    else:
        features, probabilities = judge(made)
        true_shares = np.bincount(whole.labels, minlength=10) / len(whole)
        modes = image_modes(probabilities, confidence=CONFIDENCE, minimum=len(made) // 100, true_shares=true_shares)
        real = judge.features(whole.images[: len(made)])
        figures["fcd"] = frechet_distance(real, features) if len(made) > features.shape[1] else None
    figures |= _counted(config, modes)
    count = min(256, len(made), len(whole))
    real_floats, fake_floats = (
        np.asarray(to_float(jnp.asarray(x[:count]), jnp.dtype(m.dtype))) for x in (whole.images, made)
    )
    found = slope(config, state, real_floats, fake_floats, box=(-1.0, 1.0))
    figures |= dict(zip(("lipschitz_lower", "lipschitz_upper"), map(_plain, _bounds(found)), strict=True))
    figures["gradient_real"] = None if found is None else found.mean["real"]
    figures["gradient_generated"] = None if found is None else found.mean["fake"]
    figures |= {"finite": bool(np.isfinite(losses).all()), "seconds": round(time.monotonic() - started, 2)}
    return figures, {"grid": made[:SHOWN], "losses": losses, "shares": modes.shares}


def train(
    config: TrainConfig,
    data: Dataset,
    stops: list[int],
    look: Callable[[int, TrainState], None],
    *,
    together: int,
) -> tuple[TrainState, NDArray[np.float32]]:
    """Trains from a fresh state, in memory (training/trainer.py), to the end even where a number is not finite.

    Args:
      stops: steps, multiples of `together` or the last, after which look(step, state) is called; 0: the fresh state.
      together: steps of one call of the device.
    Returns:
      The last state, and the losses [steps, 2] of D (in its last update of a step) and G.
    """
    losses: list[list[NDArray[np.float32]]] = []

    def watch(step: int, state: TrainState, numbers: list[Numbers]) -> None:
        losses.extend([of_step["d_loss"][-1], of_step["g_loss"]] for of_step in numbers)
        if step in stops:
            look(step, state)

    if 0 in stops:
        look(0, create_state(config))
    quiet = RunConfig(log_every=config.steps, sample_every=0, checkpoint_every=0, dispatch=together)
    state = train_in_memory(Task(config, quiet, as_gan(config), data=data), watch=watch).state
    return state, np.array(losses, np.float32)


def slope(
    config: TrainConfig, state: TrainState, real: NDArray[Any], fake: NDArray[Any], *, box: tuple[float, float] | None
) -> Certificate | None:
    """Bounds of D's Lipschitz constant, or None where a number is not finite."""
    finite = all(bool(np.isfinite(x).all()) for x in (*jax.tree.leaves(state.discriminator), fake))
    if not finite:
        return None
    return certificate(config.model, state.discriminator, real, fake, steps=10, box=box)


def field_of(config: TrainConfig, state: TrainState) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """D's scores [g, g] on a square lattice of the plane, row by row upwards, and their gradient [g, g, 2]."""
    axis = np.linspace(-FIELD_REACH, FIELD_REACH, FIELD, dtype=np.float32)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 1, 2)
    values, gradients = _scores(config.model, config.precision)(state.discriminator, plane)
    return np.asarray(values).reshape(FIELD, FIELD), np.asarray(gradients).reshape(FIELD, FIELD, 2)


@lru_cache(maxsize=8)
def _scores(model: ModelConfig, precision: str) -> Any:
    network = build(model).discriminator

    def scores(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            each = network.apply(variables, x, train=False)[0]
            return jnp.sum(each), each

        with jax.default_matmul_precision(precision):
            (_, each), gradients = jax.value_and_grad(total, has_aux=True)(x)
        return each, gradients

    return jax.jit(scores)


def _share(data: Dataset, run: Run) -> Dataset:
    """The part of the data that a remedy leaves, the first of each class in turn as they come."""
    share = REMEDIES[run.remedy].share if run.remedy else 1.0
    kept = max(1, round(share * len(data)))
    return data if kept == len(data) else replace(data, images=data.images[:kept], labels=data.labels[:kept])


def _counted(config: TrainConfig, modes: ModeScores) -> dict[str, Any]:
    told = {k: v for k, v in modes.to_dict().items() if k != "shares"}
    return told | {"g_updates": config.steps, "d_updates": config.steps * config.n_dis}


def _moments(steps: int, count: int) -> list[int]:
    """Up to count numbers of steps from 0 to `steps`, dense at first: modes are found and lost early.

    All but the last are multiples of _together(steps), so that two compiled programs serve a run.
    """
    together = _together(steps)
    return sorted({together * round(steps / together * (i / (count - 1)) ** 1.5) for i in range(count - 1)} | {steps})


def _together(steps: int) -> int:
    """Steps of one call of the device."""
    return max(1, steps // BLOCKS)


def _bounds(found: Certificate | None) -> tuple[float | None, float | None]:
    return (None, None) if found is None else (found.lower, found.upper)


def _plain(value: Any) -> float | None:
    """A float that JSON has: None for what is not finite."""
    return float(value) if value is not None and np.isfinite(value) else None
