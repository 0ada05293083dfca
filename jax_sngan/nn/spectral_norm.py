"""Spectral normalisation: power iteration as pure functions on a matrix [out, rest], and the state that layers carry.

Miyato et al. 2018, Algorithm 1, in the forms of torch.nn.utils.spectral_norm (the default), of
torch.nn.utils.parametrizations.spectral_norm and of the authors' Chainer code (docs/parity.md).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from jax_sngan.nn.kernels import as_matrix, kernel_name, kernel_of, nonnegative
from jax_sngan.nn.kernels import out_axes as outputs_of
from jax_sngan.nn.modes import is_training
from jax_sngan.nn.spectral_options import SpectralNormOptions

_TORCHS = SpectralNormOptions()  # torch.nn.utils.spectral_norm's
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


def draw_vectors(matrix: Array, options: SpectralNormOptions, keys: tuple[Array, Array]) -> tuple[Array, Array]:
    """u [out] and v [rest] of a matrix [out, rest], drawn from two keys and warmed up as the options say.

    They are of the matrix's type, or of float32 where that is coarser.
    """
    if jnp.finfo(matrix.dtype).bits < 32:
        matrix = matrix.astype(jnp.float32)
    u, v = (jax.random.normal(key, (n,), matrix.dtype) for key, n in zip(keys, matrix.shape, strict=True))
    if options.init == "unit":
        u, v = normalize(u), normalize(v)
    return power_iteration(matrix, u, v, **options.iteration(options.warmup))


class Vectors(nnx.Module):
    """u and v of one matrix, and how they are moved."""

    def __init__(self, matrix: Array, options: SpectralNormOptions, rngs: nnx.Rngs):
        self.options = options
        self.deterministic = False
        named = {"spectral", "default"} & set(vars(rngs))
        first, second = (rngs.spectral() if named else rngs.params() for _ in range(2))
        u, v = draw_vectors(matrix, options, (first, second))
        self.u = SpectralStat(u)
        self.v = SpectralStat(v)

    def set_view(self, deterministic: bool | None = None) -> None:
        """For nnx.view: deterministic, whether passes are evaluations."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _sigma(self, matrix: Array, train: bool) -> Array:
        u, v = self.u[...], self.v[...]
        if train:
            u, v = power_iteration(matrix, u, v, **self.options.iteration())
            self.u[...], self.v[...] = u, v
        elif self.options.evaluation == "iterate":
            u, v = power_iteration(matrix, u, v, **self.options.iteration(1))
        return estimate_sigma(matrix, u, v)


