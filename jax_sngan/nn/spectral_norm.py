"""Spectral normalisation: power iteration as pure functions on a matrix [out, rest], and the state that layers carry.

Miyato et al. 2018, Algorithm 1, in the forms of torch.nn.utils.spectral_norm (the default), of
torch.nn.utils.parametrizations.spectral_norm and of the authors' Chainer code (docs/parity.md).
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from jax_sngan.config.schema import SpectralNormConfig

SCOPE = "spectral_norm"  # the products that find a norm bear this name in compiled programs, and profiles


class SpectralStat(nnx.Variable):
    """u or v: carried from step to step, neither trained nor averaged."""


def normalize(x: Array, eps: float = 1e-12, eps_form: Literal["max", "add"] = "max") -> Array:
    """x [d] over its norm; eps guards a zero vector: max(|x|, eps) as torch, |x| + eps as Chainer."""
    norm = jnp.sqrt(jnp.sum(x * x))
    return x / (jnp.maximum(norm, eps) if eps_form == "max" else norm + eps)


def power_iteration(
    matrix: Array,
    u: Array,
    v: Array,
    *,
    iterations: int = 1,
    order: Literal["v_first", "u_first"] = "v_first",
    eps: float = 1e-12,
    eps_form: Literal["max", "add"] = "max",
) -> tuple[Array, Array]:
    """Turns u and v towards the first singular vectors (Miyato et al. 2018, Algorithm 1).

    Args:
      matrix: [out, rest].
      u: [out] left vector.
      v: [rest] right vector; not read when v comes first.
      iterations: how often both are renewed; 0 leaves them.
      order: v_first, v <- W^T u then u <- W v (torch.nn.utils.spectral_norm, the authors);
        u_first, u <- W v then v <- W^T u (torch.nn.utils.parametrizations.spectral_norm).
      eps, eps_form: see normalize.
    Returns:
      (u, v), constants to differentiation.
    """
    matrix, u, v = (lax.stop_gradient(a) for a in (matrix, u, v))
    for _ in range(iterations):
        if order == "u_first":
            u = normalize(_matvec(matrix, v), eps, eps_form)
        v = normalize(_matvec(matrix.T, u), eps, eps_form)
        if order == "v_first":
            u = normalize(_matvec(matrix, v), eps, eps_form)
    return u, v


def estimate_sigma(matrix: Array, u: Array, v: Array) -> Array:
    """[] u^T W v, the estimate of the largest singular value; gradients flow through W alone."""
    return jnp.sum(lax.stop_gradient(u) * _matvec(matrix, lax.stop_gradient(v)))


def spectral_normalize(matrix: Array, u: Array, v: Array) -> Array:
    """matrix [out, rest] over its estimated largest singular value u^T W v (Miyato et al. 2018, eq. 8)."""
    return matrix / estimate_sigma(matrix, u, v)


def _matvec(matrix: Array, vector: Array) -> Array:
    # Full precision also where the backend's default is lower (TF32, bfloat16 passes): sigma scales every output.
    # A row times the transpose: a kernel [..., out] holds the matrix transposed, and W v would copy it on CPU.
    with jax.named_scope(SCOPE):
        return jnp.matmul(vector[None], matrix.T, precision=lax.Precision.HIGHEST)[0]


class SpectralNorm(nnx.Module):
    """One layer's u and v, and the sigma that they give."""

    def __init__(self, matrix: Array, config: SpectralNormConfig, rngs: nnx.Rngs):
        """u and v are drawn from rngs, and warmed up on matrix [out, rest] if the config says so."""
        self.config = config
        self.held = False  # whether the layer's kernel has been divided already (layers.hold)
        out, rest = matrix.shape
        u = jax.random.normal(rngs.spectral(), (out,), matrix.dtype)
        v = jax.random.normal(rngs.spectral(), (rest,), matrix.dtype)
        if config.init == "unit":
            u, v = normalize(u), normalize(v)
        u, v = power_iteration(matrix, u, v, **self.options(config.warmup))
        self.u = SpectralStat(u)
        self.v = SpectralStat(v)

    def options(self, iterations: int) -> dict[str, Any]:
        """How power_iteration is called."""
        c = self.config
        return {"iterations": iterations, "order": c.order, "eps": c.eps, "eps_form": c.eps_form}

    def divisor(self, matrix: Array, *, train: bool) -> Array:
        """[] what gives a kernel the target norm: sigma over the target."""
        return self(matrix, train=train) / self.config.target

    def __call__(self, matrix: Array, *, train: bool) -> Array:
        """[] sigma of matrix [out, rest]; a training pass moves u and v first, an evaluation never does."""
        u, v = self.u[...], self.v[...]
        if train:
            u, v = power_iteration(matrix, u, v, **self.options(self.config.iterations))
            self.u[...], self.v[...] = u, v
        elif self.config.evaluation == "iterate":
            u, v = power_iteration(matrix, u, v, **self.options(1))
        return estimate_sigma(matrix, u, v)
