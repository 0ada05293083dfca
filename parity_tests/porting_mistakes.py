"""What parity_kit says of each mistake in the ports of porting_networks: the table of docs/porting.md.

python -m parity_tests.porting_mistakes        the table as Markdown
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from flax import nnx

import parity_kit
from parity_tests import porting_networks as nets


class Port(NamedTuple):
    """One network in both frameworks, and what it is given."""

    torch: Callable[[], torch.nn.Module]
    nnx: Callable[..., nnx.Module]
    inputs: Callable[[np.random.Generator], Any]


class Mistake(NamedTuple):
    """What is wrong, where it has to be found, and a word that tells its kind."""

    port: str
    name: str
    layer: str
    kind: str


PORTS = {
    "DCGAN's G": Port(nets.TorchGenerator, nets.Generator, lambda rng: rng.normal(size=(4, 6))),
    "DCGAN's D": Port(nets.TorchDiscriminator, nets.Discriminator, lambda rng: rng.normal(size=(4, 12, 12, 3))),
    "SN-ResNet's D": Port(
        nets.TorchResNet, nets.ResNet, lambda rng: (rng.normal(size=(4, 8, 8, 3)), rng.integers(2, size=4))
    ),
    "up-sampling G": Port(nets.TorchUp, nets.Up, lambda rng: rng.normal(size=(4, 6))),
    "MLP": Port(nets.TorchMLP, nets.MLP, lambda rng: rng.normal(size=(4, 4, 4, 2))),
    "small CNN": Port(nets.TorchSmall, nets.Small, lambda rng: rng.normal(size=(4, 10, 10, 4))),
}
MISTAKES = [
    Mistake("DCGAN's G", "unflattened as (w, h, c)", "bn1", "(w, h, c) in nnx"),
    Mistake("DCGAN's G", "momentum of the other convention", "bn1", "momentum"),
    Mistake("DCGAN's G", "biased running variance", "bn1", "biased variance"),
    Mistake("DCGAN's G", "running statistics are not kept", "bn1", "not kept"),
    Mistake("DCGAN's G", "batch statistics in evaluation", "bn1", "batch's statistics"),
    Mistake("DCGAN's G", "a ReLU left out", "up2", "no activation in nnx"),
    Mistake("DCGAN's G", "'SAME' in a transposed convolution", "up2", "padding at stride 2"),
    Mistake("DCGAN's G", "the kernel of a transposed convolution not turned", "up2", "transposed kernel"),
    Mistake("DCGAN's G", "the last tanh left out", "out", "activation: tanh"),
    Mistake("DCGAN's D", "'SAME' at stride 2", "conv2", "padding at stride 2"),
    Mistake("DCGAN's D", "eps of another framework", "bn2", "eps: 1e-05 in torch, 0.001"),
    Mistake("DCGAN's D", "unbiased variance in the normalisation", "bn2", "unbiased variance"),
    Mistake("DCGAN's D", "batch statistics held constant", "bn2", "held constant"),
    Mistake("DCGAN's D", "slope of a leaky ReLU", "conv3", "slope"),
    Mistake("DCGAN's D", "a convolution for a correlation", "conv3", "transposed kernel"),
    Mistake("DCGAN's D", "another number of groups", "norm3", "groups"),
    Mistake("DCGAN's D", "flax's eps of GroupNorm", "norm3", "eps"),
    Mistake("DCGAN's D", "flattened as (c, w, h)", "fc", "layout of a flatten"),
    Mistake("SN-ResNet's D", "u renewed before v", "block1.c2", "order of the iteration"),
    Mistake("SN-ResNet's D", "two iterations a pass", "block1.c2", "order of the iteration"),
    Mistake("SN-ResNet's D", "an iteration in evaluation", "block1.c2", "in evaluation"),
    Mistake("SN-ResNet's D", "sigma held constant", "block1.c2", "gradient of sigma"),
    Mistake("SN-ResNet's D", "the largest singular value itself", "block1.c2", "largest singular value"),
    Mistake("SN-ResNet's D", "a layer not normalised", "block1.c2", "left out"),
    Mistake("SN-ResNet's D", "the kernel overwritten", "block1.c2", "overwritten"),
    Mistake("SN-ResNet's D", "a shortcut that sees the ReLU's result", "block1.sc", "ReLU"),
    Mistake("SN-ResNet's D", "the shortcut left out", "block1.sc", "not called"),
    Mistake("SN-ResNet's D", "a mean over the map for its sum", "score", "a factor of 0.25"),
    Mistake("up-sampling G", "nearest for bilinear", "conv1", "change of size"),
    Mistake("up-sampling G", "the map repeated, not its pixels", "conv2", "change of size"),
    Mistake("MLP", "flax's eps of LayerNorm", "norm", "eps"),
    Mistake("MLP", "jax.nn.gelu's default", "again", "GELU by tanh"),
    Mistake("MLP", "a linear kernel not transposed", "again", "transposed kernel"),
    Mistake("MLP", "the gradient stopped", "again", "gradient"),
    Mistake("small CNN", "dilation left out", "a", "dilation"),
    Mistake("small CNN", "a bias left out", "b", "bias left out"),
    Mistake("small CNN", "'SAME' in a pooling", "b", "padded behind"),
    Mistake("small CNN", "the activation after the mean", "head", "order of activation"),
]


def tried(port: str, wrong: str = "") -> parity_kit.Report:
    """The comparison of one network, with a mistake or none."""
    torch.manual_seed(0)
    p = PORTS[port]
    return parity_kit.compare(p.torch(), p.nnx(nnx.Rngs(0), wrong), p.inputs(np.random.default_rng(1)), passes=2)


def found(mistake: Mistake) -> tuple[str, str]:
    """(layer, kind) as the kit names them."""
    first = tried(mistake.port, mistake.name).first_difference
    return (first.layer, first.kind) if first else ("none", "none")


def table() -> str:
    """One row a mistake."""
    rows = ["| network | mistake | layer | what the kit says |", "| --- | --- | --- | --- |"]
    for m in MISTAKES:
        layer, kind = found(m)
        rows.append(f"| {m.port} | {m.name} | `{layer}` | {kind} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
