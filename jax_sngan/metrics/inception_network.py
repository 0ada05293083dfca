"""The FID's Inception v3 as a function of its weights: the architecture as a table, its resize, the forward pass.

Szegedy et al. 2016 is the architecture; its FID variant differs from torchvision's in three places. Average pools do
not count their padding; the last block pools by maximum; images are resized with pixel i at i * size / 299, not at
pixels' centres. Layers bear the names of the published PyTorch file (mseitzer/pytorch-fid, toshas/torch-fidelity).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

SIZE = 299  # pixels a side that images are brought to
CLASSES = 1008
LAYERS = ("64", "192", "768", "2048", "logits_unbiased", "logits")

Kernel = tuple[int, int]


class Convolution(NamedTuple):
    """One BasicConv2d: a convolution without bias, batch normalisation and ReLU."""

    out: int
    kernel: Kernel = (1, 1)
    stride: int = 1
    padding: Kernel = (0, 0)


def _square(out: int, size: int, stride: int = 1, padding: int = 0) -> Convolution:
    return Convolution(out, (size, size), stride, (padding, padding))


def _row(out: int, size: int) -> Convolution:
    return Convolution(out, (1, size), 1, (0, size // 2))


def _column(out: int, size: int) -> Convolution:
    return Convolution(out, (size, 1), 1, (size // 2, 0))


# A block is its branches, whose maps are joined in this order; a branch is convolutions one after another. A tuple of
# two names at a branch's end are two convolutions of the same map. "average" and "maximum" are 3x3 pools.
Branch = tuple[Any, ...]


class Block(NamedTuple):
    """One Mixed block."""

    convolutions: dict[str, Convolution]
    branches: tuple[Branch, ...]


def _a(pool: int) -> Block:
    return Block(
        {
            "branch1x1": Convolution(64),
            "branch5x5_1": Convolution(48),
            "branch5x5_2": _square(64, 5, padding=2),
            "branch3x3dbl_1": Convolution(64),
            "branch3x3dbl_2": _square(96, 3, padding=1),
            "branch3x3dbl_3": _square(96, 3, padding=1),
            "branch_pool": Convolution(pool),
        },
        (
            ("branch1x1",),
            ("branch5x5_1", "branch5x5_2"),
            ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            ("average", "branch_pool"),
        ),
    )


def _b() -> Block:
    return Block(
        {
            "branch3x3": _square(384, 3, stride=2),
            "branch3x3dbl_1": Convolution(64),
            "branch3x3dbl_2": _square(96, 3, padding=1),
            "branch3x3dbl_3": _square(96, 3, stride=2),
        },
        (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), ("halve",)),
    )


def _c(width: int) -> Block:
    return Block(
        {
            "branch1x1": Convolution(192),
            "branch7x7_1": Convolution(width),
            "branch7x7_2": _row(width, 7),
            "branch7x7_3": _column(192, 7),
            "branch7x7dbl_1": Convolution(width),
            "branch7x7dbl_2": _column(width, 7),
            "branch7x7dbl_3": _row(width, 7),
            "branch7x7dbl_4": _column(width, 7),
            "branch7x7dbl_5": _row(192, 7),
            "branch_pool": Convolution(192),
        },
        (
            ("branch1x1",),
            ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
            ("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
            ("average", "branch_pool"),
        ),
    )


def _d() -> Block:
    return Block(
        {
            "branch3x3_1": Convolution(192),
            "branch3x3_2": _square(320, 3, stride=2),
            "branch7x7x3_1": Convolution(192),
            "branch7x7x3_2": _row(192, 7),
            "branch7x7x3_3": _column(192, 7),
            "branch7x7x3_4": _square(192, 3, stride=2),
        },
        (
            ("branch3x3_1", "branch3x3_2"),
            ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"),
            ("halve",),
        ),
    )


def _e(pool: str) -> Block:
    return Block(
        {
            "branch1x1": Convolution(320),
            "branch3x3_1": Convolution(384),
            "branch3x3_2a": _row(384, 3),
            "branch3x3_2b": _column(384, 3),
            "branch3x3dbl_1": Convolution(448),
            "branch3x3dbl_2": _square(384, 3, padding=1),
            "branch3x3dbl_3a": _row(384, 3),
            "branch3x3dbl_3b": _column(384, 3),
            "branch_pool": Convolution(192),
        },
        (
            ("branch1x1",),
            ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
            ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
            (pool, "branch_pool"),
        ),
    )


STEM = {
    "Conv2d_1a_3x3": _square(32, 3, stride=2),
    "Conv2d_2a_3x3": _square(32, 3),
    "Conv2d_2b_3x3": _square(64, 3, padding=1),
    "Conv2d_3b_1x1": Convolution(80),
    "Conv2d_4a_3x3": _square(192, 3),
}
BLOCKS = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _b(),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _d(),
    "Mixed_7b": _e("average"),
    "Mixed_7c": _e("maximum"),
}

Weights = dict[str, Any]  # NAME.kernel HWIO, NAME.scale and NAME.shift of the normalisation; fc.kernel, fc.bias


def shapes() -> dict[str, tuple[int, ...]]:
    """The name and shape of every array of the published file that the network reads."""
    found: dict[str, tuple[int, ...]] = {}

    def add(name: str, convolution: Convolution, channels: int) -> int:
        found[f"{name}.conv.weight"] = (convolution.out, channels, *convolution.kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.bn.{part}"] = (convolution.out,)
        return convolution.out

    channels = 3
    for name, convolution in STEM.items():
        channels = add(name, convolution, channels)
    for block_name, block in BLOCKS.items():
        joined = 0
        for branch in block.branches:
            at = [channels]
            for step in branch:
                if step not in ("average", "maximum", "halve"):
                    names = step if isinstance(step, tuple) else (step,)
                    at = [add(f"{block_name}.{n}", block.convolutions[n], at[0]) for n in names]
            joined += sum(at)
        channels = joined
    found |= {"fc.weight": (CLASSES, channels), "fc.bias": (CLASSES,)}
    return found


def resize(images: Array) -> Array:
    """[n, h, w, c] -> [n, 299, 299, c], bilinear as TensorFlow 1 does it: pixel i lies at i * size / 299.

    The tf.image.resize_bilinear of 2015, without align_corners: positions are not of pixels' centres, so the last rows
    repeat, and nothing is smoothed where an image shrinks.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        # In float32 and in this order, as the operator computes them: the weights come from their fractions.
        position = np.arange(SIZE, dtype=np.float32) * np.float32(size / SIZE)
        lower = np.floor(position).astype(np.int32)
        upper = np.minimum(lower + 1, size - 1)
        share = jnp.asarray(position - lower, images.dtype).reshape([-1 if a == axis else 1 for a in range(4)])
        below, above = (jnp.take(images, rows, axis) for rows in (lower, upper))
        images = below + (above - below) * share
    return images


