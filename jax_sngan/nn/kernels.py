"""Which variable of a layer is its kernel, and how a kernel of any shape is a matrix [out, rest]."""

import math

import jax.numpy as jnp
from flax import nnx
from jax import Array


def as_matrix(kernel: Array, out: tuple[int, ...]) -> Array:
    """A kernel of any shape as [out, rest]: the axes `out`, from the first one on, become rows, the others columns."""
    if out == (kernel.ndim - 1,):
        return kernel.reshape(-1, kernel.shape[-1]).T
    front = jnp.moveaxis(kernel, out, range(len(out)))
    return front.reshape(math.prod(front.shape[: len(out)]), -1)


def nonnegative(axes: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Axes of an array of ndim as numbers from 0 on.

    Raises:
      ValueError: one is not among them.
    """
    listed = (axes,) if isinstance(axes, int) else tuple(axes)
    for axis in listed:
        if not -ndim <= axis < ndim:
            raise ValueError(f"out_axes must be from {-ndim} to {ndim - 1} for a kernel of {ndim} axes, got {axis}")
    return tuple(axis % ndim for axis in listed)


def kernel_name(layer: nnx.Module) -> str:
    """The attribute of a layer that is its kernel: `kernel` or `embedding`.

    Raises:
      ValueError: it has neither, or both.
    """
    kind = type(layer).__name__
    names = [n for n in ("kernel", "embedding") if isinstance(vars(layer).get(n), nnx.Variable)]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(
            f"SpectralNorm needs a layer with one kernel, and {kind} has two: name one of {names} by name="
        )
    inner = sorted({type(part).__name__ for path, part in nnx.iter_modules(layer) if path and "kernel" in vars(part)})
    advice = f"wrap those inside, of {', '.join(inner)}" if inner else "say by name= which attribute is its kernel"
    raise ValueError(f"SpectralNorm needs a layer with a kernel, and {kind} has none: {advice}")


def kernel_of(layer: nnx.Module, name: str) -> Array:
    """The value of a layer's kernel.

    Raises:
      ValueError: the attribute is no variable, or has fewer than two axes.
    """
    found = vars(layer).get(name)
    if not isinstance(found, nnx.Variable):
        raise ValueError(f"name must be a variable of {type(layer).__name__}, got {name!r}")
    kernel: Array = found[...]
    if kernel.ndim < 2:
        raise ValueError(
            f"SpectralNorm needs a kernel of 2 axes or more, got {type(layer).__name__}.{name} {kernel.shape}"
        )
    return kernel


def out_axes(layer: nnx.Module, kernel: Array) -> tuple[int, ...]:
    """The axes of a layer's kernel that are rows of its matrix: those that torch has first in the same layer's weight,
    or second in a transposed convolution's.

    Raises:
      ValueError: the kernel is several matrices.
    """
    if isinstance(layer, nnx.Embed) or hasattr(layer, "spectral_out_axes"):
        return nonnegative(getattr(layer, "spectral_out_axes", 0), kernel.ndim)
    if isinstance(layer, nnx.ConvTranspose) and layer.transpose_kernel:
        return (kernel.ndim - 2,)
    if isinstance(layer, nnx.LinearGeneral):
        if layer.batch_axis:
            raise ValueError(
                "out_axes must be given for a LinearGeneral with batch_axis: its kernel is several matrices"
            )
        return tuple(range(kernel.ndim - len(layer.out_features), kernel.ndim))
    return (kernel.ndim - 1,)
