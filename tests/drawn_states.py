"""States and inputs drawn by numpy, which compiles nothing: for tests of one training step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.inputs import Inputs, input_shapes
from jax_sngan.core.state import TrainState, state_shapes


def drawn(shapes: Any) -> Any:
    """Arrays of these shapes: N(0, 0.25), pixels of 0 to 255, or labels of 0 to 9."""
    rng = np.random.default_rng(0)

    def draw(a: Any) -> np.ndarray:
        if jnp.issubdtype(a.dtype, jnp.floating):
            return rng.normal(0, 0.5, a.shape).astype(a.dtype)
        return rng.integers(0, 256 if a.dtype == np.uint8 else 10, a.shape).astype(a.dtype)

    return jax.tree.map(draw, shapes)


def start(config: TrainConfig) -> tuple[TrainState, Inputs]:
    """A state with Adam's moments at zero, and a step's inputs."""
    shapes = state_shapes(config)
    zeros = {
        name: jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), getattr(shapes, name))
        for name in ("step", "generator_opt", "discriminator_opt")
    }
    return drawn(shapes)._replace(**zeros), drawn(input_shapes(config))
