"""Convolutions with fewer multiplications: exact algebra, in matmuls over the channels.

A bilinear algorithm (Winograd 1980; for images Lavin & Gray 2016) turns a small convolution into products:

    y = result(data(x) * taps(kernel))

with three linear maps that are additions alone. In one dimension, for the two results that a tile makes:

    F23       y0 = k0 d0 + k1 d1 + k2 d2      4 products for 6:  d0 - d2, d1 + d2, d2 - d1, d1 - d3
              y1 = k0 d1 + k1 d2 + k2 d3         with  k0, (k0 + k1 + k2) / 2, (k0 - k1 + k2) / 2, k2
    F22       y0 = k0 d0 + k1 d1              3 products for 4:  d0 - d1, d1, d2 - d1
              y1 = k0 d1 + k1 d2                 with  k0, k0 + k1, k1
    DOUBLED   y0 = k0 d0 + (k1 + k2) d1       3 products for 6:  d0 - d1, d1, d2 - d1
              y1 = (k0 + k1) d1 + k2 d2          with  k0, k0 + k1 + k2, k2

DOUBLED is three taps over a map whose pixels are each there twice. In two dimensions an algorithm is applied along both
axes, and a product is a matrix [pixels, channels in] times a matrix [channels in, channels out]: 16 of them for 36, 9
for 16 and 9 for 36. The transposed maps give both gradients in as many:

    in x          data'(result'(y) * taps(kernel)')
    in kernel     taps'(data(x)' * result'(y))

In float32 the results are as exact as the direct sums, or more: half the maps' terms are added (docs/performance.md).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.nn.cpu_kernels.processor import cache

Slices = list[Array]
Grid = list[Slices]  # [i][j]: i along the rows, j along the columns

# A map is worked on some images at a time, so that what lies between two steps stays in the processor's cache.
# Twice as many numbers as the second level has bytes, and for the kernel's gradient, which keeps two maps, at most a
# million: the fastest with 512 KiB and with 2 MiB (docs/performance.md).
CHUNK = 2 * cache()  # numbers of the map
KERNEL_CHUNK = min(CHUNK, 2**20)


class Algorithm(NamedTuple):
    """The maps along one axis, each on a list of slices, and their transposes."""

    taps: Callable[[Slices], Slices]
    taps_transposed: Callable[[Slices], Slices]
    data: Callable[[Slices], Slices]
    data_transposed: Callable[[Slices], Slices]
    pixels: int  # that a tile reads
    step: int  # pixels from one tile to the next
    block: int  # pixels a side that count as one with more channels: the convolution's stride
    result: Callable[[Slices], Slices]
    result_transposed: Callable[[Slices], Slices]


F23 = Algorithm(
    taps=lambda k: [k[0], 0.5 * (k[0] + k[1] + k[2]), 0.5 * (k[0] - k[1] + k[2]), k[2]],
    taps_transposed=lambda r: [r[0] + 0.5 * (r[1] + r[2]), 0.5 * (r[1] - r[2]), 0.5 * (r[1] + r[2]) + r[3]],
    data=lambda d: [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]],
    data_transposed=lambda p: [p[0], p[1] - p[2] + p[3], p[1] + p[2] - p[0], -p[3]],
    pixels=4,
    step=2,
    block=1,
    result=lambda p: [p[0] + p[1] + p[2], p[1] - p[2] - p[3]],
    result_transposed=lambda y: [y[0], y[0] + y[1], y[0] - y[1], -y[1]],
)
F22 = Algorithm(
    taps=lambda k: [k[0], k[0] + k[1], k[1]],
    taps_transposed=lambda r: [r[0] + r[1], r[1] + r[2]],
    data=lambda d: [d[0] - d[1], d[1], d[2] - d[1]],
    data_transposed=lambda p: [p[0], p[1] - p[0] - p[2], p[2]],
    pixels=3,
    step=2,
    block=2,
    result=lambda p: [p[0] + p[1], p[1] + p[2]],
    result_transposed=lambda y: [y[0], y[0] + y[1], y[1]],
)
DOUBLED = F22._replace(
    taps=lambda k: [k[0], k[0] + k[1] + k[2], k[2]],
    taps_transposed=lambda r: [r[0] + r[1], r[1], r[1] + r[2]],
    step=1,
    block=1,
)


def forward(a: Algorithm, x: Array, kernel: Array) -> Array:
    """The convolution with a zero on each side: x [n, h, w, c_in] -> y [n, h', w', c_out].

    Args:
      a: F23, a 3x3 convolution; F22, a 4x4 one of stride 2; DOUBLED, a 3x3 one of upsample_nearest(x).
      x: so large that the result is even on each side.
      kernel: [k, k, c_in, c_out].
    """
    taps = _taps(a, kernel)

    def some(x: Array) -> Array:
        return _result(a, _matmuls(_data(a, x), taps))

    return _in_chunks(some, x)


def input_gradient(a: Algorithm, y: Array, kernel: Array) -> Array:
    """The transpose of `forward` in x: y [n, h', w', c_out], even on each side -> x [n, h, w, c_in]."""
    taps = [[t.T for t in row] for row in _taps(a, kernel)]

    def some(y: Array) -> Array:
        return _data_transposed(a, _matmuls(_result_transposed(a, y), taps))

    return _in_chunks(some, y)


def kernel_gradient(a: Algorithm, x: Array, y: Array) -> Array:
    """The transpose of `forward` in its kernel: x [n, h, w, c_in], y [n, h', w', c_out] -> [k, k, c_in, c_out]."""

    def some(x: Array, y: Array) -> Grid:
        # Flat before the matmul: a tensordot over three axes makes XLA copy the first map, transposed.
        pairs = zip(_data(a, x), _result_transposed(a, y), strict=True)
        return [[_flat(d).T @ _flat(r) for d, r in zip(*rows, strict=True)] for rows in pairs]

    parts = _chunks(x, KERNEL_CHUNK)
    if parts == 1:
        return _taps_transposed(a, some(x, y))
    split = [m.reshape(parts, -1, *m.shape[1:]) for m in (x, y)]
    shapes = jax.eval_shape(some, *(m[0] for m in split))
    nothing = jax.tree.map(lambda s: lax.full_like(x, 0, s.dtype, s.shape), shapes)  # varies over a mesh as x does
    sums, _ = lax.scan(lambda total, xy: (jax.tree.map(jnp.add, total, some(*xy)), None), nothing, split)
    return _taps_transposed(a, sums)


def _in_chunks(f: Callable[[Array], Array], x: Array) -> Array:
    parts = _chunks(x, CHUNK)
    if parts == 1:
        return f(x)
    y = lax.map(f, x.reshape(parts, -1, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _chunks(x: Array, most: int) -> int:
    """In how many parts of at most so many numbers a map [n, h, w, c] is worked on; one where devices may share it."""
    if jax.device_count() > 1:
        return 1
    fit = max(most // max(x.size // len(x), 1), 1)
    return len(x) // max(m for m in range(1, len(x) + 1) if len(x) % m == 0 and m <= fit)


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _both_axes(f: Callable[[Slices], Slices], grid: Grid) -> Grid:
    columns = [f([row[j] for row in grid]) for j in range(len(grid[0]))]  # [j][i]
    return [f([column[i] for column in columns]) for i in range(len(columns[0]))]


def _matmuls(maps: Grid, taps: Grid) -> Grid:
    return [[m @ t for m, t in zip(*rows, strict=True)] for rows in zip(maps, taps, strict=True)]


def _taps(a: Algorithm, kernel: Array) -> Grid:
    """[k, k, c_in, c_out] -> the matrices of the products, [block^2 c_in, c_out]."""
    k = kernel.shape[0] // a.block
    b, c = a.block, kernel.shape[2:]
    blocks = kernel.reshape(k, b, k, b, *c).transpose(0, 2, 1, 3, 4, 5).reshape(k, k, b * b * c[0], c[1])
    return _both_axes(a.taps, [[blocks[i, j] for j in range(k)] for i in range(k)])


def _taps_transposed(a: Algorithm, sums: Grid) -> Array:
    """The products' matrices -> [k, k, c_in, c_out]."""
    blocks = jnp.stack([jnp.stack(row) for row in _both_axes(a.taps_transposed, sums)])
    k, b, c_out = len(blocks), a.block, blocks.shape[3]
    return blocks.reshape(k, k, b, b, -1, c_out).transpose(0, 2, 1, 3, 4, 5).reshape(k * b, k * b, -1, c_out)


