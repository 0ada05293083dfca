"""Penalties on the norm of D's gradient in its images: D as a function, images in, [] out.

D is `score`: images [n, c, h, w] -> scores [n], each from its own image alone, with u and v held.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Score = Callable[[Tensor], Tensor]


def _gradients(score: Score, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(score(images).sum(), images, create_graph=True)
    return gradients.flatten(1)


def gradient_norms(score: Score, images: Tensor) -> Tensor:
    """[n] Euclidean norms of D's gradient at each of the images [n, c, h, w]; a norm of 0 has gradient 0."""
    return _gradients(score, images).norm(2, dim=1)


def distance_to_target(norms: Tensor, target: float, sides: Literal["two", "one"]) -> Tensor:
    """[] mean of (norm - target)^2 over norms [n]; one-sided: of max(norm - target, 0)^2."""
    excess = norms - target
    return (excess if sides == "two" else F.relu(excess)).square().mean()


def gradient_penalty(
    score: Score, real: Tensor, fake: Tensor, mix: Tensor, target: float = 1.0, sides: Literal["two", "one"] = "two"
) -> Tensor:
    """WGAN-GP's penalty (Gulrajani et al. 2017, Algorithm 1), without its weight; mix [n] is the real image's share."""
    mix = mix.reshape(-1, *(1,) * (real.ndim - 1))
    return distance_to_target(gradient_norms(score, mix * real + (1 - mix) * fake), target, sides)


def r1(score: Score, real: Tensor) -> Tensor:
    """[] half the mean squared norm at real images [n, c, h, w] (Mescheder et al. 2018, eq. 9), gamma left out."""
    return 0.5 * _gradients(score, real).square().sum(1).mean()


def dragan(
    score: Score,
    real: Tensor,
    noise: Tensor,
    mix: Tensor,
    target: float = 1.0,
    sides: Literal["two", "one"] = "two",
) -> Tensor:
    """DRAGAN's penalty (Kodali et al. 2017, eq. 4, in the form of their program): WGAN-GP's around real images."""
    mix = mix.reshape(-1, *(1,) * (real.ndim - 1))
    return distance_to_target(gradient_norms(score, real + mix * (0.5 * real.std(correction=0) * noise)), target, sides)
