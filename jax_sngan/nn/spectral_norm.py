"""Spectral normalisation: power iteration as pure functions on a matrix [out, rest], and the state that layers carry.

Miyato et al. 2018, Algorithm 1, in the forms of torch.nn.utils.spectral_norm (the default), of
torch.nn.utils.parametrizations.spectral_norm and of the authors' Chainer code (docs/parity.md).
"""

import inspect
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from jax_sngan.nn.modes import is_training
from jax_sngan.nn.spectral_options import SpectralNormOptions

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


def as_matrix(kernel: Array, out: tuple[int, ...]) -> Array:
    """A kernel of any shape as [out, rest]: the axes `out`, from the first one on, become rows, the others columns."""
    if out == (kernel.ndim - 1,):
        return kernel.reshape(-1, kernel.shape[-1]).T
    front = jnp.moveaxis(kernel, out, range(len(out)))
    return front.reshape(math.prod(front.shape[: len(out)]), -1)


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


class _Vectors(nnx.Module):
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


class PowerIteration(_Vectors):
    """u and v of one matrix, and the sigma that they give: what a layer of one's own is built with.

    `SpectralNorm` wraps a layer and needs none of this.
    """

    def __init__(
        self,
        matrix: Array,
        options: SpectralNormOptions | bool = True,
        rngs: nnx.Rngs | None = None,
        *,
        kernel: nnx.Variable | None = None,
        out_axes: int | tuple[int, ...] = -1,
    ):
        """u and v are drawn from rngs, and warmed up on matrix if the options say so.

        Args:
          matrix: [out, rest], of which calls give the norm.
          kernel: the variable that the matrix is made from, where it is to be trained by a GAN's step: that moves u and
            v of a whole network before its passes (`iterate`), and finds the matrix by this.
          out_axes: of the kernel: which become rows.
        """
        found = SpectralNormOptions.of(options)
        if found is None or rngs is None:
            raise ValueError("PowerIteration needs options and rngs")
        super().__init__(matrix, found, rngs)
        self.kernel = kernel
        self.out_axes = () if kernel is None else nonnegative(out_axes, kernel[...].ndim)
        self.held = False  # whether training passes leave u and v as they are

    def divisor(self, matrix: Array, *, train: bool | None = None) -> Array:
        """[] what gives a kernel the target norm: sigma over the target."""
        return self(matrix, train=train) / self.options.target

    def __call__(self, matrix: Array, *, train: bool | None = None) -> Array:
        """[] sigma of matrix [out, rest]; a training pass moves u and v first, an evaluation never does."""
        if self.held:
            return estimate_sigma(matrix, self.u[...], self.v[...])
        return self._sigma(matrix, is_training(self, train))


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


class SpectralNorm(_Vectors):
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
        self.name = _kernel_name(layer) if name is None else name
        kernel = _variable(layer, self.name)
        self.out_axes = _out_axes(layer, kernel) if out_axes is None else nonnegative(out_axes, kernel.ndim)
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


def _kernel_name(layer: nnx.Module) -> str:
    kind = type(layer).__name__
    if isinstance(layer, SpectralNorm):
        raise ValueError(
            f"SpectralNorm needs a layer that is not normalised yet, got one of {type(layer.layer).__name__}"
        )
    if isinstance(getattr(layer, "norm", None), PowerIteration):
        raise ValueError(f"SpectralNorm needs a layer that is not normalised yet, got a {kind} with a spectral norm")
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


def _variable(layer: nnx.Module, name: str) -> Array:
    found = vars(layer).get(name)
    if not isinstance(found, nnx.Variable):
        raise ValueError(f"name must be a variable of {type(layer).__name__}, got {name!r}")
    kernel: Array = found[...]
    if kernel.ndim < 2:
        raise ValueError(
            f"SpectralNorm needs a kernel of 2 axes or more, got {type(layer).__name__}.{name} {kernel.shape}"
        )
    return kernel


def _out_axes(layer: nnx.Module, kernel: Array) -> tuple[int, ...]:
    """As torch sees the same layer, its weight's first axis, or a transposed convolution's second."""
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
