"""What comes before the passes of a training step: all u and v of a module are moved, and its kernels divided by them.

A pass by itself does both in each layer. A step has reasons to do it once: a batch in parts and the extra pass of a
penalty see the same u and v, and an accelerator takes all kernels at once (batched_spectral_norm.py).
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_sngan.nn.batched_spectral_norm import divide, estimate_sigmas, power_iterations
from jax_sngan.nn.kernels import as_matrix
from jax_sngan.nn.power_iteration import PowerIteration
from jax_sngan.nn.spectral_norm import SpectralNorm
from jax_sngan.nn.spectral_options import SpectralNormOptions


class Part(NamedTuple):
    """One spectral norm of a module."""

    place: str  # where it stands in the module: names joined by dots
    vectors: Any  # has u and v
    options: SpectralNormOptions
    kernel: nnx.Variable
    matrix: Callable[[Array], Array]  # of the kernel: [out, rest]
    divides: (
        Any  # whose passes divide the kernel, and are told by its attribute `divided` that it has been done; or None
    )

    def split(self, array: Array) -> list[Array]:
        """The kernel, u or v as one array; of layers that nnx.vmap has made as one, one array each."""
        stacked = self.vectors.u[...].ndim - 1
        return list(array.reshape(-1, *array.shape[stacked:])) if stacked else [array]

    def joined(self, arrays: list[Array], shape: tuple[int, ...]) -> Array:
        """The inverse of `split`."""
        return jnp.stack(arrays).reshape(shape) if len(shape) > arrays[0].ndim else arrays[0]

    def matrices(self) -> list[Array]:
        """[out, rest], in u's type."""
        dtype = self.vectors.u[...].dtype
        return [self.matrix(kernel.astype(dtype)) for kernel in self.split(self.kernel[...])]


def iterate(module: nnx.Module) -> None:
    """A training pass's power iterations of all spectral norms of a module, without the pass.

    A layer that stands at several places of the module is moved once.

    Raises:
      ValueError: a spectral norm of the module is out of reach.
    """
    for parts in _parts(module):
        us, vs = power_iterations(*_stacks(parts), **parts[0].options.iteration())
        for part in parts:
            for stat, moved in ((part.vectors.u, us), (part.vectors.v, vs)):
                own = [moved.pop(0) for _ in part.split(part.vectors.u[...])]
                stat[...] = part.joined(own, stat[...].shape)


def hold(module: nnx.Module) -> None:
    """Gives all kernels of a module their norm by the u and v that are there, which training passes then leave alone.

    The kernels are divided in place: for a module that lives as long as a pass.

    Raises:
      ValueError: a spectral norm of the module is out of reach.
    """
    for parts in _parts(module):
        for part in parts:
            if part.divides is None:
                part.vectors.held = True
        dividing = [part for part in parts if part.divides is not None]
        if not dividing:
            continue
        sigmas = estimate_sigmas(*_stacks(dividing))
        kernels = [kernel for part in dividing for kernel in part.split(part.kernel[...])]
        wide = [kernel.astype(sigma.dtype) for kernel, sigma in zip(kernels, sigmas, strict=True)]
        divided = divide(wide, [s / dividing[0].options.target for s in sigmas])
        for part in dividing:
            own = [divided.pop(0).astype(part.kernel[...].dtype) for _ in part.split(part.vectors.u[...])]
            part.kernel[...] = part.joined(own, part.kernel[...].shape)
            part.divides.divided = True


def sigmas(module: nnx.Module) -> dict[str, Array]:
    """What the u and v that are there give for each kernel of a module, u^T W v, by the layer's place: [] each.

    Raises:
      ValueError: a spectral norm of the module is out of reach.
    """
    found: dict[str, Array] = {}
    for parts in _parts(module):
        found |= zip(_places(parts), estimate_sigmas(*_stacks(parts)), strict=True)
    return found


def kernel_matrices(module: nnx.Module) -> dict[str, Array]:
    """The matrices [out, rest] of those kernels, by the same names."""
    return {
        name: matrix for parts in _parts(module) for name, matrix in zip(_places(parts), _stacks(parts)[0], strict=True)
    }


def _places(parts: list[Part]) -> list[str]:
    """A name for each matrix: the layer's place, and its number where nnx.vmap has made several as one."""
    names = []
    for part in parts:
        count = len(part.split(part.vectors.u[...]))
        names += [part.place] if count == 1 else [f"{part.place}[{i}]" for i in range(count)]
    return names


def check_reach(module: nnx.Module) -> None:
    """Raises ValueError where `iterate` and `hold` would, of a module of shapes alone too (nnx.eval_shape)."""
    _parts(module)


def _stacks(parts: list[Part]) -> tuple[list[Array], list[Array], list[Array]]:
    """Matrices, u and v."""
    return (
        [matrix for part in parts for matrix in part.matrices()],
        [u for part in parts for u in part.split(part.vectors.u[...])],
        [v for part in parts for v in part.split(part.vectors.v[...])],
    )


def _parts(module: nnx.Module) -> Iterable[list[Part]]:
    """All spectral norms of a module, those of the same options together."""
    found: dict[SpectralNormOptions, list[Part]] = {}
    bare: list[tuple[str, PowerIteration]] = []
    divided: dict[int, str] = {}
    for path, inner in nnx.iter_modules(module):
        place = ".".join(map(str, path)) or type(inner).__name__
        if isinstance(inner, nnx.SpectralNorm):  # noqa: TID251 (to refuse it)
            raise ValueError(f"{place}: flax's SpectralNorm overwrites the kernel on every call; use jax_sngan.nn's")
        if isinstance(inner, PowerIteration):
            bare.append((place, inner))
        part = _part(place, inner)
        if part is None:
            continue
        if id(part.kernel) in divided:
            raise ValueError(
                f"{place} and {divided[id(part.kernel)]} normalise the same kernel; share the layer instead"
            )
        divided[id(part.kernel)] = place
        found.setdefault(part.options, []).append(part)
    owned = {id(part.vectors) for parts in found.values() for part in parts}
    for place, norm in bare:
        if id(norm) not in owned:
            part = _bare(place, norm)
            found.setdefault(part.options, []).append(part)
    return found.values()


def _part(place: str, module: Any) -> Part | None:
    if isinstance(module, SpectralNorm):
        kernel = getattr(module.layer, module.name)
        return Part(place, module, module.options, kernel, lambda k: as_matrix(k, module.out_axes), module)
    norm = getattr(module, "norm", None)
    if isinstance(norm, PowerIteration) and hasattr(module, "kernel_matrix"):  # a layer of layers.py
        return Part(place, norm, norm.options, module.kernel, module.kernel_matrix, module)
    return None


def _bare(place: str, norm: PowerIteration) -> Part:
    if norm.kernel is None:
        raise ValueError(
            f"{place}: the u and v of this PowerIteration cannot be moved before a pass, since it was given no kernel: "
            "give it kernel=, or wrap the layer in SpectralNorm"
        )
    return Part(place, norm, norm.options, norm.kernel, lambda k: as_matrix(k, norm.out_axes), None)
