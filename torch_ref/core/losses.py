"""Adversarial losses: raw scores [n] -> loss []. A pair has one function for D and one for G."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's hinge loss (Miyato et al. 2018, eq. 16): [n], [m] scores -> []."""
    _check(real, fake)
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_g(fake: Tensor) -> Tensor:
    """Generator's part of the hinge loss (Miyato et al. 2018, eq. 17): [m] scores -> []."""
    _check(fake)
    return -fake.mean()


def minimax_g(fake: Tensor) -> Tensor:
    """log(1 - D(G(z))), what the minimax game gives G (Goodfellow et al. 2014, eq. 1): [m] logits -> []."""
    _check(fake)
    return F.logsigmoid(-fake).mean()


def non_saturating_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's cross entropy (Goodfellow et al. 2014, eq. 1, negated): [n], [m] logits -> []."""
    _check(real, fake)
    return -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()


def non_saturating_g(fake: Tensor) -> Tensor:
    """-log D(G(z)) (Goodfellow et al. 2014, section 3): [m] logits -> [].

    logsigmoid, since F.softplus is the identity above 20.
    """
    _check(fake)
    return -F.logsigmoid(fake).mean()


def non_saturating_eps_g(fake: Tensor) -> Tensor:
    """-log(D(G(z)) + 1e-8), as torch-mimicry writes it: [m] logits -> []."""
    _check(fake)
    return -(fake.sigmoid() + 1e-8).log().mean()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss (Arjovsky et al. 2017, eq. 2, negated): [n], [m] scores -> []."""
    _check(real, fake)
    return fake.mean() - real.mean()


def wasserstein_g(fake: Tensor) -> Tensor:
    """Generator's part of the Wasserstein loss (Arjovsky et al. 2017): [m] scores -> []."""
    _check(fake)
    return -fake.mean()


def least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    """D's squared distance to the codes 1 and 0 (Mao et al. 2017, eq. 9): [n], [m] scores -> []."""
    _check(real, fake)
    return 0.5 * F.mse_loss(real, torch.ones_like(real)) + 0.5 * F.mse_loss(fake, torch.zeros_like(fake))


def least_squares_g(fake: Tensor) -> Tensor:
    """G's squared distance to the code 1 (Mao et al. 2017, eq. 9): [m] scores -> []."""
    _check(fake)
    return 0.5 * F.mse_loss(fake, torch.ones_like(fake))


def relativistic_hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """D's relativistic average hinge loss (Jolicoeur-Martineau 2018, RaHingeGAN): [n], [m] scores -> []."""
    _check(real, fake)
    above, below = real - fake.mean(), fake - real.mean()
    return F.relu(1 - above).mean() + F.relu(1 + below).mean()


def relativistic_hinge_g(real: Tensor, fake: Tensor) -> Tensor:
    """G's relativistic average hinge loss (Jolicoeur-Martineau 2018): [n], [m] scores -> []."""
    _check(real, fake)
    above, below = real - fake.mean(), fake - real.mean()
    return F.relu(1 + above).mean() + F.relu(1 - below).mean()


def relativistic_non_saturating_d(real: Tensor, fake: Tensor) -> Tensor:
    """D's relativistic average cross entropy (Jolicoeur-Martineau 2018, RaSGAN): [n], [m] logits -> []."""
    _check(real, fake)
    above, below = real - fake.mean(), fake - real.mean()
    return -F.logsigmoid(above).mean() - F.logsigmoid(-below).mean()


def relativistic_non_saturating_g(real: Tensor, fake: Tensor) -> Tensor:
    """G's relativistic average cross entropy (Jolicoeur-Martineau 2018): [n], [m] logits -> []."""
    _check(real, fake)
    above, below = real - fake.mean(), fake - real.mean()
    return -F.logsigmoid(-above).mean() - F.logsigmoid(below).mean()


def _check(*scores: Tensor) -> None:
    for s in scores:
        if s.ndim != 1:
            raise ValueError(f"scores must be one-dimensional, got shape {tuple(s.shape)}")


@dataclass(frozen=True)
class Loss:
    """A game: D's loss d(real, fake), and G's g(real, fake), in which real is None where g_sees_real is false.

    boundary: the score above which D takes an image for real, by which its accuracy is logged; None: there is none.
    """

    d: Callable[[Tensor, Tensor], Tensor]
    g: Callable[[Any, Tensor], Tensor]
    g_sees_real: bool = True
    boundary: float | None = 0.0


def _of_fake(
    d: Callable[[Tensor, Tensor], Tensor], g: Callable[[Tensor], Tensor], boundary: float | None = 0.0
) -> Loss:
    return Loss(d, lambda real, fake: g(fake), g_sees_real=False, boundary=boundary)


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
