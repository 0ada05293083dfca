"""Linear, Conv, ConvTranspose and Embedding, each with or without spectral normalisation.

A layer's stored kernel is never normalised in place: the division by sigma is part of the forward pass.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_sngan.config.schema import ModelConfig
from jax_sngan.nn.conv import conv_transpose
from jax_sngan.nn.finer import conv_in, matmul
from jax_sngan.nn.operator_norm import circular_operator_norm, largest_singular_value
from jax_sngan.nn.passes import hold as hold
from jax_sngan.nn.passes import iterate as iterate
from jax_sngan.nn.resample import upsample_bilinear
from jax_sngan.nn.resampled_conv import mean_pooled_conv, upsampled_conv
from jax_sngan.nn.spectral_norm import PowerIteration, as_matrix, is_training, nonnegative
from jax_sngan.nn.spectral_options import SpectralNormOptions
from jax_sngan.nn.sums import spread_features

Initializer = Callable[[Array, tuple[int, ...], jnp.dtype], Array]


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); chainer's GlorotUniform(gain)."""
    return jax.nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")


def normal(stddev: float) -> Initializer:
    """N(0, stddev^2)."""
    return jax.nn.initializers.normal(stddev)


def layer_options(config: ModelConfig, network: str, rngs: nnx.Rngs) -> dict[str, Any]:
    """What every layer of a network is made with: its spectral norm, its types and where its weights are drawn from."""
    return {
        "spectral_norm": config.spectral_norm_of(network),
        "dtype": jnp.dtype(config.dtype),
        "compute_dtype": jnp.dtype(config.dtype if config.compute_dtype == "same" else config.compute_dtype),
        "rngs": rngs,
    }


def in_full(options: dict[str, Any]) -> dict[str, Any]:
    """layer_options of a network's last layer, which gives its result in the weights' own type: a pixel or a score of
    bfloat16's eight bits would be the coarsest number of all. What it multiplies is of compute_dtype as elsewhere."""
    return options | {"result_dtype": options["dtype"]}


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
        spectral_norm: SpectralNormOptions | bool | None,
        init: Initializer,
        dtype: jnp.dtype,
        compute_dtype: jnp.dtype | None = None,
        result_dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        self.compute_dtype = compute_dtype or dtype
        self.result_dtype = result_dtype or self.compute_dtype
        self.kernel = nnx.Param(init(rngs.params(), shape, dtype))
        self.bias = nnx.Param(jnp.zeros((bias,), dtype)) if bias else None
        self.deterministic = False  # what a pass is that is not told: set by train() and eval()
        norm = SpectralNormOptions.of(spectral_norm)
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

    def _operator_norm(self, kernel: Array, size: tuple[int, ...]) -> Array:
        """[] the layer's norm as a linear map; size: (h, w) of the map on its full side, () where it reads features."""
        return largest_singular_value(self.kernel_matrix(kernel))

    def _weight(self, train: bool | None, size: tuple[int, ...] = ()) -> Array:
        kernel = self.kernel[...]
        if self.exact_target is not None:
            kernel = kernel / (self._operator_norm(kernel, size) / self.exact_target)
        if self.norm is not None and not self.divided:
            train = is_training(self, train)
            kernel = kernel / self.norm.divisor(self.kernel_matrix(kernel), train=train)
        return kernel.astype(self.compute_dtype)

    def _add_bias(self, y: Array) -> Array:
        if self.bias is None:
            return y
        return y + spread_features(self.bias[...].astype(self.result_dtype), y.shape)


