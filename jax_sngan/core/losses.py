"""Adversarial losses: raw scores [n] -> loss []. A pair has one function for D and one for G."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


def relativistic_hinge_d(real: Array, fake: Array) -> Array:
    """D's relativistic average hinge loss (Jolicoeur-Martineau 2018, RaHingeGAN): [n], [m] scores -> []; 2 at zero.

    Each score is taken less the mean of the other kind's: how much more real than a typical image of the other kind.
    """
    _check(real, fake)
    return jnp.mean(jax.nn.relu(1 - (real - jnp.mean(fake)))) + jnp.mean(jax.nn.relu(1 + (fake - jnp.mean(real))))


def relativistic_hinge_g(real: Array, fake: Array) -> Array:
    """G's relativistic average hinge loss (Jolicoeur-Martineau 2018): D's with the two kinds exchanged."""
    return relativistic_hinge_d(fake, real)


def relativistic_non_saturating_d(real: Array, fake: Array) -> Array:
    """D's relativistic average cross entropy (Jolicoeur-Martineau 2018, RaSGAN): [n], [m] logits -> []; 2 log 2 at 0.

    The cross entropy of each logit less the mean of the other kind's.
    """
    _check(real, fake)
    return jnp.mean(jax.nn.softplus(jnp.mean(fake) - real)) + jnp.mean(jax.nn.softplus(fake - jnp.mean(real)))


def relativistic_non_saturating_g(real: Array, fake: Array) -> Array:
    """G's relativistic average cross entropy (Jolicoeur-Martineau 2018): D's with the two kinds exchanged."""
    return relativistic_non_saturating_d(fake, real)


def _check(*scores: Array) -> None:
    for s in scores:
        if s.ndim != 1:
            raise ValueError(f"scores must be one-dimensional, got shape {s.shape}")


@dataclass(frozen=True)
class Loss:
    """A game: what D and what G make small, of raw scores.

    Attributes:
      d: (real [n], fake [m]) -> [].
      g: (real [n], fake [m]) -> []; real is None where g_sees_real is false.
      g_sees_real: D scores the step's last real batch in the G update too: one pass, and one power iteration, more.
      images_apart: d is a mean over the batch of terms of one image each, so that the devices of a mesh may each take
        their own images' and the mean of that be taken, and a CPU one part of a large batch after another. False is
        right for any loss, communicates more and takes more memory.
      boundary: the score above which D takes an image for real, by which its accuracy is logged; None where one score
        by itself says nothing.
    """

    d: Callable[[Array, Array], Array]
    g: Callable[[Any, Array], Array]
    g_sees_real: bool = True
    images_apart: bool = False
    boundary: float | None = 0.0


def _of_fake(d: Callable[[Array, Array], Array], g: Callable[[Array], Array], boundary: float | None = 0.0) -> Loss:
    """The game in which G's loss is of its own images' scores alone."""

    def of_fake(real: Array | None, fake: Array) -> Array:
        del real
        return g(fake)

    return Loss(d, of_fake, g_sees_real=False, images_apart=True, boundary=boundary)


LOSSES = {
    "hinge": _of_fake(hinge_d, hinge_g),
    "minimax": _of_fake(non_saturating_d, minimax_g),
    "non_saturating": _of_fake(non_saturating_d, non_saturating_g),
    "non_saturating_eps": _of_fake(non_saturating_d, non_saturating_eps_g),
    "wasserstein": _of_fake(wasserstein_d, wasserstein_g, boundary=None),
    "least_squares": _of_fake(least_squares_d, least_squares_g, boundary=0.5),
    "relativistic_hinge": Loss(relativistic_hinge_d, relativistic_hinge_g, boundary=None),
    "relativistic_non_saturating": Loss(relativistic_non_saturating_d, relativistic_non_saturating_g, boundary=None),
}
