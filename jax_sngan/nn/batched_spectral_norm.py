"""Power iterations and sigmas of many matrices in few operations: what spectral_norm.py says of one, of all at once.

Each matrix by itself takes about eight small operations, which an accelerator launches as long as it computes them.
There matrices lie in a few stacks, filled up with zeros: those change neither products nor norms. A CPU, which has
nothing to launch and would pay for the copies, takes one matrix after another.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.nn import cpu_kernels
from jax_sngan.nn.spectral_norm import estimate_sigma, power_iteration

_LARGEST = 2**20  # numbers of a matrix; reading a larger one takes longer than a launch, and copying it would too
_FILLING = 2**18  # zeros that a matrix may bring into a stack; reading them takes no longer than a launch

Arrays = list[Array]


def power_iterations(matrices: Arrays, us: Arrays, vs: Arrays, **options: Any) -> tuple[list[Array], list[Array]]:
    """`power_iteration` of each matrix [out, rest] with its u [out] and v [rest]: all u, all v.

    options: its keyword arguments, the same for all.
    """
    arrays = [lax.stop_gradient(a) for a in (matrices, us, vs)]
    forms = (partial(form, **options) for form in (single_power_iterations, batched_power_iterations))
    return lax.platform_dependent(*arrays, **dict(zip(("cpu", "default"), forms, strict=True)))


def single_power_iterations(
    matrices: Arrays, us: Arrays, vs: Arrays, **options: Any
) -> tuple[list[Array], list[Array]]:
    """`power_iterations`, one matrix after another."""
    moved = [power_iteration(*one, **options) for one in zip(matrices, us, vs, strict=True)]
    return [u for u, _ in moved], [v for _, v in moved]


def batched_power_iterations(
    matrices: Arrays, us: Arrays, vs: Arrays, **options: Any
) -> tuple[list[Array], list[Array]]:
    """`power_iterations` in stacks."""
    new_us, new_vs = list(us), list(vs)
    for members in stacks([m.shape for m in matrices]):
        moved = jax.vmap(partial(power_iteration, **options))(*_stacked(members, matrices, us, vs))
        for i, u, v in zip(members, *moved, strict=True):
            new_us[i], new_vs[i] = u[: len(us[i])], v[: len(vs[i])]
    return new_us, new_vs


def estimate_sigmas(matrices: Arrays, us: Arrays, vs: Arrays) -> list[Array]:
    """`estimate_sigma` of each matrix [out, rest]: a list of []; gradients flow through the matrices alone."""
    if not cpu_kernels.is_enabled():
        return single_sigmas(matrices, us, vs)
    return _estimate_sigmas(matrices, us, vs)


@jax.custom_vjp
def _estimate_sigmas(matrices: Arrays, us: Arrays, vs: Arrays) -> list[Array]:
    return lax.platform_dependent(matrices, us, vs, cpu=single_sigmas, default=batched_sigmas)


def single_sigmas(matrices: Arrays, us: Arrays, vs: Arrays) -> list[Array]:
    """`estimate_sigmas`, one matrix after another."""
    return [estimate_sigma(*one) for one in zip(matrices, us, vs, strict=True)]


def batched_sigmas(matrices: Arrays, us: Arrays, vs: Arrays) -> list[Array]:
    """`estimate_sigmas` in stacks."""
    found: dict[int, Array] = {}
    for members in stacks([m.shape for m in matrices]):
        found |= zip(members, jax.vmap(estimate_sigma)(*_stacked(members, matrices, us, vs)), strict=True)
    return [found[i] for i in range(len(matrices))]


def _sigmas_forward(matrices: Arrays, us: Arrays, vs: Arrays) -> tuple[list[Array], tuple[Arrays, Arrays]]:
    return estimate_sigmas(matrices, us, vs), (us, vs)


def _sigmas_backward(saved: tuple[Arrays, Arrays], cotangents: Arrays) -> tuple[list[Array], Arrays, Arrays]:
    of_matrices = [(c * u)[:, None] * v[None, :] for c, u, v in zip(cotangents, *saved, strict=True)]
    return of_matrices, *jax.tree.map(jnp.zeros_like, saved)


_estimate_sigmas.defvjp(_sigmas_forward, _sigmas_backward)


def divide(kernels: Arrays, divisors: Arrays) -> list[Array]:
    """Each kernel, of any shape, over its divisor []."""
    return _divide(kernels, divisors) if cpu_kernels.is_enabled() else _quotients(kernels, divisors)


@jax.custom_vjp
def _divide(kernels: Arrays, divisors: Arrays) -> list[Array]:
    return _quotients(kernels, divisors)


def _quotients(kernels: Arrays, divisors: Arrays) -> list[Array]:
    return [k / d for k, d in zip(kernels, divisors, strict=True)]


def single_inner_products(a: Arrays, b: Arrays) -> list[Array]:
    """[] of each pair of kernels of one shape, one pair after another."""
    return [jnp.sum(x * y) for x, y in zip(a, b, strict=True)]


def batched_inner_products(a: Arrays, b: Arrays) -> list[Array]:
    """`single_inner_products` in stacks."""
    found: dict[int, Array] = {}
    # The last axis first, as cuDNN has kernels: else each would be turned.
    products = [jnp.moveaxis(x * y, -1, 0).reshape(x.shape[-1], -1) for x, y in zip(a, b, strict=True)]
    for members in stacks([p.shape for p in products]):
        (stacked,) = _stacked(members, products)
        found |= zip(members, jnp.sum(stacked, axis=(1, 2)), strict=True)
    return [found[i] for i in range(len(a))]


def _divide_forward(kernels: Arrays, divisors: Arrays) -> tuple[list[Array], tuple[Arrays, Arrays]]:
    return divide(kernels, divisors), (kernels, divisors)


def _divide_backward(saved: tuple[Arrays, Arrays], cotangents: Arrays) -> tuple[list[Array], list[Array]]:
    kernels, divisors = saved
    products = lax.platform_dependent(cotangents, kernels, cpu=single_inner_products, default=batched_inner_products)
    return divide(cotangents, divisors), [-p / (d * d) for p, d in zip(products, divisors, strict=True)]


_divide.defvjp(_divide_forward, _divide_backward)


def stacks(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Which matrices, by number, lie in one stack; shapes: of each [out, rest].

    The largest comes first; each joins the first stack that it would fill up with few zeros.
    """
    found: list[tuple[tuple[int, ...], list[int]]] = []  # the largest shape of a stack, its members
    for i in sorted(range(len(shapes)), key=lambda i: -shapes[i][0] * shapes[i][1]):
        out, rest = shapes[i]
        for (rows, columns), members in found:
            zeros = rows * columns - out * rest
            if out <= rows and rest <= columns and rows * columns <= _LARGEST and zeros <= _FILLING:
                members.append(i)
                break
        else:
            found.append(((out, rest), [i]))
    return [members for _, members in found]


def _stacked(members: list[int], *arrays: Arrays) -> list[Array]:
    """Of each kind of arrays those of a stack as one, as large as the first's, zeros behind the others' own numbers."""

    def stack(some: list[Array]) -> Array:
        shape = some[0].shape
        return jnp.stack([jnp.pad(a, [(0, n - own) for n, own in zip(shape, a.shape, strict=True)]) for a in some])

    return [stack([kind[i] for i in members]) for kind in arrays]
