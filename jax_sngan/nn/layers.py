"""Linear, Conv, ConvTranspose and Embedding, each with or without spectral normalisation.

A layer's stored kernel is never normalised in place: the division by sigma is part of the forward pass.
"""

from collections.abc import Callable
from typing import Any, Literal, Required, TypedDict, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from jax_sngan.nn.conv import Padding, Pair, conv_pads, pair, simple_window, transposed_cuts, transposed_size
from jax_sngan.nn.finer import conv_in, conv_transpose_in, general_conv_in, general_conv_transpose_in, matmul
from jax_sngan.nn.kernels import as_matrix, nonnegative
from jax_sngan.nn.modes import is_training
from jax_sngan.nn.operator_norm import circular_operator_norm, largest_singular_value
from jax_sngan.nn.passes import hold as hold
from jax_sngan.nn.passes import iterate as iterate
from jax_sngan.nn.power_iteration import PowerIteration
from jax_sngan.nn.resample import mean_pool, upsample_bilinear, upsample_nearest
from jax_sngan.nn.resampled_conv import mean_pooled_conv, upsampled_conv
from jax_sngan.nn.spectral_options import SpectralNormOptions
from jax_sngan.nn.sums import spread_features

Initializer = Callable[[Array, tuple[int, ...], DTypeLike], Array]


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); chainer's GlorotUniform(gain)."""
    return jax.nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")


def normal(stddev: float) -> Initializer:
    """N(0, stddev^2)."""
    return jax.nn.initializers.normal(stddev)


_GLOROT = glorot_uniform()


class LayerOptions(TypedDict, total=False):
    """What every layer may be given, by keyword."""

    spectral_norm: SpectralNormOptions | bool | None  # True: torch's; default: none
    init: Initializer  # of the kernel; default: glorot_uniform()
    dtype: DTypeLike  # of kernel, bias and sigma; default: float32
    compute_dtype: DTypeLike | None  # of what the layer multiplies, and its result; default: dtype
    result_dtype: DTypeLike | None  # of its result, where that is to be finer
    rngs: Required[nnx.Rngs]  # kernels are drawn from its stream `params`, u and v from `spectral`