class Linear(Layer):
    """[n, in_features] -> [n, out_features]; kernel [in, out]."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        spectral_norm: SpectralNormOptions | bool | None = None,
        init: Initializer,
        dtype: jnp.dtype,
        compute_dtype: jnp.dtype | None = None,
        result_dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            (in_features, out_features),
            out_features if bias else 0,
            spectral_norm=spectral_norm,
            init=init,
            dtype=dtype,
            compute_dtype=compute_dtype,
            result_dtype=result_dtype,
            rngs=rngs,
        )

    def __call__(self, x: Array, *, train: bool | None = None) -> Array:
        """x [n, in_features]."""
        return self._add_bias(matmul(x.astype(self.compute_dtype), self._weight(train), self.result_dtype))


class Conv(Layer):
    """[n, h, w, in_channels] -> [n, h', w', out_channels]; kernel [k, k, in, out]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int,
        *,
        stride: int = 1,
        padding: int = 0,
        spectral_norm: SpectralNormOptions | bool | None = None,
        init: Initializer,
        dtype: jnp.dtype,
        compute_dtype: jnp.dtype | None = None,
        result_dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        self.stride, self.padding = stride, padding
        super().__init__(
            (k, k, in_channels, out_channels),
            out_channels,
            spectral_norm=spectral_norm,
            init=init,
            dtype=dtype,
            compute_dtype=compute_dtype,
            result_dtype=result_dtype,
            rngs=rngs,
        )

    def _operator_norm(self, kernel: Array, size: tuple[int, ...]) -> Array:
        h, w = size
        return circular_operator_norm(kernel, (h, w), self.stride)

    def __call__(self, x: Array, *, train: bool | None = None) -> Array:
        """x [n, h, w, in_channels]."""
        weight = self._weight(train, x.shape[1:3])
        x = x.astype(self.compute_dtype)
        return self._add_bias(conv_in(x, weight, self.stride, self.padding, self.result_dtype))

    def of_upsampled(self, x: Array, upsampling: Literal["nearest", "bilinear"], *, train: bool | None = None) -> Array:
        """The layer of x [n, h, w, in_channels] up-sampled, [n, 2h, 2w, out_channels]; a 3x3 layer with padding 1."""
        if upsampling == "bilinear":
            return self(upsample_bilinear(x), train=train)
        weight = self._weight(train, (2 * x.shape[1], 2 * x.shape[2]))
        return self._add_bias(upsampled_conv(x.astype(self.compute_dtype), weight))

    def mean_pooled(self, x: Array, *, train: bool | None = None) -> Array:
        """The means of 2x2 of the layer of x [n, h, w, in_channels], [n, h/2, w/2, out_channels]; likewise 3x3."""
        weight = self._weight(train, x.shape[1:3])
        return self._add_bias(mean_pooled_conv(x.astype(self.compute_dtype), weight))


class ConvTranspose(Layer):
    """[n, h, w, in_channels] -> [n, h', w', out_channels]; kernel [k, k, out, in]."""

    spectral_out_axes = -2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int,
        *,
        stride: int = 1,
        padding: int = 0,
        spectral_norm: SpectralNormOptions | bool | None = None,
        init: Initializer,
        dtype: jnp.dtype,
        compute_dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        self.stride, self.padding = stride, padding
        super().__init__(
            (k, k, out_channels, in_channels),
            out_channels,
            spectral_norm=spectral_norm,
            init=init,
            dtype=dtype,
            compute_dtype=compute_dtype,
            rngs=rngs,
        )

    def _operator_norm(self, kernel: Array, size: tuple[int, ...]) -> Array:
        h, w = size  # of its result: the map that the convolution which it transposes reads
        return circular_operator_norm(kernel, (h, w), self.stride)

    def __call__(self, x: Array, *, train: bool | None = None) -> Array:
        """x [n, h, w, in_channels]."""
        h, w = ((side - 1) * self.stride - 2 * self.padding + self.kernel.shape[0] for side in x.shape[1:3])
        weight = self._weight(train, (h, w))
        return self._add_bias(conv_transpose(x.astype(self.compute_dtype), weight, self.stride, self.padding))


class Embedding(Layer):
    """Class indices [n] -> [n, features]; kernel [num_classes, features], which is the matrix as it is."""

    spectral_out_axes = 0

    def __init__(
        self,
        num_classes: int,
        features: int,
        *,
        spectral_norm: SpectralNormOptions | bool | None = None,
        init: Initializer,
        dtype: jnp.dtype,
        compute_dtype: jnp.dtype | None = None,
        result_dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            (num_classes, features),
            0,
            spectral_norm=spectral_norm,
            init=init,
            dtype=dtype,
            compute_dtype=compute_dtype,
            result_dtype=result_dtype,
            rngs=rngs,
        )

    def __call__(self, labels: Array, *, train: bool | None = None) -> Array:
        """labels: int [n] in [0, num_classes)."""
        return self._weight(train)[labels].astype(self.result_dtype)