def network(weights: Weights, images: Array) -> dict[str, Array]:
    """Every feature layer.

    Args:
      weights: of from_torch.
      images: [n, h, w, 3] in 0 to 255, in the weights' type.
    Returns:
      "64", "192", "768" [n, that many]: means over the maps behind the two stem pools and Mixed_6e; "2048": the FID's;
      "logits_unbiased" [n, 1008], without the last layer's bias: torch-fidelity's Inception Score; "logits".
    """
    x = (resize(images) - 128) / 128
    features = {}
    for name, convolution in STEM.items():
        x = _convolve(weights, name, convolution, x)
        if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
            x = _largest(x, stride=2)
            features[str(x.shape[3])] = x.mean((1, 2))
    for name, block in BLOCKS.items():
        x = jnp.concatenate([part for branch in block.branches for part in _branch(weights, name, block, branch, x)], 3)
        if name == "Mixed_6e":
            features["768"] = x.mean((1, 2))
    features["2048"] = x.mean((1, 2))
    features["logits_unbiased"] = features["2048"] @ weights["fc.kernel"]
    features["logits"] = features["logits_unbiased"] + weights["fc.bias"][None, :]
    return features


def _branch(weights: Weights, name: str, block: Block, branch: Branch, x: Array) -> list[Array]:
    for step in branch:
        if isinstance(step, tuple):
            return [_convolve(weights, f"{name}.{s}", block.convolutions[s], x) for s in step]
        if step == "average":
            x = _average(x)
        elif step in ("maximum", "halve"):
            x = _largest(x, stride=2) if step == "halve" else _largest(x, stride=1, padding=1)
        else:
            x = _convolve(weights, f"{name}.{step}", block.convolutions[step], x)
    return [x]


def _convolve(weights: Weights, name: str, convolution: Convolution, x: Array) -> Array:
    (top, left), stride = convolution.padding, convolution.stride
    x = lax.conv_general_dilated(
        x,
        weights[f"{name}.kernel"],
        (stride, stride),
        ((top, top), (left, left)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    scale, shift = (weights[f"{name}.{part}"][None, None, None, :] for part in ("scale", "shift"))
    return jax.nn.relu(x * scale + shift)


def _window(x: Array, start: float, combine: Any, stride: int, padding: int) -> Array:
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    made: Array = lax.reduce_window(
        x, np.asarray(start, x.dtype), combine, (1, 3, 3, 1), (1, stride, stride, 1), around
    )
    return made


def _largest(x: Array, *, stride: int, padding: int = 0) -> Array:
    return _window(x, -np.inf, lax.max, stride, padding)


def _average(x: Array) -> Array:
    """3x3 means; at the border, of what there is."""
    counts = _window(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0, lax.add, 1, 1)
    return _window(x, 0, lax.add, 1, 1) / counts
