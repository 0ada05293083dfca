"""Convolutions and their gradients: NCHW maps, OIHW square kernels, symmetric zero padding. All are PyTorch's own."""

import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad


def conv(x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """x [n, c_in, h, w], kernel [c_out, c_in, k, k] -> [n, c_out, (h + 2 padding - k) // stride + 1, likewise w]."""
    return F.conv2d(x, kernel, stride=stride, padding=padding)


def input_gradient(y: Tensor, kernel: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The transpose of `conv` in x: [n, c_out, h', w'], [c_out, c_in, k, k] -> [n, c_in, *size]."""
    shape = (y.shape[0], kernel.shape[1], *size)
    return grad.conv2d_input(shape, kernel, y, stride=stride, padding=padding)


def kernel_gradient(x: Tensor, y: Tensor, k: int, stride: int, padding: int) -> Tensor:
    """The transpose of `conv` in its kernel: [n, c_in, h, w], [n, c_out, h', w'] -> [c_out, c_in, k, k]."""
    return grad.conv2d_weight(x, (y.shape[1], x.shape[1], k, k), y, stride=stride, padding=padding)


def conv_transpose(x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """x [n, c_in, h, w], kernel [c_in, c_out, k, k] -> [n, c_out, (h - 1) stride - 2 padding + k, likewise w]."""
    return F.conv_transpose2d(x, kernel, stride=stride, padding=padding)
