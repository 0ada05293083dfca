"""Replays a recording of a public SN-GAN program with the project's own training step, in float64."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jax_sngan.config.schema import ModelConfig, replace
from jax_sngan.core.state import first_state
from jax_sngan.core.step import train_step
from jax_sngan.interop import public_programs
from jax_sngan.interop.recording import NETWORKS, Recording
from jax_sngan.interop.torch_layout import Flat
from jax_sngan.models.network import build


class Deviation(NamedTuple):
    """The largest absolute error of a group, infinite where a number is not finite, and the array that has it."""

    error: float
    name: str


class Replay(NamedTuple):
    """What a replay found."""

    deviations: dict[str, Deviation]  # by group
    loss_errors: list[float]  # the largest of each step

    @property
    def error(self) -> float:
        """The largest of all groups."""
        return max(d.error for d in self.deviations.values())


def replay(recording: Recording) -> Replay:
    """Runs every recorded step, at the highest precision, and compares all that the program left behind."""
    config = replace(recording.config, {"precision": "highest"})
    found: Flat = {}
    with jax.enable_x64(True):
        # Copies: a donated state must not hold one buffer twice.
        state = first_state(config, *(jax.tree.map(jnp.array, recording.before[network]) for network in NETWORKS))
        step = train_step(config)
        d_losses, g_losses = [], []
        for k in tqdm(range(len(recording.inputs.g_latents)), unit="step", leave=False, disable=None):
            state, logs = step(state, jax.tree.map(lambda a, k=k: jnp.array(a[k]), recording.inputs))
            d_losses.append(np.asarray(logs["d_loss"]))
            g_losses.append(np.asarray(logs["g_loss"]))
        found |= {"losses/d": np.stack(d_losses), "losses/g": np.stack(g_losses)}
        for network, short in NETWORKS.items():
            variables = jax.tree.map(np.asarray, getattr(state, network))
            arrays = public_programs.write(recording.program, config.model, network, variables)
            found |= {f"final/{short}/{name}": a for name, a in arrays.items()}
        draw = _draw(config.model)
        found["sample/images"] = np.asarray(draw(state.generator, recording.sample_latents, recording.sample_labels)[0])
    expected = recording.expected["losses"]
    by_step = [max(largest_error(found[name][k], expected[name][k]) for name in expected) for k in range(len(g_losses))]
    return Replay({group: _deviation(found, arrays) for group, arrays in recording.expected.items()}, by_step)


def _deviation(found: Flat, expected: Flat) -> Deviation:
    return max(Deviation(largest_error(found[name], a), name) for name, a in expected.items())


@lru_cache(maxsize=4)
def _draw(config: ModelConfig) -> Callable[..., Any]:
    return jax.jit(jax.default_matmul_precision("highest")(partial(build(config).generator.apply, train=False)))


def largest_error(found: np.ndarray, expected: np.ndarray) -> float:
    """max|found - expected|; infinite where shapes differ or something is not finite."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0.0))


def as_json(recording: Recording, found: Replay, tolerance: float) -> dict[str, Any]:
    """The result of a replay as plain values; an error that is not finite is null."""

    def number(error: float) -> float | None:
        return error if math.isfinite(error) else None

    return {
        "program": recording.program,
        "max_abs_error": {group: number(d.error) for group, d in found.deviations.items()},
        "worst": {group: d.name for group, d in found.deviations.items()},
        "loss_error_by_step": [number(e) for e in found.loss_errors],
        "tolerance": tolerance,
        "passed": found.error <= tolerance,
        "steps": len(found.loss_errors),
        "loss": recording.config.loss,
        "image_size": recording.config.model.image_size,
        "num_classes": recording.config.model.num_classes,
    }


def table(recording: Recording, found: Replay, tolerance: float) -> str:
    """The result of a replay for a person."""
    config, model = recording.config, recording.config.model
    schedule = config.generator_optimizer.schedule
    lines = [
        public_programs.PROGRAMS[recording.program].title,
        f"{model.image_size} pixels, widths {model.generator_width} and {model.discriminator_width}, "
        f"{f'{model.num_classes} classes' if model.num_classes else 'unconditional'}, {config.loss} loss, "
        f"{schedule} learning rate; {len(found.loss_errors)} steps of {config.n_dis} D updates and a G update",
        "",
        f"{'':12}  largest absolute error",
        *(f"{group:12}  {d.error:<9.1e}  {d.name}" for group, d in found.deviations.items()),
        "",
        f"{'PASS' if found.error <= tolerance else 'FAIL'}: the largest is {found.error:.1e}, allowed {tolerance:.0e}",
    ]
    return "\n".join(lines)