def _data(a: Algorithm, x: Array) -> Grid:
    """x [n, h, w, c] -> what the products read of it, [n, tiles, tiles, block^2 c] each."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    n, h, w, c = x.shape
    b = a.block
    if b > 1:  # a block's pixels side by side
        x = x.reshape(n, h // b, b, w // b, b * c).transpose(0, 1, 3, 2, 4)
        # XLA turns the map anew for each of the products, unless a pad follows: of one row, which no tile reads.
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
        x = x.reshape(n, h // b + 1, w // b, b * b * c)[:, : h // b]
    h, w = (((s - a.pixels) // a.step) * a.step + 1 for s in x.shape[1:3])
    pixels = [[x[:, i : i + h : a.step, j : j + w : a.step] for j in range(a.pixels)] for i in range(a.pixels)]
    return _both_axes(a.data, pixels)


def _data_transposed(a: Algorithm, maps: Grid) -> Array:
    """The transpose: each pixel's sum over the tiles that read it."""
    pixels = _both_axes(a.data_transposed, maps)
    rows = [_overlap_add(a, [row[j] for row in pixels], 1) for j in range(a.pixels)]
    x = _overlap_add(a, rows, 2)
    n, h, w, _ = x.shape
    b = a.block
    x = x.reshape(n, h, w, b, b, -1).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, -1)
    return x[:, 1:-1, 1:-1]


def _overlap_add(a: Algorithm, pixels: Slices, axis: int) -> Array:
    """pixels[i], the tiles' pixel i -> the map that has each at its place along the axis."""
    last = (a.pixels - 1) // a.step
    phases = []
    for phase in range(a.step):
        placed = [_shifted(p, i, last - i, axis) for i, p in enumerate(pixels[phase :: a.step])]
        phases.append(sum(placed[1:], start=placed[0]))
    shape = list(phases[0].shape)
    tiles = pixels[0].shape[axis]
    shape[axis] *= a.step
    whole = jnp.stack(phases, axis + 1).reshape(shape)
    return lax.slice_in_dim(whole, 0, (tiles - 1) * a.step + a.pixels, axis=axis)


def _shifted(x: Array, before: int, after: int, axis: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)


def _result(a: Algorithm, products: Grid) -> Array:
    """The products, [n, tiles, tiles, c] each -> y [n, 2 tiles, 2 tiles, c]."""
    rows = [jnp.stack(row, 3) for row in _both_axes(a.result, products)]  # [n, tiles, tiles, 2, c]
    n, h, w, _, c = rows[0].shape
    return jnp.stack(rows, 2).reshape(n, 2 * h, 2 * w, c)


def _result_transposed(a: Algorithm, y: Array) -> Grid:
    """y [n, 2 tiles, 2 tiles, c] -> what the products make of it, [n, tiles, tiles, c] each."""
    return _both_axes(a.result_transposed, [[y[:, i::2, j::2] for j in range(2)] for i in range(2)])
