"""Adversarial losses: raw scores [n] -> loss []. A pair has one function for D and one for G."""

from collections.abc import Callable
from typing import NamedTuple

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


def _check(*scores: Tensor) -> None:
    for s in scores:
        if s.ndim != 1:
            raise ValueError(f"scores must be one-dimensional, got shape {tuple(s.shape)}")


class GanLoss(NamedTuple):
    """One game's two losses."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


LOSSES = {
    "hinge": GanLoss(hinge_d, hinge_g),
    "minimax": GanLoss(non_saturating_d, minimax_g),
    "non_saturating": GanLoss(non_saturating_d, non_saturating_g),
    "non_saturating_eps": GanLoss(non_saturating_d, non_saturating_eps_g),
    "wasserstein": GanLoss(wasserstein_d, wasserstein_g),
    "least_squares": GanLoss(least_squares_d, least_squares_g),
}
