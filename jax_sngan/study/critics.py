"""What a loss's optimal discriminator estimates: trained on two known Gaussians, as they move apart.

Both have variance 1 in the plane and their means lie t apart: the Wasserstein distance is t, KL is t^2 / 2, and the
Jensen-Shannon divergence, an integral over the line of the means, nears log 2.
"""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from jax_sngan.config.schema import (
    ModelConfig,
    OptimizerConfig,
    PenaltyConfig,
    SpectralNormConfig,
    TrainConfig,
    replace,
)
from jax_sngan.core.gan import gan
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.losses import LOSSES
from jax_sngan.core.state import TrainState, first_state
from jax_sngan.core.step import discriminator_update
from jax_sngan.models.network import Network, Variables
from jax_sngan.study.plan import CRITICS, Critic, Run

BATCH, JUDGED = 256, 10_000  # points of each Gaussian in a training step, and for the estimate
CLIP, WEIGHT = 0.1, 10.0
ADAM = OptimizerConfig(learning_rate=3e-3, beta1=0.5, beta2=0.9, schedule="linear")


def true_js(t: float) -> float:
    """Jensen-Shannon divergence of N(0, 1) and N(t, 1), in nats, by the trapezoidal rule."""
    x = np.linspace(-10, t + 10, 20_001)
    p, q = (np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi) for mean in (0.0, t))
    log_middle = np.logaddexp(-(x**2) / 2, -((x - t) ** 2) / 2) - np.log(2)
    terms = p * (-(x**2) / 2 - log_middle) + q * (-((x - t) ** 2) / 2 - log_middle)
    return max(float(np.trapezoid(terms, x)) / 2, 0.0)


def estimates(run: Run) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A critic trained anew at each distance, all distances at once.

    Returns:
      {"distances", "estimate", "truth", "pull", "pull_saturating"}: the loss's estimate of 2 JSD (log 4 - loss) or of
      a multiple of the Wasserstein distance; how fast G's loss falls as its Gaussian moves towards the other (and the
      same of the loss that saturates, for the standard GAN); and no arrays.
    """
    started, critic = time.monotonic(), CRITICS[run.gan]
    distances = np.array(run.spec["distances"], np.float32)
    told = _all_distances(critic, run.spec["steps"], run.spec["width"], distances)
    value, pull, saturating = (np.asarray(a, np.float64) for a in jax.device_get(told))
    truth = [2 * true_js(float(t)) if critic.of == "jsd" else float(t) for t in distances]
    figures: dict[str, Any] = {
        "distances": distances.tolist(),
        "truth": truth,
        "estimate": value.tolist(),
        "pull": pull.tolist(),
        "pull_saturating": saturating.tolist() if critic.of == "jsd" else None,
        "seconds": round(time.monotonic() - started, 2),
    }
    return figures, {}


@partial(jax.jit, static_argnums=(0, 1, 2))
@jax.default_matmul_precision("highest")  # compared with what is known in closed form
def _all_distances(critic: Critic, steps: int, width: int, distances: Array) -> tuple[Array, Array, Array]:
    """The trainer's D update, step after step, with the moved Gaussian in the place of generated points."""
    its = gan(_config(critic, steps, width))
    networks = its.networks
    fresh = networks.discriminator.init(jax.random.key(0, impl="threefry2x32"))  # the same at every distance
    generator = networks.generator.init(jax.random.key(0, impl="threefry2x32"))  # makes nothing: no pass of it is asked

    def one(distance: Array) -> tuple[Array, Array, Array]:
        def step(state: TrainState, number: Array) -> tuple[TrainState, None]:
            keys = jax.random.split(jax.random.fold_in(jax.random.key(1, impl="threefry2x32"), number), 3)
            real, fake = _gaussian(keys[0], BATCH, jnp.zeros_like(distance)), _gaussian(keys[1], BATCH, distance)
            none = jnp.zeros((BATCH, its.latent_size))
            inputs = Inputs(real, none, none, d_keys=jax.random.key_data(keys[2]))
            state = discriminator_update(its, state, inputs, made=fake)[0]
            return state._replace(step=state.step + 1), None

        state, _ = lax.scan(step, first_state(its, generator, fresh), jnp.arange(steps))
        return _judged(critic, networks.discriminator, state.discriminator, distance)

    return jax.vmap(one)(distances)


def _config(critic: Critic, steps: int, width: int) -> TrainConfig:
    model = ModelConfig(
        architecture="mlp",
        image_size=1,
        channels=2,
        output="identity",
        generator_norm="none",
        discriminator_width=width,
        spectral_norm=SpectralNormConfig(networks="discriminator" if critic.bound == "spectral" else "none"),
    )
    config = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        passes="joint" if critic.bound == "spectral" else "separate",  # joint: one power iteration an update
        precision="highest",
        weight_clip=CLIP if critic.bound == "clip" else 0.0,
        penalty=PenaltyConfig(kind="gradient_penalty" if critic.bound == "penalty" else "none", weight=WEIGHT),
        model=model,
        discriminator_optimizer=ADAM,
    )
    return replace(config, {"loss": critic.loss})


def _judged(critic: Critic, network: Network, variables: Variables, distance: Array) -> tuple[Array, Array, Array]:
    """The estimate of the trained critic on fresh points, and how fast either of G's losses falls."""
    keys = jax.random.split(jax.random.key(2, impl="threefry2x32"))
    real, fake = _gaussian(keys[0], JUDGED, jnp.zeros_like(distance)), _gaussian(keys[1], JUDGED, distance)

    def score(x: Array) -> Array:
        return network.apply(variables, x, train=False)[0]

    def moved(loss: str, shift: Array) -> Array:
        return LOSSES[loss].g(None, score(fake + _along(shift)))

    loss = LOSSES[critic.loss].d(score(real), score(fake))
    estimate = jnp.log(jnp.asarray(4.0, loss.dtype)) - loss if critic.of == "jsd" else -loss
    still = jnp.zeros_like(distance)
    return estimate, jax.grad(partial(moved, critic.loss))(still), jax.grad(partial(moved, "minimax"))(still)


def _gaussian(key: Array, n: int, distance: Array) -> Array:
    return jax.random.normal(key, (n, 1, 1, 2), jnp.float32) + _along(distance)


def _along(distance: Array) -> Array:
    return jnp.stack([distance, jnp.zeros_like(distance)]).reshape(1, 1, 1, 2)
