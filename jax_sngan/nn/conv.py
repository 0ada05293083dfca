"""Convolutions whose gradients are fast on every backend: NHWC maps, HWIO square kernels, symmetric zero padding.

Three bilinear maps are closed under differentiation, so gradients of any order are again these three:

    conv              x, kernel -> y
    input_gradient    y, kernel -> x     its transpose in x; also what a transposed convolution computes
    kernel_gradient   x, y -> kernel     its transpose in the kernel

XLA's CPU backend runs its own transposes of a convolution 2 to 20 times slower than the forward (docs/performance.md),
so there they are written as matmuls of shifted slices and as small forward convolutions. Forward-mode
differentiation is not defined. Other backends take `lax`'s forms.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_FEW = 4  # channels so few that the k*k matmuls of slices would each be a matrix-vector product


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Cross-correlation, as torch.nn.functional.conv2d computes it.

    Args:
      x: [n, h, w, c_in].
      kernel: [k, k, c_in, c_out].
      stride: step between two windows, in pixels.
      padding: zeros on each of the four sides.
    Returns:
      [n, (h + 2 padding - k) // stride + 1, likewise w, c_out].
    """
    return lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def input_gradient(y: Array, kernel: Array, size: tuple[int, int], stride: int, padding: int) -> Array:
    """The transpose of `conv` in x: [n, h', w', c_out], [k, k, c_in, c_out] -> [n, *size, c_in]."""
    k = kernel.shape[0]
    fits = y.shape[1] * stride == size[0] and y.shape[2] * stride == size[1]
    if jax.default_backend() == "cpu" and stride > 1 and fits and k >= stride and padding < k:
        return subpixel_input_gradient(y, kernel, size, stride, padding)
    return plain_input_gradient(y, kernel, size, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """The transpose of `conv` in its kernel: [n, h, w, c_in], [n, h', w', c_out] -> [k, k, c_in, c_out]."""
    if jax.default_backend() != "cpu":
        return plain_kernel_gradient(x, y, k, stride, padding)
    if x.shape[3] <= _FEW:
        return columns_kernel_gradient(x, y, k, stride, padding)
    if y.shape[3] <= _FEW and stride == 1 and padding < k:
        # The same correlation seen from y: its columns are few, x is read once.
        turned = columns_kernel_gradient(y, x, k, 1, k - 1 - padding)
        return jnp.flip(turned, (0, 1)).swapaxes(2, 3)
    return slices_kernel_gradient(x, y, k, stride, padding)


def conv_transpose(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Transposed convolution, as torch.nn.functional.conv_transpose2d computes it.

    Args:
      x: [n, h, w, c_in].
      kernel: [k, k, c_out, c_in], that of the convolution it transposes.
      stride: pixels of the result for each pixel of x.
      padding: rows and columns cut from each of the four sides.
    Returns:
      [n, (h - 1) stride - 2 padding + k, likewise w, c_out].
    """
    h, w = ((s - 1) * stride - 2 * padding + kernel.shape[0] for s in x.shape[1:3])
    return input_gradient(x, kernel, (h, w), stride, padding)


def _conv_forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel, stride, padding), (x, kernel)


def _conv_backward(stride: int, padding: int, saved: tuple[Array, Array], y: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        input_gradient(y, kernel, x.shape[1:3], stride, padding),
        kernel_gradient(x, y, kernel.shape[0], stride, padding),
    )


def _input_forward(y: Array, kernel: Array, size: tuple[int, int], stride: int, padding: int):  # type: ignore[no-untyped-def]
    return input_gradient(y, kernel, size, stride, padding), (y, kernel)


def _input_backward(
    size: tuple[int, int], stride: int, padding: int, saved: tuple[Array, Array], x: Array
) -> tuple[Array, Array]:
    y, kernel = saved
    return conv(x, kernel, stride, padding), kernel_gradient(x, y, kernel.shape[0], stride, padding)


def _kernel_forward(x: Array, y: Array, k: int, stride: int, padding: int):  # type: ignore[no-untyped-def]
    return kernel_gradient(x, y, k, stride, padding), (x, y)


def _kernel_backward(
    k: int, stride: int, padding: int, saved: tuple[Array, Array], kernel: Array
) -> tuple[Array, Array]:
    x, y = saved
    return input_gradient(y, kernel, x.shape[1:3], stride, padding), conv(x, kernel, stride, padding)


conv.defvjp(_conv_forward, _conv_backward)
input_gradient.defvjp(_input_forward, _input_backward)
kernel_gradient.defvjp(_kernel_forward, _kernel_backward)


def plain_input_gradient(y: Array, kernel: Array, size: tuple[int, int], stride: int, padding: int) -> Array:
    """`input_gradient` as one convolution of y, spread by the stride, with the turned kernel."""
    k = kernel.shape[0]
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    pads = [(k - 1 - padding, s - ((r - 1) * stride - padding + 1)) for s, r in zip(size, y.shape[1:3], strict=True)]
    return lax.conv_general_dilated(y, turned, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=_LAYOUT)


def subpixel_input_gradient(y: Array, kernel: Array, size: tuple[int, int], stride: int, padding: int) -> Array:
    """`input_gradient` for stride > 1 with y's size times stride = size, without the zeros that spreading multiplies.

    Pixels of one phase (their index modulo the stride) see the same taps of the kernel, so each phase is a small
    convolution of y; the phases are then interleaved.
    """
    n, h, w, _ = y.shape
    turned = kernel.swapaxes(2, 3)
    rows = []
    for a in range(stride):
        row_taps, row_pad = _phase(a, kernel.shape[0], stride, padding)
        columns = []
        for b in range(stride):
            column_taps, column_pad = _phase(b, kernel.shape[0], stride, padding)
            taps = turned[row_taps][:, column_taps]
            columns.append(lax.conv_general_dilated(y, taps, (1, 1), [row_pad, column_pad], dimension_numbers=_LAYOUT))
        rows.append(jnp.stack(columns, axis=3))  # [n, h, w, stride, c]
    return jnp.stack(rows, axis=2).reshape(n, *size, kernel.shape[2])  # [n, h, stride, w, stride, c] before


def _phase(phase: int, k: int, stride: int, padding: int) -> tuple[slice, tuple[int, int]]:
    """Kernel taps that reach pixels of a phase, in the order of y's pixels that they multiply, and y's padding."""
    first = (phase + padding) % stride
    taps = list(range(first, k, stride))  # tap i multiplies y[m + (phase + padding - i) / stride] in pixel m
    offsets = [(phase + padding - i) // stride for i in taps]
    last = None if first - stride < 0 else first - stride
    return slice(taps[-1], last, -stride), (-offsets[-1], offsets[0])


def plain_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` as XLA transposes the convolution."""
    kernel = jnp.zeros((k, k, x.shape[3], y.shape[3]), x.dtype)

    def of_kernel(w: Array) -> Array:
        return lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_LAYOUT)

    return jax.linear_transpose(of_kernel, kernel)(y)[0]


def slices_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` as k * k matmuls, one for each shift of x."""
    flat = y.reshape(-1, y.shape[3])
    shifted = _shifts(x, y, k, stride, padding)
    return jnp.stack([s.reshape(-1, x.shape[3]).T @ flat for s in shifted]).reshape(k, k, x.shape[3], y.shape[3])


def columns_kernel_gradient(x: Array, y: Array, k: int, stride: int, padding: int) -> Array:
    """`kernel_gradient` as one matmul of all shifts of x side by side (im2col): for few channels."""
    columns = jnp.concatenate(_shifts(x, y, k, stride, padding), axis=3).reshape(-1, k * k * x.shape[3])
    return (columns.T @ y.reshape(-1, y.shape[3])).reshape(k, k, x.shape[3], y.shape[3])


def _shifts(x: Array, y: Array, k: int, stride: int, padding: int) -> list[Array]:
    """For each tap of the kernel, the pixels of x that it meets: k * k of [n, h', w', c_in]."""
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    h, w = (stride * (s - 1) + 1 for s in y.shape[1:3])
    return [padded[:, i : i + h : stride, j : j + w : stride] for i in range(k) for j in range(k)]
