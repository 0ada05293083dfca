"""The norm of a convolution as a linear map of maps, exact where the map wraps around, bounded where zeros surround it.

Sedghi, Gupta & Long 2019, theorem 6. Kernels are OIHW.
"""

import torch
from torch import Tensor


def circular_operator_norm(kernel: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """kernel [c_out, c_in, k, k] on maps (h, w) that wrap around -> [] max |conv(x)| / |x|, exactly.

    Raises:
      ValueError: size is not a multiple of stride.
    """
    h, w = size
    if h % stride or w % stride:
        raise ValueError(f"size must be a multiple of stride {stride}, got {h} x {w}")
    c_out, c_in, k, _ = kernel.shape
    rows, columns = (torch.arange(k, device=kernel.device) % side for side in size)
    taps = kernel.new_zeros(h, w, c_in, c_out)
    taps = taps.index_put((rows[:, None], columns[None, :]), kernel.permute(2, 3, 1, 0), accumulate=True)
    spectrum = torch.fft.fft2(taps, dim=(0, 1))
    low_h, low_w = h // stride, w // stride
    aliases = spectrum.reshape(stride, low_h, stride, low_w, c_in, c_out)
    half = aliases[:, :, :, : low_w // 2 + 1].permute(1, 3, 0, 2, 4, 5)
    blocks = half.reshape(-1, stride * stride * c_in, c_out)
    return torch.linalg.svdvals(blocks).amax() / stride


def operator_norm_bound(kernel: Tensor, size: tuple[int, int], stride: int = 1, padding: int = 0) -> Tensor:
    """kernel [c_out, c_in, k, k] -> [] at least the norm of `conv` on maps (h, w) surrounded by zeros."""
    h, w = (-(-(side + padding) // stride) * stride for side in size)
    return circular_operator_norm(kernel, (h, w), stride)
