"""Multiplications and additions of a function, counted from its jaxpr: convolutions and matmuls, loops unrolled."""

import math
from collections.abc import Callable
from typing import Any

import jax


def count(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of one call (a multiply-add is 2); arguments may be jax.ShapeDtypeStruct.

    What is no convolution or matmul is left out: under 2 % in these networks. Zeros that a strided convolution's
    transpose would multiply do not count.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
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
        inner = sum(_count(sub) for value in eqn.params.values() for sub in _jaxprs(value))
        total += inner * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
    return total


def _jaxprs(value: Any) -> list[Any]:
    if hasattr(value, "eqns"):
        return [value]
    if hasattr(value, "jaxpr"):
        return [value.jaxpr]
    if isinstance(value, (list, tuple)):
        return [j for v in value for j in _jaxprs(v)]
    return []