class Layer(nnx.Module):
    """A kernel, perhaps a bias, perhaps a spectral norm. Subclasses say how the kernel is a matrix [out, rest].

    Kernel, bias and sigma are of `dtype`; what the layer multiplies is of compute_dtype, and so are its result and its
    bias unless result_dtype names a finer type.
    """

    spectral_out_axes = -1  # of the kernel: the rows of its matrix

    def __init__(
        self,
        shape: tuple[int, ...],
        bias: int,
        *,
        spectral_norm: SpectralNormOptions | bool | None = None,
        init: Initializer = _GLOROT,
        dtype: DTypeLike = jnp.float32,
        compute_dtype: DTypeLike | None = None,
        result_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.compute_dtype = jnp.dtype(dtype if compute_dtype is None else compute_dtype)
        self.result_dtype = self.compute_dtype if result_dtype is None else jnp.dtype(result_dtype)
        self.kernel = nnx.Param(init(rngs.params(), shape, jnp.dtype(dtype)))
        self.bias = nnx.Param(jnp.zeros((bias,), dtype)) if bias else None
        self.deterministic = False  # what a pass is that is not told: set by train() and eval()
        norm = SpectralNormOptions.of(spectral_norm)
        if norm is not None and norm.form == "operator":
            self._allow_operator_norm()
        estimated, exact = (norm if norm and norm.form == form else None for form in ("reshaped", "operator"))
        # Assigned once: nnx fixes on the first assignment whether an attribute holds arrays.
        self.norm = PowerIteration(self.matrix(), estimated, rngs) if estimated else None
        self.divided = False  # whether the kernel has been divided already, for a pass (passes.hold)
        self.exact_target = exact.target if exact else None

    def set_view(self, deterministic: bool | None = None) -> None:
        """For nnx.view: deterministic, whether passes are evaluations."""
        if deterministic is not None:
            self.deterministic = deterministic

    def kernel_matrix(self, kernel: Array) -> Array:
        """A kernel of this layer's shape as spectral norm sees it, [out, rest]."""
        return as_matrix(kernel, nonnegative(self.spectral_out_axes, kernel.ndim))

    def matrix(self) -> Array:
        """[out, rest], the kernel as spectral norm sees it."""
        return self.kernel_matrix(self.kernel[...])

    def _allow_operator_norm(self) -> None:
        """Raises ValueError where the layer's norm as a linear map is not known."""

    def _operator_norm(self, kernel: Array, size: tuple[int, ...]) -> Array:
        """[] the layer's norm as a linear map; size: (h, w) of the map on its full side, () where it reads features."""
        return largest_singular_value(self.kernel_matrix(kernel))

    def _weight(self, train: bool | None, size: tuple[int, ...] = ()) -> Array:
        kernel = self.kernel[...]
        if self.exact_target is not None:
            kernel = kernel / (self._operator_norm(kernel, size) / self.exact_target)
        if self.norm is not None and not self.divided:
            train = is_training(self, train)
            kernel = kernel.astype(self.norm.u[...].dtype)  # sigma is of float32 or better
            kernel = kernel / self.norm.divisor(self.kernel_matrix(kernel), train=train)
        return kernel.astype(self.compute_dtype)

    def _add_bias(self, y: Array) -> Array:
        if self.bias is None:
            return y
        return y + spread_features(self.bias[...].astype(self.result_dtype), y.shape)


class Linear(Layer):
    """[n, in_features] -> [n, out_features]; kernel [in, out]."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, **options: Unpack[LayerOptions]):
        super().__init__((in_features, out_features), out_features if bias else 0, **options)

    def __call__(self, x: Array, *, train: bool | None = None) -> Array:
        """x [n, in_features]."""
        return self._add_bias(matmul(x.astype(self.compute_dtype), self._weight(train), self.result_dtype))


class _Windowed(Layer):
    """What a convolution and its transpose have in common: a window that is moved over a map."""

    stride: Any  # Pair
    padding: Any  # Padding
    dilation: Any  # Pair
    groups: int

    def _allow_operator_norm(self) -> None:
        kh, kw = self.kernel.shape[:2]
        strides = pair(self.stride)
        if kh != kw or strides[0] != strides[1] or pair(self.dilation) != (1, 1) or self.groups != 1:
            raise ValueError(
                "spectral_norm.form=operator is for square kernels, one stride, no dilation and no groups, got "
                f"kernel {kh}x{kw}, stride {self.stride}, dilation {self.dilation}, groups {self.groups}"
            )

    def _operator_norm(self, kernel: Array, size: tuple[int, ...]) -> Array:
        h, w = size
        return circular_operator_norm(kernel, (h, w), pair(self.stride)[0])


class Conv(_Windowed):
    """[n, h, w, in_channels] -> [n, h', w', out_channels]; kernel [kh, kw, in / groups, out]; torch.nn.Conv2d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        **options: Unpack[LayerOptions],
    ):
        """k, stride, dilation: one number, or one a direction, (rows, columns), as is padding: zeros on both sides, or
        "SAME", "VALID" as lax has them. groups: of channels, each convolved by itself.

        Raises:
          ValueError: one of them is out of its range.
        """
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups must divide {in_channels} channels in and {out_channels} out, got {groups}")
        conv_pads(padding, (1, 1), pair(k, "k"), pair(stride, "stride"), pair(dilation, "dilation"))  # or it raises
        shape = (*pair(k), in_channels // groups, out_channels)
        super().__init__(shape, out_channels if bias else 0, **options)

    def __call__(self, x: Array, *, train: bool | None = None) -> Array:
        """x [n, h, w, in_channels]."""
        weight = self._weight(train, x.shape[1:3])
        x = x.astype(self.compute_dtype)
        stride, pads, dilation = pair(self.stride), self._pads(x.shape[1:3]), pair(self.dilation)
        simple = simple_window(weight.shape, stride, pads, dilation, self.groups)
        if simple is not None:
            return self._add_bias(conv_in(x, weight, *simple, self.result_dtype))
        return self._add_bias(general_conv_in(x, weight, stride, pads, dilation, self.groups, self.result_dtype))

    def of_upsampled(self, x: Array, upsampling: Literal["nearest", "bilinear"], *, train: bool | None = None) -> Array:
        """The layer of x [n, h, w, in_channels] up-sampled to [n, 2h, 2w, in_channels]."""
        size = (2 * x.shape[1], 2 * x.shape[2])
        if upsampling == "bilinear" or not self._is_3x3(size):
            return self(upsample_bilinear(x) if upsampling == "bilinear" else upsample_nearest(x), train=train)
        return self._add_bias(upsampled_conv(x.astype(self.compute_dtype), self._weight(train, size)))

    def mean_pooled(self, x: Array, *, train: bool | None = None) -> Array:
        """The means of 2x2 of the layer of x [n, h, w, in_channels]; its result is even on each side."""
        if not self._is_3x3(x.shape[1:3]):
            return mean_pool(self(x, train=train))
        return self._add_bias(mean_pooled_conv(x.astype(self.compute_dtype), self._weight(train, x.shape[1:3])))

    def _pads(self, size: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        return conv_pads(self.padding, size, self.kernel.shape[:2], pair(self.stride), pair(self.dilation))

    def _is_3x3(self, size: tuple[int, ...]) -> bool:
        """Whether the layer and a change of size beside it may be one map (resampled_conv.py)."""
        window = simple_window(self.kernel.shape, pair(self.stride), self._pads(size), pair(self.dilation), self.groups)
        return window == (1, 1) and self.kernel.shape[0] == 3 and self.result_dtype == self.compute_dtype


class ConvTranspose(_Windowed):
    """[n, h, w, in_channels] -> [n, h', w', out_channels]; kernel [kh, kw, out, in]; torch.nn.ConvTranspose2d."""

    spectral_out_axes = -2
    groups = 1  # lax's transposed convolution has no groups

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        bias: bool = True,
        **options: Unpack[LayerOptions],
    ):
        """As Conv's; padding: rows and columns cut on both sides, or "SAME", "VALID" as lax.conv_transpose has them."""
        self.stride, self.padding, self.dilation = stride, padding, dilation
        transposed_cuts(padding, pair(k, "k"), pair(stride, "stride"), pair(dilation, "dilation"))  # or it raises
        super().__init__((*pair(k), out_channels, in_channels), out_channels if bias else 0, **options)

    def __call__(self, x: Array, *, train: bool | None = None) -> Array:
        """x [n, h, w, in_channels]."""
        k, stride, dilation = self.kernel.shape[:2], pair(self.stride), pair(self.dilation)
        cuts = transposed_cuts(self.padding, k, stride, dilation)
        weight = self._weight(train, transposed_size(x.shape[1:3], k, stride, cuts, dilation))
        x = x.astype(self.compute_dtype)
        simple = simple_window(weight.shape, stride, cuts, dilation)
        if simple is not None:
            return self._add_bias(conv_transpose_in(x, weight, *simple, self.result_dtype))
        return self._add_bias(general_conv_transpose_in(x, weight, stride, cuts, dilation, self.result_dtype))


class Embedding(Layer):
    """Class indices [n] -> [n, features]; kernel [num_classes, features], which is the matrix as it is."""

    spectral_out_axes = 0

    def __init__(self, num_classes: int, features: int, **options: Unpack[LayerOptions]):
        super().__init__((num_classes, features), 0, **options)

    def __call__(self, labels: Array, *, train: bool | None = None) -> Array:
        """labels: int [n] in [0, num_classes)."""
        return self._weight(train)[labels].astype(self.result_dtype)
