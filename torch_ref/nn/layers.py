"""Linear, Conv, ConvTranspose and Embedding, each with or without spectral normalisation: PyTorch's own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config.spectral_norm import SpectralNormConfig
from torch_ref.nn.conv import (
    Padding,
    Pair,
    conv_pads,
    general_conv,
    general_conv_transpose,
    pair,
    transposed_cuts,
    transposed_size,
)
from torch_ref.nn.operator_norm import circular_operator_norm
from torch_ref.nn.spectral_norm import add_spectral_norm

Initializer = Callable[[Tensor], Tensor]  # fills a weight


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); chainer's GlorotUniform(gain)."""
    return lambda weight: nn.init.xavier_uniform_(weight, gain)


def normal(stddev: float) -> Initializer:
    """N(0, stddev^2)."""
    return lambda weight: nn.init.normal_(weight, 0.0, stddev)


_GLOROT = glorot_uniform()


class Layer(nn.Module):
    """What the four have in common, beside PyTorch's own layer.

    Weight, bias and sigma are of `dtype`; what the layer multiplies is of compute_dtype, and so are its result and its
    bias unless result_dtype names a finer type. PyTorch on a CPU has no product of bfloat16 with a float32 result: the
    factors, rounded to bfloat16, are multiplied as float32, which is the same product. Only in the gradients' products
    is what comes back not rounded first.
    """

    def _prepare(
        self,
        spectral_norm: SpectralNormConfig | None,
        init: Initializer,
        compute_dtype: torch.dtype | None,
        result_dtype: torch.dtype | None = None,
        *,
        dim: int = 0,
    ) -> None:
        init(self.weight)  # type: ignore[arg-type]  # a Parameter in all four
        if (bias := getattr(self, "bias", None)) is not None:
            nn.init.zeros_(bias)
        self.compute_dtype: torch.dtype = compute_dtype or self.weight.dtype  # type: ignore[assignment]
        self.result_dtype: torch.dtype = result_dtype or self.compute_dtype
        norm = spectral_norm if spectral_norm and spectral_norm.networks != "none" else None
        self.target = norm.target if norm else 1.0
        self.exact = norm is not None and norm.form == "operator"
        if self.exact:
            self._allow_operator_norm()
        else:
            add_spectral_norm(self, norm, dim=dim)

    def _allow_operator_norm(self) -> None:
        """Raises ValueError where the layer's norm as a linear map is not known."""

    def _operator_norm(self, size: tuple[int, ...]) -> Tensor:
        """[] the layer's norm as a linear map; size: (h, w) of the map on its full side, () where it reads features."""
        return torch.linalg.svdvals(self.weight)[0]

    def _weight(self, size: tuple[int, ...] = ()) -> Tensor:
        weight: Tensor = self.weight  # type: ignore[assignment]  # normalised to 1 where torch's spectral norm is
        if self.exact:
            weight = weight / self._operator_norm(size)
        return (weight if self.target == 1 else weight * self.target).to(self.compute_dtype).to(self.result_dtype)

    def _factor(self, x: Tensor) -> Tensor:
        """x as the layer multiplies it."""
        return x.to(self.compute_dtype).to(self.result_dtype)

    def _bias(self) -> Tensor | None:
        bias: Tensor | None = self.bias  # type: ignore[assignment]
        return None if bias is None else bias.to(self.result_dtype)


class Linear(Layer, nn.Linear):
    """[n, in_features] -> [n, out_features]; weight [out, in]."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer = _GLOROT,
        dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        super().__init__(in_features, out_features, bias, dtype=dtype)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input [n, in_features]."""
        return F.linear(self._factor(input), self._weight(), self._bias())


class _Windowed(Layer):
    """What a convolution and its transpose have in common: a window that is moved over a map."""

    def _operator_norm(self, size: tuple[int, ...]) -> Tensor:
        h, w = size
        return circular_operator_norm(self.weight, (h, w), self.window["stride"][0])  # type: ignore[arg-type]

    def _set_window(self, k: Pair, stride: Pair, padding: Padding, dilation: Pair) -> None:
        self.window = {"k": pair(k), "stride": pair(stride), "dilation": pair(dilation)}
        self.zeros: Padding = padding

    def _allow_operator_norm(self) -> None:
        (kh, kw), (down, across), dilation = self.window.values()
        if kh != kw or down != across or dilation != (1, 1) or self.groups != 1:
            raise ValueError("spectral_norm.form=operator is for square kernels, one stride, no dilation and no groups")


class Conv(_Windowed, nn.Conv2d):
    """[n, in_channels, h, w] -> [n, out_channels, h', w']; weight [out, in / groups, kh, kw]."""

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
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer = _GLOROT,
        dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        own = 0 if isinstance(padding, str) else padding  # torch has no "SAME" for strides
        super().__init__(in_channels, out_channels, k, stride, own, dilation, groups, bias, dtype=dtype)
        self._set_window(k, stride, padding, dilation)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input [n, in_channels, h, w]."""
        size, stride, dilation = tuple(input.shape[2:]), self.window["stride"], self.window["dilation"]
        pads = conv_pads(self.zeros, size, **self.window)
        x, weight = self._factor(input), self._weight(size)
        return general_conv(x, weight, stride, pads, dilation, self.groups, self._bias())


class ConvTranspose(_Windowed, nn.ConvTranspose2d):
    """[n, in_channels, h, w] -> [n, out_channels, h', w']; weight [in, out, kh, kw]."""

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
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer = _GLOROT,
        dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        own = 0 if isinstance(padding, str) else padding
        super().__init__(in_channels, out_channels, k, stride, own, 0, 1, bias, dilation, dtype=dtype)
        self._set_window(k, stride, padding, dilation)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype, dim=1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """input [n, in_channels, h, w]; output_size is not read."""
        cuts = transposed_cuts(self.zeros, **self.window)
        weight = self._weight(transposed_size(tuple(input.shape[2:]), cuts=cuts, **self.window))
        stride, dilation = self.window["stride"], self.window["dilation"]
        return general_conv_transpose(self._factor(input), weight, stride, cuts, dilation, self._bias())


class Embedding(Layer, nn.Embedding):
    """Class indices [n] -> [n, features]; weight [num_classes, features], which is the matrix as it is."""

    def __init__(
        self,
        num_classes: int,
        features: int,
        *,
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer = _GLOROT,
        dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        super().__init__(num_classes, features, dtype=dtype)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input: int [n] in [0, num_classes)."""
        return F.embedding(input, self._weight())
