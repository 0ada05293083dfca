"""Adam in its two forms, learning-rate schedules, and the moving average of the generator."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jax_sngan.config.schema import OptimizerConfig


def adam(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """torch.optim.Adam, or its epsilon-hat form; moments are zeros from the start, not from the first step."""
    kind = torch.optim.Adam if config.eps_form == "standard" else AdamEpsilonHat
    optimizer = kind(list(parameters), lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)
    for group in optimizer.param_groups:
        for p in group["params"]:
            optimizer.state[p] = {
                "step": torch.tensor(0.0, device="cpu"),  # reading one on a GPU would wait for it
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
    return optimizer


class AdamEpsilonHat(Optimizer):
    """Adam with eps beside the raw root: w <- w - rate sqrt(c2) / c1 * m / (sqrt(v) + eps), c = 1 - beta^t.

    Kingma & Ba 2015, end of section 2; chainer.optimizers.Adam.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, betas: tuple[float, float], eps: float):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients that the parameters hold; there is no closure."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                state["step"] += 1
                t = state["step"].item()
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                rate = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
                p.addcdiv_(m, v.sqrt() + group["eps"], value=-rate)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of training step `step` (from 0) in a run of `steps`; all n_dis D updates of a step share it.

    linear: constant up to decay_start, then in equal parts to 0 at `steps`, the value after the last step.
    cosine: the same ends, along half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts).
    """
    if config.schedule == "constant":
        return config.learning_rate
    span = max(steps - config.decay_start, 1)
    past = min(max(step - config.decay_start, 0), span)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * past / span))
    return config.learning_rate * (1 - past / span)


def descend(optimizer: Optimizer, rate: float) -> None:
    """One optimiser step at a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


@torch.no_grad()
def clip(module: nn.Module, bound: float) -> None:
    """Every parameter brought into [-bound, bound], in place (Arjovsky et al. 2017, Algorithm 1)."""
    for p in module.parameters():
        p.clamp_(-bound, bound)


def average_decay(decay: float, warmup: bool, step: int) -> float:
    """The decay of the average at training step `step` (from 0); warmup: min(decay, (1 + step) / (10 + step))."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


@torch.no_grad()
def moving_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * parameters, in place; never of u, v or running statistics."""
    for name, p in module.named_parameters():
        average[name].mul_(decay).add_(p, alpha=1 - decay)
