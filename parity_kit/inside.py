"""What a layer does differently from torch's, given equal inputs: which of the usual mistakes gives its numbers."""

from collections.abc import Callable

import numpy as np

from parity_kit.between import close
from parity_kit.case import Case
from parity_kit.convolutions import convolution, linear, transposed_convolution
from parity_kit.norms import is_normalisation, normalisation, spectral


def explain(case: Case) -> str:
    """The kind of difference, in words."""
    guesses: tuple[Callable[[Case], str], ...] = ()
    if case.arrays.spectral and "u" in case.arrays.arrays:
        guesses += (spectral,)
    if case.nnx.kind == "conv":
        guesses += (convolution,)
    elif case.nnx.kind == "conv_transpose":
        guesses += (transposed_convolution,)
    elif case.nnx.kind == "linear":
        guesses += (linear,)
    elif is_normalisation(case.torch):
        guesses += (normalisation,)
    for guess in (*guesses, plain):
        words = guess(case)
        if words:
            return words
    if case.expected.shape != case.found.shape:
        return f"shape {list(case.expected.shape)} in torch, {list(case.found.shape)} in nnx"
    return "inside the layer, of no kind that is known"


def plain(case: Case) -> str:
    """What any layer may do: a bias left out, a factor."""
    e, f = case.expected, case.found
    if e.shape != f.shape:
        return ""
    axis = 1 if case.nnx.channels_last or e.ndim == 2 else e.ndim - 1
    shape = [1] * e.ndim
    if "bias" in case.arrays.arrays and np.ndim(case.arrays.arrays["bias"]) == 1:
        shape[axis] = -1
        bias = np.asarray(case.arrays.arrays["bias"], np.float64)
        if bias.size == e.shape[axis]:
            bias = bias.reshape(shape)
            if close(f + bias, e):
                return "bias left out"
            rest, other = e - bias, f - bias
            factor = float(np.vdot(rest, other) / max(float(np.vdot(rest, rest)), 1e-300))
            if close(other, factor * rest):
                return f"a factor of {factor:.6g} on the kernel"
            factor = float(np.vdot(rest, f) / max(float(np.vdot(rest, rest)), 1e-300))
            if close(f, factor * rest):
                return f"bias left out, and a factor of {factor:.6g} on the kernel"
    factor = float(np.vdot(e, f) / max(float(np.vdot(e, e)), 1e-300))
    if abs(factor - 1) > 1e-9 and close(f, factor * e):
        return f"a factor of {factor:.6g}"
    return ""
