"""Multiplications and additions of a function, counted from its jaxpr: convolutions and matmuls, loops unrolled."""

import math
from collections.abc import Callable
from typing import Any

import jax


def count(function: Callable[..., Any], *arguments: Any, platform: str | None = None) -> int:
    """FLOPs of one call (a multiply-add is 2); arguments may be jax.ShapeDtypeStruct.

    What is no convolution or matmul is left out: under 2 % in these networks. Zeros that a strided convolution's
    transpose would multiply do not count.

    Args:
      platform: cpu, cuda, tpu …: whose convolutions are counted; by default this machine's.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, platform or jax.default_backend())


def _count(jaxpr: Any, platform: str) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(eqn.invars[0].aval.shape[i] for i in contract)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            taps = math.prod(kernel) // out_features
            dilation = math.prod(eqn.params["lhs_dilation"])
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * taps // dilation
        inner = sum(_count(sub, platform) for sub in inner_jaxprs(eqn, platform))
        total += inner * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
    return total


def inner_jaxprs(eqn: Any, platform: str) -> list[Any]:
    """The jaxprs that an equation runs: of a choice by platform (nn/platforms.py) that platform's alone."""
    if eqn.params.get("branches_platforms") is None:
        return _jaxprs(list(eqn.params.values()))
    return _jaxprs(taken_branch(eqn, platform))


def taken_branch(eqn: Any, platform: str) -> Any:
    """The closed jaxpr that a choice by platform takes on one: cpu, cuda, tpu …"""
    platforms = enumerate(eqn.params["branches_platforms"])
    return eqn.params["branches"][next(i for i, names in platforms if names is None or platform in names)]


def _jaxprs(value: Any) -> list[Any]:
    if hasattr(value, "eqns"):
        return [value]
    if hasattr(value, "jaxpr"):
        return [value.jaxpr]
    if isinstance(value, (list, tuple)):
        return [j for v in value for j in _jaxprs(v)]
    return []
