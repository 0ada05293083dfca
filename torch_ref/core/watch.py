"""The numbers that a training step tells of itself beside its losses (docs/watching.md has their names).

What is here is a part of the step; what costs more is computed by core/observer.py, after the steps that are logged.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torch_ref.core.losses import Loss

Logs = dict[str, Tensor]


def of_scores(loss: Loss, real: Tensor, fake: Tensor) -> Logs:
    """Of D's scores, real [n] and fake [m], what may be averaged over parts of a batch: d_real and d_fake, their means.

    Also the two moments that spreads() makes a standard deviation of; and, where the loss has a boundary, the shares of
    either kind that lie on their side of it: d_accuracy_real, d_accuracy_fake.
    """
    logs: Logs = {}
    for name, scores in (("d_real", real), ("d_fake", fake)):
        mean = scores.mean()
        logs |= {name: mean, f"{name}_within": (scores - mean).square().mean(), f"{name}_square": mean.square()}
    if loss.boundary is not None:
        logs["d_accuracy_real"] = (real > loss.boundary).to(real.dtype).mean()
        logs["d_accuracy_fake"] = (fake < loss.boundary).to(fake.dtype).mean()
    return logs


def spreads(logs: Logs) -> Logs:
    """of_scores' means over all parts, with d_real_std and d_fake_std of the whole batch in the place of their moments.

    The variance of a batch is the mean of its parts' variances and the variance of its parts' means.
    """
    logs = dict(logs)
    for name in ("d_real", "d_fake"):
        between = logs.pop(f"{name}_square") - logs[name].square()
        logs[f"{name}_std"] = (logs.pop(f"{name}_within") + between.clamp(min=0)).sqrt()
    return logs


def copies(network: nn.Module) -> dict[str, Tensor]:
    """A network's parameters before an update, for norms()."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


@torch.no_grad()
def norms(letter: str, network: nn.Module, before: dict[str, Tensor], *, by_layer: bool = False) -> Logs:
    """Euclidean norms of an update: of the gradient of all parameters, and of their change (clipping included).

    Args:
      letter: of the network, g or d.
      network: after the update; its gradients are there.
      before: its parameters before it, copies().
      by_layer: the norms of each layer too, a layer being what holds its own kernel and bias.
    Returns:
      {"g_grad_norm": [], "g_update_norm": []}, and with by_layer g_grad_norm/LAYER, g_update_norm/LAYER.
    """
    # A parameter that the loss doesn't reach has no gradient.
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()}
    change = {name: p - before[name] for name, p in network.named_parameters()}
    logs = {}
    for name, tensors in (("grad_norm", gradients), ("update_norm", change)):
        logs[f"{letter}_{name}"] = norm(tensors.values())
        if by_layer:
            logs |= {f"{letter}_{name}/{layer}": norm(own) for layer, own in layers(tensors).items()}
    return logs


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """[] Euclidean norm of all numbers of some tensors."""
    return torch.nn.utils.get_total_norm(list(tensors))


def layers(tensors: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Parameters by the layer that holds them."""
    found: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        owner = name.replace(".parametrizations.weight.original", ".weight").rpartition(".")[0]
        found.setdefault(owner, []).append(tensor)
    return found


def average_distance(average: dict[str, Tensor], network: nn.Module) -> Tensor:
    """[] how far the averaged generator is from the raw one: the norm of their difference over the raw one's."""
    params = {name: p.detach() for name, p in network.named_parameters()}
    return norm([average[name] - p for name, p in params.items()]) / norm(params.values())
