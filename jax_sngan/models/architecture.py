"""What the rest of the package asks of an architecture beside a forward pass; each in models/ answers for itself.

A generator has `first_layer`, `flat_maps` and `onnx`; a discriminator `flat_maps` and `slope`. A network of somebody
else's may have them too: certify asks any discriminator that has `slope`.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from jax_sngan.nn.layers import Conv, ConvTranspose, Embedding, Linear

LayerPath = tuple[str, ...]  # a layer's place in a network, ("blocks", "0", "conv1")


class FlatMaps(NamedTuple):
    """A linear layer's axes that are flattened maps: their (h, w), or None. The frameworks flatten in other orders."""

    out: tuple[int, int] | None = None
    rest: tuple[int, int] | None = None


class FromMap:
    """A generator whose layer `project` makes a map of the latent.

    Attributes:
      project: latents [n, latent_size] -> [n, h * w * c].
      map: (h, w, c).
    """

    project: Linear
    map: tuple[int, int, int]

    @property
    def first_layer(self) -> Linear:
        """What a latent meets first."""
        return self.project

    @property
    def flat_maps(self) -> dict[LayerPath, FlatMaps]:
        """Of `project`."""
        return {("project",): FlatMaps(out=self.map[:2])}


class Graph(Protocol):
    """An ONNX graph that is being written (export/onnx_graph.py); a tensor is known by its name."""

    def constant(self, value: Any, dtype: type = ...) -> str:
        """A tensor that stands in the file."""

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node; returns the name of its one result."""

    def to_map(self, x: str, h: int, w: int, c: int) -> str:
        """[n, h * w * c] -> [n, c, h, w]."""

    def to_image(self, kind: str, x: str) -> str:
        """[n, c, h, w] -> [n, h, w, c], through what a generator's last layer goes through."""

    def linear(self, layer: Linear, x: str) -> str:
        """[n, in] -> [n, out]."""

    def conv(self, layer: Conv, x: str, size: tuple[int, int]) -> str:
        """[n, in, h, w] -> [n, out, h', w']; size: (h, w)."""

    def conv_transpose(self, layer: ConvTranspose, x: str, size: tuple[int, int]) -> str:
        """[n, in, h, w] -> [n, out, h', w']; size: (h', w')."""

    def norm(self, norm: Any, x: str, labels: str = "") -> str:
        """A normalisation in evaluation; labels: where it is conditional."""

    def upsample(self, kind: str, x: str) -> str:
        """[n, c, h, w] -> [n, c, 2h, 2w]; kind: a name in nn/resample.py."""

    def output(self, kind: str, x: str) -> str:
        """What the generator's last layer goes through; kind: a name in nn/activations.py."""


class Walk(Protocol):
    """Follows a map through a discriminator (lipschitz/upper.py); its methods give factors [3] of a bound."""

    size: tuple[int, int]  # (h, w) of the map that the next layer reads

    def norm(self, norm: Any) -> NDArray[np.float64]:
        """The factor of a normalisation in evaluation."""

    def layer(self, name: str, layer: Linear | Conv) -> NDArray[np.float64]:
        """The factor of a layer; the map's size moves on."""

    def score(self, score: Linear, embed: Embedding | None) -> NDArray[np.float64]:
        """The factor of the last layer, with the class's row where there are classes."""
