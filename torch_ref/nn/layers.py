"""Linear, Conv, ConvTranspose and Embedding, each with or without spectral normalisation: PyTorch's own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jax_sngan.config import SpectralNormConfig
from torch_ref.nn.spectral_norm import add_spectral_norm

Initializer = Callable[[Tensor], Tensor]  # fills a weight


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); chainer's GlorotUniform(gain)."""
    return lambda weight: nn.init.xavier_uniform_(weight, gain)


def normal(stddev: float) -> Initializer:
    """N(0, stddev^2)."""
    return lambda weight: nn.init.normal_(weight, 0.0, stddev)


def _prepare(layer: nn.Module, spectral_norm: SpectralNormConfig | None, init: Initializer, *, dim: int = 0) -> None:
    init(layer.weight)  # type: ignore[arg-type]  # a Parameter in all four
    if (bias := getattr(layer, "bias", None)) is not None:
        nn.init.zeros_(bias)
    add_spectral_norm(layer, spectral_norm, dim=dim)


class Linear(nn.Linear):
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
    ):
        super().__init__(in_features, out_features, bias, dtype=dtype)
        _prepare(self, spectral_norm, init)


class Conv(nn.Conv2d):
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
    ):
        super().__init__(in_channels, out_channels, k, stride, padding, dtype=dtype)
        _prepare(self, spectral_norm, init)


class ConvTranspose(nn.ConvTranspose2d):
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
    ):
        super().__init__(in_channels, out_channels, k, stride, padding, dtype=dtype)
        _prepare(self, spectral_norm, init, dim=1)


class Embedding(nn.Embedding):
    """Class indices [n] -> [n, features]; weight [num_classes, features], which is the matrix as it is."""

    def __init__(
        self,
        num_classes: int,
        features: int,
        *,
        spectral_norm: SpectralNormConfig | None = None,
        init: Initializer,
        dtype: torch.dtype,
    ):
        super().__init__(num_classes, features, dtype=dtype)
        _prepare(self, spectral_norm, init)
