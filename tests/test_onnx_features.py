"""A network from an ONNX file gets images as it asks for them; what it cannot take is one line."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from jax_sngan.metrics import extractors, onnx_features
from jax_sngan.system.errors import UserError


class Session:
    """Stands in for onnxruntime.InferenceSession: gives back what it was given, flat, and its row means."""

    def __init__(self, shape: list[object], kind: str, outputs: int):
        self.input = SimpleNamespace(name="x", shape=shape, type=kind)
        self.outputs, self.seen = outputs, []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [self.input]

    def get_outputs(self) -> list[int]:
        return [0] * self.outputs

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        x = feed["x"]
        self.seen.append((x.dtype, x.shape))
        flat = x.reshape(len(x), -1)
        return [flat, flat.mean(1, keepdims=True)][: self.outputs]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Path, Session]]:
    def make(shape: list[object], kind: str = "tensor(float)", outputs: int = 1) -> tuple[Path, Session]:
        session = Session(shape, kind, outputs)
        program = SimpleNamespace(InferenceSession=lambda path, providers: session)
        monkeypatch.setitem(sys.modules, "onnxruntime", program)
        path = tmp_path / "net.onnx"
        path.write_bytes(helper.make_model(helper.make_graph([], "none", [], [])).SerializeToString())
        return path, session

    return make


IMAGES = np.random.default_rng(0).integers(0, 256, (70, 4, 5, 3), np.uint8)


def test_channels_come_first_where_the_network_says_so(network: Callable) -> None:
    path, session = network(["n", 3, 4, 5])
    made = onnx_features.load_onnx(path)(IMAGES)
    np.testing.assert_array_equal(made, IMAGES.transpose(0, 3, 1, 2).reshape(70, -1))
    assert session.seen == [(np.float32, (64, 3, 4, 5)), (np.float32, (6, 3, 4, 5))]


def test_free_axes_and_bytes_are_given_as_they_are(network: Callable) -> None:
    path, session = network([None, None, None, None], "tensor(uint8)", outputs=2)
    features, probabilities = onnx_features.load_onnx(path)(IMAGES)
    np.testing.assert_array_equal(features, IMAGES.reshape(70, -1))
    assert probabilities.shape == (70, 1)
    assert session.seen[0] == (np.uint8, (64, 4, 5, 3))
    extractor = extractors.of_onnx(path)
    assert extractor.name == "net"
    assert len(extractor.checksum) == 64


def test_what_it_cannot_take_is_said(network: Callable, tmp_path: Path) -> None:
    path, _ = network(["n", 3, 32, 32])
    with pytest.raises(UserError, match=r"takes images \['n', 3, 32, 32\], not \[4, 5, 3\]"):
        onnx_features.load_onnx(path)(IMAGES)
    with pytest.raises(UserError, match="no file"):
        onnx_features.load_onnx(tmp_path / "other.onnx")
    path, _ = network(["n", 10])
    with pytest.raises(UserError, match=r"must have one input, uint8 or float32 of 4 axes"):
        onnx_features.load_onnx(path)


def test_weights_beside_the_file_are_part_of_its_checksum(tmp_path: Path) -> None:
    """Two networks whose files are equal and whose weights are not have different numbers, and different checksums."""

    def made(folder: Path, value: float, location: str = "net.weights") -> Path:
        folder.mkdir()
        weights = numpy_helper.from_array(np.full((60, 2), value, np.float32), "w")
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
        x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4, 5, 3])
        y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])
        model = helper.make_model(
            helper.make_graph(nodes, "net", [x], [y], [weights]),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=10,
        )
        onnx.save(model, folder / "net.onnx", save_as_external_data=True, location=location, size_threshold=0)
        return folder / "net.onnx"

    one, two = made(tmp_path / "one", 1.0), made(tmp_path / "two", 2.0)
    assert one.read_bytes() == two.read_bytes()
    a, b = (extractors.of_onnx(path) for path in (one, two))
    np.testing.assert_allclose(2 * a.extract(IMAGES)[0], b.extract(IMAGES)[0], rtol=1e-5)
    assert a.checksum != b.checksum
    assert a.checksum == onnx_features.checksum(one)
    outside = tmp_path / "outside.weights"
    (tmp_path / "two/net.weights").rename(outside)
    (tmp_path / "two/net.weights").symlink_to(outside)
    with pytest.raises(UserError, match=r"keeps weights in net\.weights, which is no file below its own folder"):
        onnx_features.checksum(two)


def test_a_file_that_may_not_be_read_or_is_none_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(UserError, match="is no network that onnx reads"):
        onnx_features.checksum(path)

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(UserError, match=r"cannot read .*net.onnx: Permission denied"):
        onnx_features.checksum(path)
