"""Linear, Conv, ConvTranspose and Embedding, each with or without spectral normalisation: PyTorch's own."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jax_sngan.config.schema import ModelConfig, SpectralNormConfig
from torch_ref.nn.operator_norm import circular_operator_norm
from torch_ref.nn.spectral_norm import add_spectral_norm

Initializer = Callable[[Tensor], Tensor]  # fills a weight


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); chainer's GlorotUniform(gain)."""
    return lambda weight: nn.init.xavier_uniform_(weight, gain)


def normal(stddev: float) -> Initializer:
    """N(0, stddev^2)."""
    return lambda weight: nn.init.normal_(weight, 0.0, stddev)


def layer_options(config: ModelConfig, network: str) -> dict[str, Any]:
    """What every layer of a network is made with: its spectral norm and its types."""
    return {
        "spectral_norm": config.spectral_norm_of(network),
        "dtype": getattr(torch, config.dtype),
        "compute_dtype": getattr(torch, config.dtype if config.compute_dtype == "same" else config.compute_dtype),
    }


def in_full(options: dict[str, Any]) -> dict[str, Any]:
    """layer_options of a network's last layer, which gives its result in the weights' own type: a pixel or a score of
    bfloat16's eight bits would be the coarsest number of all. What it multiplies is of compute_dtype as elsewhere."""
    return options | {"result_dtype": options["dtype"]}


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
        self.target = spectral_norm.target if spectral_norm else 1.0
        self.exact = spectral_norm is not None and spectral_norm.form == "operator"
        if not self.exact:
            add_spectral_norm(self, spectral_norm, dim=dim)

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
        init: Initializer,
        dtype: torch.dtype,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        super().__init__(in_features, out_features, bias, dtype=dtype)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input [n, in_features]."""
        return F.linear(self._factor(input), self._weight(), self._bias())


class Conv(Layer, nn.Conv2d):
    """[n, in_channels, h, w] -> [n, out_channels, h', w']; weight [out, in, k, k]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int,
        *,
        stride: int = 1,
        padding: int = 0,
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer,
        dtype: torch.dtype,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, out_channels, k, stride, padding, dtype=dtype)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype)

    def _operator_norm(self, size: tuple[int, ...]) -> Tensor:
        h, w = size
        return circular_operator_norm(self.weight, (h, w), self.stride[0])

    def forward(self, input: Tensor) -> Tensor:
        """input [n, in_channels, h, w]."""
        return self._conv_forward(self._factor(input), self._weight(tuple(input.shape[2:])), self._bias())


class ConvTranspose(Layer, nn.ConvTranspose2d):
    """[n, in_channels, h, w] -> [n, out_channels, h', w']; weight [in, out, k, k]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        k: int,
        *,
        stride: int = 1,
        padding: int = 0,
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer,
        dtype: torch.dtype,
        compute_dtype: torch.dtype | None = None,
    ):
        super().__init__(in_channels, out_channels, k, stride, padding, dtype=dtype)
        self._prepare(spectral_norm, init, compute_dtype, dim=1)

    def _operator_norm(self, size: tuple[int, ...]) -> Tensor:
        h, w = size  # of its result: the map that the convolution which it transposes reads
        return circular_operator_norm(self.weight, (h, w), self.stride[0])

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """input [n, in_channels, h, w]; output_size is not read."""
        x, stride, padding = self._factor(input), self.stride[0], int(self.padding[0])
        h, w = ((side - 1) * stride - 2 * padding + self.kernel_size[0] for side in x.shape[2:])
        return F.conv_transpose2d(x, self._weight((h, w)), self._bias(), stride, padding)


class Embedding(Layer, nn.Embedding):
    """Class indices [n] -> [n, features]; weight [num_classes, features], which is the matrix as it is."""

    def __init__(
        self,
        num_classes: int,
        features: int,
        *,
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer,
        dtype: torch.dtype,
        compute_dtype: torch.dtype | None = None,
        result_dtype: torch.dtype | None = None,
    ):
        super().__init__(num_classes, features, dtype=dtype)
        self._prepare(spectral_norm, init, compute_dtype, result_dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input: int [n] in [0, num_classes)."""
        return F.embedding(input, self._weight())
