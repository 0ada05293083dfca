"""Spectral normalisation: PyTorch's own, chosen by options; and Algorithm 1 written out, to be read beside it.

Miyato et al. 2018, Algorithm 1. Layers use torch.nn.utils alone; the functions here are what it is compared with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from jax_sngan.config.spectral_norm import SpectralNormConfig

WARMUP = 15  # power iterations that torch.nn.utils.parametrizations.spectral_norm makes when it is registered


def normalize(x: Tensor, eps: float = 1e-12, eps_form: Literal["max", "add"] = "max") -> Tensor:
    """x [d] over its norm; eps guards a zero vector: max(|x|, eps) as torch, |x| + eps as Chainer."""
    norm = (x * x).sum().sqrt()
    return x / (norm.clamp(min=eps) if eps_form == "max" else norm + eps)


@torch.no_grad()
def power_iteration(
    matrix: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    iterations: int = 1,
    order: Literal["v_first", "u_first"] = "v_first",
    eps: float = 1e-12,
    eps_form: Literal["max", "add"] = "max",
) -> tuple[Tensor, Tensor]:
    """matrix [out, rest], u [out], v [rest] -> (u, v) turned towards the first singular vectors, without gradients."""
    for _ in range(iterations):
        if order == "u_first":
            u = normalize(matrix @ v, eps, eps_form)
        v = normalize(matrix.T @ u, eps, eps_form)
        if order == "v_first":
            u = normalize(matrix @ v, eps, eps_form)
    return u, v


def estimate_sigma(matrix: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """[] u^T W v, the estimate of the largest singular value; gradients flow through W alone."""
    return torch.dot(u.detach(), matrix @ v.detach())


def spectral_normalize(matrix: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """matrix [out, rest] over its estimated largest singular value u^T W v (Miyato et al. 2018, eq. 8)."""
    return matrix / estimate_sigma(matrix, u, v)


def add_spectral_norm(layer: nn.Module, options: SpectralNormConfig | None, *, dim: int = 0) -> None:
    """Puts PyTorch's spectral norm on layer.weight; `dim` is the weight's axis of outputs.

    order v_first is torch.nn.utils.spectral_norm, u_first is torch.nn.utils.parametrizations.spectral_norm.

    Raises:
      NotImplementedError: PyTorch has no such spectral norm.
    """
    if options is None:
        return
    warmup = WARMUP if options.order == "u_first" else 0
    for name, value, only in (
        ("eps_form", options.eps_form, "max"),
        ("init", options.init, "unit"),
        ("evaluation", options.evaluation, "stored"),
        ("warmup", options.warmup, warmup),
    ):
        if value != only:
            raise NotImplementedError(
                f"PyTorch's spectral norm with order {options.order} has {name} {only}, not {value}"
            )
    by_torch = nn.utils.spectral_norm if options.order == "v_first" else nn.utils.parametrizations.spectral_norm
    by_torch(layer, n_power_iterations=options.iterations, eps=options.eps, dim=dim)


def spectral_state(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the network's u and v by name."""
    vectors = ("weight_u", "weight_v", "parametrizations.weight.0._u", "parametrizations.weight.0._v")
    return {name: b.clone() for name, b in network.named_buffers() if name.endswith(vectors)}


def load_spectral_state(network: nn.Module, vectors: dict[str, Tensor]) -> None:
    """The inverse: new tensors, since a graph may still hold the old ones."""
    for name, vector in vectors.items():
        layer, _, last = name.rpartition(".")
        network.get_submodule(layer)._buffers[last] = vector.clone()


@contextmanager
def held(network: nn.Module) -> Iterator[None]:
    """Training passes inside leave u and v as they are."""
    norms: list[Any] = [
        hook for m in network.modules() for hook in m._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)
    ]
    norms += [m for m in network.modules() if isinstance(m, _SpectralNorm)]
    before = [norm.n_power_iterations for norm in norms]
    for norm in norms:
        norm.n_power_iterations = 0
    try:
        yield
    finally:
        for norm, iterations in zip(norms, before, strict=True):
            norm.n_power_iterations = iterations
