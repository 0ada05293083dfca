"""Layers with spectral normalisation that agree with PyTorch's, and what they are made of; it needs jax and flax alone.

SpectralNorm wraps any nnx layer; spectral_norm.init_tree and normalize_tree are for Linen, Haiku and Equinox. Conv,
ConvTranspose, Linear and Embedding bring a spectral norm along. cpu_kernels.enabled(False) turns hand-written
derivatives off, for forward mode.
"""

from jax_sngan.nn import conv, cpu_kernels, spectral_norm
from jax_sngan.nn.activations import leaky_relu
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.blocks import DiscriminatorBlock, FirstDiscriminatorBlock, GeneratorBlock
from jax_sngan.nn.layer_norm import LayerNorm
from jax_sngan.nn.layers import Conv, ConvTranspose, Embedding, Layer, Linear, glorot_uniform, normal
from jax_sngan.nn.normalization import NoNorm
from jax_sngan.nn.passes import hold, iterate
from jax_sngan.nn.power_iteration import PowerIteration
from jax_sngan.nn.resample import mean_pool, upsample_bilinear, upsample_nearest
from jax_sngan.nn.spectral_norm import SpectralNorm, SpectralStat
from jax_sngan.nn.spectral_options import SpectralNormOptions
