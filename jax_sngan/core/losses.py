"""Adversarial losses: raw scores [n] -> loss []. A pair has one function for D and one for G."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


def hinge_d(real: Array, fake: Array) -> Array:
    """Discriminator's hinge loss (Miyato et al. 2018, eq. 16).

    Args:
      real: [n] raw scores of real images.
      fake: [m] raw scores of generated images.
    Returns:
      [] sum of the two batch means; 2 at zero scores, 0 once every margin is met.
    Raises:
      ValueError: if either is not one-dimensional.
    """
    _check(real, fake)
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def hinge_g(fake: Array) -> Array:
    """Generator's part of the hinge loss (Miyato et al. 2018, eq. 17): [m] scores -> [] minus their mean."""
    _check(fake)
    return -jnp.mean(fake)


def minimax_g(fake: Array) -> Array:
    """log(1 - D(G(z))), what the minimax game gives G (Goodfellow et al. 2014, eq. 1): [m] logits -> [].

    Its gradient vanishes where D is sure of a fake: it saturates.
    """
    _check(fake)
    return -jnp.mean(jax.nn.softplus(fake))


def non_saturating_d(real: Array, fake: Array) -> Array:
    """D's cross entropy (Goodfellow et al. 2014, eq. 1, negated): [n], [m] logits -> []; 2 log 2 at zero."""
    _check(real, fake)
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def non_saturating_g(fake: Array) -> Array:
    """-log D(G(z)) (Goodfellow et al. 2014, section 3): [m] logits -> [] batch mean; log 2 at zero."""
    _check(fake)
    return jnp.mean(jax.nn.softplus(-fake))


def non_saturating_eps_g(fake: Array) -> Array:
    """-log(D(G(z)) + 1e-8), as torch-mimicry writes it: [m] logits -> []; flat where D is sure of a fake."""
    _check(fake)
    return -jnp.mean(jnp.log(jax.nn.sigmoid(fake) + 1e-8))


def wasserstein_d(real: Array, fake: Array) -> Array:
    """The critic's loss (Arjovsky et al. 2017, eq. 2, negated): [n], [m] scores -> [] mean fake minus mean real."""
    _check(real, fake)
    return jnp.mean(fake) - jnp.mean(real)


def wasserstein_g(fake: Array) -> Array:
    """Generator's part of the Wasserstein loss (Arjovsky et al. 2017): [m] scores -> [] minus their mean."""
    _check(fake)
    return -jnp.mean(fake)


def least_squares_d(real: Array, fake: Array) -> Array:
    """D's squared distance to the codes 1 and 0 (Mao et al. 2017, eq. 9): [n], [m] scores -> []; 1/2 at zero."""
    _check(real, fake)
    return 0.5 * jnp.mean(jnp.square(real - 1)) + 0.5 * jnp.mean(jnp.square(fake))


def least_squares_g(fake: Array) -> Array:
    """G's squared distance to the code 1 (Mao et al. 2017, eq. 9): [m] scores -> []; 1/2 at zero."""
    _check(fake)
    return 0.5 * jnp.mean(jnp.square(fake - 1))


def _check(*scores: Array) -> None:
    for s in scores:
        if s.ndim != 1:
            raise ValueError(f"scores must be one-dimensional, got shape {s.shape}")


class GanLoss(NamedTuple):
    """One game's two losses."""

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]


LOSSES = {
    "hinge": GanLoss(hinge_d, hinge_g),
    "minimax": GanLoss(non_saturating_d, minimax_g),
    "non_saturating": GanLoss(non_saturating_d, non_saturating_g),
    "non_saturating_eps": GanLoss(non_saturating_d, non_saturating_eps_g),
    "wasserstein": GanLoss(wasserstein_d, wasserstein_g),
    "least_squares": GanLoss(least_squares_d, least_squares_g),
}
