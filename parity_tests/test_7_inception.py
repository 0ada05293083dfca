"""Rung 7, scores: Inception's features on equal random weights, and the two kinds of file that torch.save writes."""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_sngan.interop import torch_file
from jax_sngan.metrics import inception
from jax_sngan.system.errors import UserError
from parity_tests.compare import assert_within, to_numpy
from parity_tests.tolerances import FEATURES_F32, RESIZE_F32
from parity_tests.torch_device import tensor
from parity_tests.trees import assert_agree
from torch_ref.metrics import inception as reference


@pytest.fixture(scope="module")
def network() -> reference.Inception:
    """Weights of such a size that activations neither die nor grow; statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("cpu"):  # of the generator
        network = reference.Inception().eval().requires_grad_(False)
    for name, value in network.state_dict().items():
        if name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith((".bias", "running_mean")):
            value.normal_(0, 0.1, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
    return network.to(torch.get_default_device())


def arrays(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: to_numpy(value) for name, value in network.state_dict().items()}


def test_every_layer_agrees(network: reference.Inception) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8).astype(np.float32)
    theirs = network(tensor(images.transpose(0, 3, 1, 2).copy()))
    weights = {name: jnp.asarray(value) for name, value in inception.from_torch(arrays(network)).items()}
    with jax.default_matmul_precision("float32"):
        ours = inception.network(weights, jnp.asarray(images))
    assert tuple(ours) == inception.LAYERS
    assert all(value.abs().max() > 0.1 for value in theirs.values())  # the comparison is of something
    assert_agree(ours, theirs, FEATURES_F32)


@pytest.mark.parametrize("size", [1, 28, 32, 299, 400])
def test_the_resize_agrees(size: int) -> None:
    images = np.random.default_rng(size).integers(0, 256, (1, size, size + 3, 3)).astype(np.float32)
    theirs = to_numpy(reference.resize(tensor(images.transpose(0, 3, 1, 2).copy()))).transpose(0, 2, 3, 1)
    error = float(np.abs(np.asarray(inception.resize(jnp.asarray(images))) - theirs).max())
    assert_within(error, RESIZE_F32, f"{size} to 299 pixels", "float32")


@pytest.fixture
def of_the_host() -> Iterator[None]:
    """What a file holds is on the CPU, whatever device the ladder is on."""
    with torch.device("cpu"):
        yield


@pytest.mark.usefixtures("of_the_host")
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read_without_it(zipped: bool, tmp_path: Path) -> None:
    """A transposed tensor, two that share a storage, an empty one, a parameter, other types."""
    base = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict(
        turned=base.T,
        part=base[1:3, ::2],
        whole=base,
        empty=torch.zeros(0, 3),
        scalar=torch.tensor(7),
        double=torch.nn.Parameter(torch.rand(5, dtype=torch.float64)),
        half=torch.rand(2, 2).half(),
    )
    path = tmp_path / "state.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    read = torch_file.read(path)
    assert list(read) == list(state)
    for name, value in state.items():
        assert read[name].dtype == to_numpy(value).dtype
        np.testing.assert_array_equal(read[name], to_numpy(value))
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))  # its state dict has attributes
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert list(torch_file.read(path)) == list(module.state_dict())


@pytest.mark.usefixtures("of_the_host")
@pytest.mark.parametrize("zipped", [True, False])
def test_files_with_more_than_tensors_are_refused(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 3), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"module\.pth is damaged, or no state dict"):
        torch_file.read(path)
    torch.save({"a": torch.zeros(100), "b": 3}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="'b' is a int, not a tensor"):
        torch_file.read(path)
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="is damaged, or no state dict"):
        torch_file.read(path)


def test_the_published_file_is_known_by_its_checksum(
    network: reference.Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / inception.FILE.name
    torch.save({name: t.cpu() for name, t in network.state_dict().items()}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"its SHA-256 is [0-9a-f]{64}, not 6726825d[0-9a-f]{56}"):
        inception.load_inception(path)
    # As the published file would.
    checksum = inception.downloads.digest_of(path, "sha256")
    monkeypatch.setattr(inception, "BATCH", 1)
    monkeypatch.setattr(inception, "FILE", inception.downloads.OfficialFile(path.name, "", (), sha256=checksum))
    net = inception.load_inception(path)
    assert net.checksum == checksum
    grey = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    features, probabilities = net(grey)
    made = network(tensor(np.repeat(grey, 3, 3).transpose(0, 3, 1, 2).astype(np.float32)))
    assert_agree({"2048": features}, {"2048": made["2048"]}, FEATURES_F32)
    np.testing.assert_allclose(probabilities, to_numpy(made["logits_unbiased"].softmax(1)), rtol=1e-3, atol=1e-6)
    wrong = arrays(network)
    del wrong["fc.bias"]
    with pytest.raises(UserError, match=r"not the FID Inception's weights: no fc\.bias"):
        inception.from_torch(wrong)
