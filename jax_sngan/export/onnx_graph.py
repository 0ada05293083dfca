"""A generator as an ONNX graph, written from its own layers: no tracer, and nothing but standard operators.

Maps are [n, c, h, w] inside, as ONNX has them, and [n, h, w, c] at the end, as everywhere in this package. Spectral
norm is divided out of the kernels. The graph carries no value_info: onnxruntime-web refuses shapes of a free batch.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jax_sngan.config.schema import ModelConfig
from jax_sngan.export.stablehlo import inside
from jax_sngan.models.network import Variables, build
from jax_sngan.nn.batch_norm import BatchNorm
from jax_sngan.nn.layers import Conv, ConvTranspose, Linear
from jax_sngan.nn.normalization import NoNorm

OPSET = 17
# erfinv(x) = x p(w), w = -log(1 - x^2), in single precision: Giles 2012, "Approximating the erfinv function", table 5.
_MIDDLE = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
           -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip  # of w - 2.5, where w < 5
_TAILS = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
          0.00943887047, 1.00167406, 2.83297682)  # fmt: skip  # of sqrt(w) - 3
IR_VERSION = 8  # that of onnx 1.12, the first with this opset: older runtimes refuse a newer one


class _Graph:
    """Nodes in the order in which they run; a tensor is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """A tensor that stands in the file."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node; returns the name of its one result."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def truncated(self, x: str, truncation: float) -> str:
        """Latents from N(0, 1) -> cut off at +- truncation: sqrt(2) erfinv(inside * erf(x / sqrt(2)))."""
        part = self.add("Erf", self.add("Mul", x, self.constant(np.sqrt(0.5))))
        part = self.add("Mul", part, self.constant(inside(truncation)))
        one = self.constant(1)
        sides = self.add("Mul", self.add("Sub", one, part), self.add("Add", one, part))
        w = self.add("Neg", self.add("Log", sides))
        middle = self._polynomial(self.add("Sub", w, self.constant(2.5)), _MIDDLE)
        tails = self._polynomial(self.add("Sub", self.add("Sqrt", w), self.constant(3)), _TAILS)
        inverse = self.add("Mul", part, self.add("Where", self.add("Less", w, self.constant(5)), middle, tails))
        return self.add("Mul", inverse, self.constant(np.sqrt(2)))

    def _polynomial(self, x: str, coefficients: tuple[float, ...]) -> str:
        """Of x, the coefficient of the highest power first."""
        value = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.add("Add", self.add("Mul", value, x), self.constant(coefficient))
        return value

    def to_map(self, x: str, h: int, w: int, c: int) -> str:
        """[n, h * w * c] -> [n, c, h, w]."""
        maps = self.add("Reshape", x, self.constant([-1, h, w, c], np.int64))
        return self.add("Transpose", maps, perm=[0, 3, 1, 2])

    def linear(self, layer: Linear, x: str) -> str:
        """[n, in] -> [n, out]."""
        return self.add("Gemm", x, self.constant(layer._weight(False)), *self._bias(layer))

    def conv(self, layer: Conv, x: str, size: tuple[int, int]) -> str:
        """[n, in, h, w] -> [n, out, h', w']; size: (h, w), which an exact spectral norm depends on."""
        kernel = np.transpose(layer._weight(False, size), (3, 2, 0, 1))  # [out, in, k, k]
        return self._convolve("Conv", layer, kernel, x)

    def conv_transpose(self, layer: ConvTranspose, x: str, size: tuple[int, int]) -> str:
        """[n, in, h, w] -> [n, out, h', w']; size: (h', w')."""
        kernel = np.transpose(layer._weight(False, size), (3, 2, 0, 1))  # stored [k, k, out, in] -> [in, out, k, k]
        return self._convolve("ConvTranspose", layer, kernel, x)

    def _convolve(self, operator: str, layer: Conv | ConvTranspose, kernel: np.ndarray, x: str) -> str:
        return self.add(
            operator, x, self.constant(kernel), *self._bias(layer),
            kernel_shape=kernel.shape[2:], strides=[layer.stride] * 2, pads=[layer.padding] * 4,
        )  # fmt: skip

    def _bias(self, layer: Any) -> list[str]:
        return [] if layer.bias is None else [self.constant(layer.bias[...])]

    def norm(self, norm: BatchNorm | NoNorm, x: str, labels: str = "") -> str:
        """[n, c, ...] -> the same, by the running statistics; with labels [n, c, h, w]."""
        if isinstance(norm, NoNorm):
            return x
        scale, bias, mean, var = (np.asarray(a[...], np.float64) for a in (norm.scale, norm.bias, norm.mean, norm.var))
        if not labels or scale.ndim == 1:
            given = [self.constant(a) for a in (scale, bias, mean, var)]
            return self.add("BatchNormalization", x, *given, epsilon=norm.eps)
        # A row of factors and one of summands for each class; the statistics are those of all classes.
        factors = scale / np.sqrt(var + norm.eps)
        for operator, table in (("Mul", factors), ("Add", bias - mean * factors)):
            row = self.add("Gather", self.constant(table[:, :, None, None]), labels)  # [n, c, 1, 1]
            x = self.add(operator, x, row)
        return x

    def upsample(self, kind: str, x: str) -> str:
        """[n, c, h, w] -> [n, c, 2h, 2w]; kind: a name in nn/resample.py."""
        how: dict[str, str] = {
            "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        }[kind]
        return self.add("Resize", x, "", self.constant([1, 1, 2, 2]), **how)

    def to_image(self, kind: str, x: str) -> str:
        """[n, c, h, w] -> [n, h, w, c], through what the generator's last layer goes through."""
        return self.add("Transpose", self.output(kind, x), perm=[0, 2, 3, 1])

    def output(self, kind: str, x: str) -> str:
        """What the generator's last layer goes through; kind: a name in nn/activations.py."""
        return x if kind == "identity" else self.add("Tanh", x)


def onnx_generator(
    config: ModelConfig, variables: Variables, about: dict[str, str], truncation: float | None = None
) -> onnx.ModelProto:
    """The generator in evaluation mode.

    Args:
      config: of a float32 model.
      variables: the generator's.
      about: words that travel in the file, by name.
      truncation: it takes latents from N(0, 1) and cuts them off at +- this (runs.sample.truncated); None: as given.
    Returns:
      a checked model: latents float32 [n, latent_size], with classes also labels int32 [n] -> images float32
      [n, h, w, c]; n is free.
    """
    graph = _Graph()
    labels = "labels" if config.num_classes else ""
    latents = "latents" if truncation is None else graph.truncated("latents", truncation)
    x = build(config).generator.module(variables).onnx(graph, latents, labels)
    graph.add("Identity", x, output="images")

    def value(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["n", *shape])

    inputs = [value("latents", TensorProto.FLOAT, config.latent_size)]
    if labels:
        inputs.append(value("labels", TensorProto.INT32))
    images = value("images", TensorProto.FLOAT, config.image_size, config.image_size, config.channels)
    model = helper.make_model(
        helper.make_graph(graph.nodes, "generator", inputs, [images], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jax-sngan",
    )
    helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model


def first_layer(config: ModelConfig, variables: Variables) -> np.ndarray:
    """The matrix [latent_size, features] that a latent meets first, its spectral norm divided out."""
    return np.asarray(build(config).generator.module(variables).first_layer._weight(False))