class SpectralNorm(Vectors):
    """A layer whose kernel is divided by its spectral norm in each call; the stored kernel stays as it is.

        layer = SpectralNorm(nnx.Conv(3, 64, (3, 3), rngs=rngs), rngs=rngs)
        y = layer(x)  # as the layer's call; u [out] and v [rest] move once where it is a training pass

    Any layer with one kernel, `kernel` or `embedding`: nnx.Conv and nnx.ConvTranspose of any rank, strides, dilation
    and groups, nnx.Linear, nnx.LinearGeneral, nnx.Embed, and layers like them. A pass is a training pass by its
    argument `train`, or else by train() and eval() of the module around it. Miyato et al. 2018, Algorithm 1, as
    torch.nn.utils.spectral_norm computes it; with order="u_first", warmup=15 as its parametrizations.spectral_norm.
    """

    def __init__(
        self,
        layer: nnx.Module,
        *,
        target: float = 1.0,
        iterations: int = 1,
        order: Literal["v_first", "u_first"] = "v_first",
        eps: float = 1e-12,
        eps_form: Literal["max", "add"] = "max",
        init: Literal["unit", "normal"] = "unit",
        warmup: int = 0,
        evaluation: Literal["stored", "iterate"] = "stored",
        name: str | None = None,
        out_axes: int | tuple[int, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        """Wraps a layer.

        Args:
          target to evaluation: the options of SpectralNormOptions.
          name: the attribute that is the kernel, where it is neither `kernel` nor `embedding`.
          out_axes: of the kernel, which become the rows of its matrix. By default as torch has the same layer: the
            outputs, which are an embedding's classes, several axes of a LinearGeneral, and last in any other layer but
            a ConvTranspose with transpose_kernel.
          rngs: u and v are drawn from its stream `spectral`, or else from its default or `params`.
        Raises:
          ValueError: the layer has no kernel, or two, or is normalised already; or an option is out of its range.
        """
        if isinstance(layer, SpectralNorm) or isinstance(getattr(layer, "norm", None), Vectors):
            raise ValueError(f"SpectralNorm needs a layer that is not normalised yet, got {type(layer).__name__}")
        self.name = kernel_name(layer) if name is None else name
        kernel = kernel_of(layer, self.name)
        self.out_axes = outputs_of(layer, kernel) if out_axes is None else nonnegative(out_axes, kernel.ndim)
        options = SpectralNormOptions(
            target=target, iterations=iterations, order=order, eps=eps, eps_form=eps_form, init=init, warmup=warmup,
            evaluation=evaluation,
        )  # fmt: skip
        self.layer = layer
        self.divided = False  # whether the kernel has been divided already, for a pass (passes.hold)
        super().__init__(as_matrix(kernel, self.out_axes), options, rngs)

    def matrix(self) -> Array:
        """[out, rest], the kernel as spectral norm sees it."""
        return as_matrix(getattr(self.layer, self.name)[...], self.out_axes)

    def weight(self, *, train: bool | None = None) -> Array:
        """The kernel over sigma, times the target; in a training pass u and v move first."""
        kernel = getattr(self.layer, self.name)[...]
        if self.divided:
            return kernel
        wide = kernel.astype(self.u[...].dtype)  # a kernel of bfloat16 has a sigma of float32
        sigma = self._sigma(as_matrix(wide, self.out_axes), is_training(self, train))
        return (wide / (sigma / self.options.target)).astype(kernel.dtype)

    def __call__(self, *args: Any, train: bool | None = None, **kwargs: Any) -> Any:
        """The layer's call with the normalised kernel.

        Args:
          train: whether it is a training pass; by default what train() and eval() have left. A layer whose call has an
            argument of this name is given it.
        """
        if train is not None and "train" in inspect.signature(type(self.layer).__call__).parameters:
            kwargs["train"] = train
        weight, attributes = self.weight(train=train), vars(self.layer)
        stored = attributes[self.name]
        # In the attribute's place, not in the variable: that may belong to an outer trace, and must not change.
        attributes[self.name] = stored.replace(weight)
        try:
            return self.layer(*args, **kwargs)
        finally:
            attributes[self.name] = stored


# Parameter trees -----------------------------------------------------------------------------------------------------

Select = Callable[[tuple[str, ...], Array], int | tuple[int, ...] | None]  # path, leaf -> its axes of outputs, or None


@partial(jax.tree_util.register_dataclass, data_fields=["u", "v"], meta_fields=["out_axes"])
@dataclass(frozen=True)
class TreeVectors:
    """u [out] and v [rest] of one leaf of a parameter tree, and which of its axes are rows of its matrix."""

    u: Array
    v: Array
    out_axes: tuple[int, ...]


def kernels_by_name(path: tuple[str, ...], leaf: Array) -> int | None:
    """The axis of outputs of a leaf of Linen, Haiku or Equinox, by its name; None where it is no kernel.

    Linen's `kernel` and Haiku's `w` have it last (Haiku's transposed convolutions last but one), Equinox's `weight`
    first; so have embeddings, whose outputs are then the classes, as torch has it. A leaf of fewer than two axes is no
    kernel, nor is one of any other name.
    """
    if leaf.ndim < 2:
        return None
    if path[-1] == "w" and any("transpose" in part for part in path[:-1]):
        return -2
    return {"kernel": -1, "w": -1, "weight": 0, "embedding": 0, "embeddings": 0}.get(path[-1])


def init_tree(
    params: Any, key: Array, select: Select = kernels_by_name, options: SpectralNormOptions = _TORCHS
) -> dict[str, TreeVectors]:
    """u and v for the kernels of a parameter tree of any library: Linen's, Haiku's, an Equinox module.

        stats = init_tree(params, key)
        weights, stats = normalize_tree(params, stats)  # in each training pass
        y = model.apply(weights, x)

    Args:
      params: any tree of arrays; other leaves are left alone.
      key: of jax.random.
      select: which leaves are kernels, and which of their axes are outputs: path, leaf -> axis, axes or None. The path
        is that of jax.tree_util, each part a string.
      options: also those of normalize_tree; form must be reshaped.
    Returns:
      {path with slashes: TreeVectors}.
    Raises:
      ValueError: no leaf is a kernel, or form is operator.
    """
    if options.form != "reshaped":
        raise ValueError(f"form must be reshaped for a parameter tree, got {options.form}")
    stats = {}
    for path, leaf in _array_leaves(params):
        axes = select(path, leaf)
        if axes is not None:
            key, *own = jax.random.split(key, 3)
            out = nonnegative(axes, leaf.ndim)
            stats["/".join(path)] = TreeVectors(*draw_vectors(as_matrix(leaf, out), options, (own[0], own[1])), out)
    if not stats:
        raise ValueError("params must have a leaf that select takes for a kernel, and has none")
    return stats


def normalize_tree(
    params: Any, stats: dict[str, TreeVectors], train: bool = True, options: SpectralNormOptions = _TORCHS
) -> tuple[Any, dict[str, TreeVectors]]:
    """The tree with each kernel over its sigma, times the target, and the u and v that gave it.

    Pure: it may be jitted, differentiated in params (u and v are constants to that), mapped and scanned.

    Args:
      params, options: as init_tree had them.
      stats: from init_tree, or from the training pass before.
      train: whether u and v move first; in evaluation stats comes back as it was.
    Raises:
      ValueError: stats has a kernel that params has not.
    """
    unknown = set(stats) - {"/".join(path) for path, _ in _array_leaves(params)}
    if unknown:
        raise ValueError(f"stats must be of these params, got {min(unknown)}, which is not among them")
    moved = dict(stats)

    def normalized(path: Any, leaf: Any) -> Any:
        name = "/".join(_names(path))
        if name not in stats:
            return leaf
        u, v, out = stats[name].u, stats[name].v, stats[name].out_axes
        wide = leaf.astype(u.dtype)
        matrix = as_matrix(wide, out)
        count = options.iterations if train else int(options.evaluation == "iterate")
        u, v = power_iteration(matrix, u, v, **options.iteration(count))
        moved[name] = TreeVectors(u, v, out) if train else stats[name]
        return (wide / (estimate_sigma(matrix, u, v) / options.target)).astype(leaf.dtype)

    return jax.tree.map_with_path(normalized, params), moved


def _array_leaves(params: Any) -> list[tuple[tuple[str, ...], Array]]:
    leaves = [(_names(path), leaf) for path, leaf in jax.tree.leaves_with_path(params) if hasattr(leaf, "dtype")]
    return [(path, leaf) for path, leaf in leaves if path and jnp.issubdtype(leaf.dtype, jnp.floating)]


def _names(path: Any) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((part,), simple=True) for part in path)
