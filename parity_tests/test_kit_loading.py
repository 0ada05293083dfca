"""parity_kit.load_state_dict: every kind of layer numerically, and state dicts as people have them."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import parity_kit
from jax_sngan.interop.safetensors import read_safetensors
from jax_sngan.system.errors import UserError
from parity_tests.compare import assert_within, relative_error
from parity_tests.porting_networks import SN, Generator, TorchGenerator
from parity_tests.tolerances import OPS_F64

ROOT = Path(__file__).resolve().parent.parent


pytestmark = pytest.mark.usefixtures("as_strangers_have_it")


def both(torch_layer: nn.Module, nnx_layer: nnx.Module, shape: tuple[int, ...]) -> None:
    """The same results from the same weights, maps turned."""
    torch_layer = torch_layer.double().eval()
    loaded = parity_kit.load_state_dict(nnx_layer, torch_layer.state_dict())
    assert loaded.missing + loaded.extra + loaded.misshapen == []
    x = np.random.default_rng(0).normal(size=shape)
    nnx_layer.eval()
    turn = len(shape) > 2
    given = np.moveaxis(x, -1, 1) if turn else x
    expected = torch_layer(torch.from_numpy(np.ascontiguousarray(given))).detach().numpy()
    expected = np.moveaxis(expected, 1, -1) if turn else expected
    assert_within(relative_error(nnx_layer(jnp.asarray(x)), expected), OPS_F64, type(nnx_layer).__name__)


def options(**more):
    return {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0), **more}


LAYERS = {
    "Conv1d": (lambda: nn.Conv1d(3, 4, 5, 2, 2), lambda: nnx.Conv(3, 4, (5,), 2, padding=2, **options()), (2, 9, 3)),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, (3, 2), groups=2),
        lambda: nnx.Conv(4, 6, (3, 2), padding="VALID", feature_group_count=2, **options()),
        (2, 6, 5, 4),
    ),
    "Conv3d": (
        lambda: nn.Conv3d(2, 3, 3),
        lambda: nnx.Conv(2, 3, (3, 3, 3), padding="VALID", **options()),
        (2, 4, 5, 4, 2),
    ),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(3, 4, 4, 2, 1),
        lambda: nnx.ConvTranspose(3, 4, (4,), (2,), padding="SAME", **options()),
        (2, 5, 3),
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(3, 4, (4, 3), (2, 1), (1, 1)),
        lambda: nnx.ConvTranspose(3, 4, (4, 3), (2, 1), padding=((2, 2), (1, 1)), **options()),
        (2, 5, 4, 3),
    ),
    "ConvTranspose2d, transpose_kernel": (
        lambda: nn.ConvTranspose2d(3, 4, (4, 3), (2, 1), (1, 1)),
        lambda: nnx.ConvTranspose(
            3, 4, (4, 3), (2, 1), padding=((2, 2), (1, 1)), transpose_kernel=True, **options()
        ),
        (2, 5, 4, 3),
    ),
    "Linear": (lambda: nn.Linear(5, 4), lambda: nnx.Linear(5, 4, **options()), (3, 5)),
    "LinearGeneral": (lambda: nn.Linear(5, 4), lambda: nnx.LinearGeneral(5, 4, **options()), (3, 5)),
    "BatchNorm": (lambda: filled(nn.BatchNorm2d(4)), lambda: nnx.BatchNorm(4, **options()), (3, 5, 5, 4)),
    "GroupNorm": (
        lambda: filled(nn.GroupNorm(2, 4)),
        lambda: nnx.GroupNorm(4, num_groups=2, epsilon=1e-5, **options()),
        (3, 5, 5, 4),
    ),
    "LayerNorm": (lambda: filled(nn.LayerNorm(6)), lambda: nnx.LayerNorm(6, epsilon=1e-5, **options()), (3, 6)),
    "PReLU": (lambda: nn.PReLU(init=0.3), lambda: nnx.PReLU(param_dtype=jnp.float64), (3, 6)),
}  # fmt: skip


def filled(module: nn.Module) -> nn.Module:
    """Scales, shifts and running statistics that are not ones and zeros."""
    for p in [*module.parameters(), *module.buffers()]:
        if p.is_floating_point():
            nn.init.uniform_(p, 0.5, 1.5)
    return module


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer(kind):
    theirs, ours, shape = LAYERS[kind]
    both(theirs(), ours(), shape)


def test_an_embedding_and_a_linear_of_several_axes():
    theirs = nn.Embedding(5, 3)
    ours = nnx.Embed(5, 3, rngs=nnx.Rngs(0))
    parity_kit.load_state_dict(ours, theirs.state_dict())
    np.testing.assert_array_equal(ours(jnp.array([4, 1])), theirs(torch.tensor([4, 1])).detach().numpy())
    wide = nn.Linear(6, 8).double()
    general = nnx.LinearGeneral((2, 3), (2, 4), axis=(-2, -1), **options())
    parity_kit.load_state_dict(general, wide.state_dict())
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    expected = wide(torch.from_numpy(x.reshape(5, 6))).detach().numpy().reshape(5, 2, 4)
    assert_within(relative_error(general(jnp.asarray(x)), expected), OPS_F64)


class Net(nn.Module):
    def __init__(self, wrap=lambda layer: layer):
        super().__init__()
        first, second = wrap(nn.Conv2d(3, 4, 3, 1, 1)), wrap(nn.Conv2d(4, 4, 3, 1, 1))
        self.features = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.head = wrap(nn.Linear(4 * 5 * 5, 2))

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Port(nnx.Module):
    def __init__(self, rngs, flatten="chw", wrap=lambda layer, rngs: layer):
        self.conv_a = wrap(nnx.Conv(3, 4, (3, 3), padding=1, rngs=rngs), rngs)
        self.conv_b = wrap(nnx.Conv(4, 4, (3, 3), padding=1, rngs=rngs), rngs)
        self.out = wrap(nnx.Linear(100, 2, rngs=rngs), rngs)
        self.flatten = flatten

    def __call__(self, x):
        x = jax.nn.relu(self.conv_b(jax.nn.relu(self.conv_a(x))))
        x = x.transpose(0, 3, 1, 2) if self.flatten == "chw" else x
        return self.out(x.reshape(len(x), -1))


X = np.random.default_rng(3).normal(size=(4, 5, 5, 3)).astype(np.float32)


def scores(module: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(torch.from_numpy(np.moveaxis(X, -1, 1).copy())).numpy()


def agree(port: nnx.Module, net: nn.Module) -> None:
    port.eval()
    np.testing.assert_allclose(port(jnp.asarray(X)), scores(net), rtol=0, atol=1e-5)


@pytest.mark.parametrize("flatten", ["chw", "hwc"])
def test_the_order_of_a_flatten(flatten):
    net, port = Net(), Port(nnx.Rngs(0), flatten)
    loaded = parity_kit.load_state_dict(port, net.state_dict(), flatten=flatten)
    agree(port, net)
    assert [(p.torch.name, p.nnx.path, p.how) for p in loaded.pairs] == [
        ("features.0", "conv_a", "by shape"),
        ("features.2", "conv_b", "by shape"),
        ("head", "out", "by shape"),
    ]
    assert ("5 x 5" in str(loaded)) == (flatten == "hwc")


WRAPPINGS = {
    "bare": lambda s: s,
    "DataParallel": lambda s: {f"module.{n}": a for n, a in s.items()},
    "compiled": lambda s: {"state_dict": {f"module._orig_mod.{n}": a for n, a in s.items()}},
    "netD": lambda s: {"netD": s, "epoch": 3},
    "whole checkpoint": lambda s: {"model": {f"netD.{n}": a for n, a in s.items()}, "optimizer": {}},
    "numpy": lambda s: {n: a.numpy() for n, a in s.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappers_and_prefixes(wrapping):
    net, port = Net(), Port(nnx.Rngs(0))
    parity_kit.load_state_dict(port, WRAPPINGS[wrapping](net.state_dict()))
    agree(port, net)


def test_what_was_loaded_is_no_view_of_torchs_memory():
    net, port = Net(), Port(nnx.Rngs(0))
    parity_kit.load_state_dict(port, net.state_dict())
    before = np.array(port.conv_a.bias[...])
    with torch.no_grad():
        net.features[0].bias.add_(1)
    np.testing.assert_array_equal(port.conv_a.bias[...], before)


SPECTRAL = {"old": torch.nn.utils.spectral_norm, "parametrization": torch.nn.utils.parametrizations.spectral_norm}


@pytest.mark.parametrize("kind", SPECTRAL)
def test_spectral_norms(kind):
    net = Net(SPECTRAL[kind])
    net(torch.randn(2, 3, 5, 5))  # u and v that have moved
    kept, folded = Port(nnx.Rngs(0), wrap=SN), Port(nnx.Rngs(0))
    parity_kit.load_state_dict(kept, net.state_dict())
    loaded = parity_kit.load_state_dict(folded, net.state_dict())
    agree(kept, net)
    agree(folded, net)
    assert "features.0: divided by its spectral norm" in str(loaded)


def test_an_old_file_without_v():
    """As torch 1.0 wrote them: the normalised weight beside weight_orig, and v as torch itself solves for it."""
    net = Net(torch.nn.utils.spectral_norm).double()
    net(torch.randn(2, 3, 5, 5).double())
    modern = net.state_dict()
    old = {n: a for n, a in modern.items() if not n.endswith("weight_v")}
    for name in [n for n in modern if n.endswith("weight_orig")]:
        layer = net.get_submodule(name.removesuffix(".weight_orig"))
        old[name.removesuffix("_orig")] = layer.weight.detach()
    reread = Net(torch.nn.utils.spectral_norm).double()
    reread.load_state_dict(dict(old))  # torch's own way with such a file
    port = Port(nnx.Rngs(0), wrap=SN)
    loaded = parity_kit.load_state_dict(port, old)
    agree(port, reread.float())
    for ours, theirs in ((port.conv_b, "features.2"), (port.out, "head")):
        w, u, v = (
            reread.state_dict()[f"{theirs}.weight_{x}"].flatten(1 if x == "orig" else 0) for x in ("orig", "u", "v")
        )
        matrix = ours.matrix(ours.layer.kernel[...])
        assert_within(relative_error(ours.u[...] @ matrix @ ours.v[...], u @ w @ v), 1e-5, "sigma", "float32")
    assert "v is not stored" in str(loaded)


@pytest.mark.parametrize("kind", [torch.nn.utils.parametrizations.weight_norm, None])
def test_weight_norm(kind):
    net = Net(kind or (lambda layer: layer))
    state = net.state_dict()
    if kind is None:  # the names of torch.nn.utils.weight_norm, which torch has deprecated
        for name in [n for n in state if n.endswith(".weight")]:
            w = state.pop(name)
            axes = tuple(range(1, w.ndim))
            state |= {f"{name}_g": w.square().sum(axes, keepdim=True).sqrt(), f"{name}_v": 3 * w}
    else:
        nn.init.uniform_(net.head.parametrizations.weight.original0, 0.5, 2)
    port = Port(nnx.Rngs(0))
    loaded = parity_kit.load_state_dict(port, state)
    agree(port, net)
    assert "weight norm multiplied out" in str(loaded)


def test_bfloat16_and_safetensors(tmp_path):
    import json

    net = Net().to(torch.bfloat16)
    state = net.state_dict()
    parity_kit.load_state_dict(Port(nnx.Rngs(0)), state)
    blob, header = b"", {"__metadata__": {"format": "pt"}}
    for name, a in state.items():
        raw = a.view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(a.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + blob)
    port = Port(nnx.Rngs(0))
    parity_kit.load_state_dict(port, path)
    np.testing.assert_array_equal(port.out.kernel[...], state["head.weight"].float().numpy().T)
    for damage in (path.read_bytes()[:-3], b"\xff" * 20, b"", text):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="damaged"):
            read_safetensors(path)


def test_a_pth_file(tmp_path):
    net, port = Net(), Port(nnx.Rngs(0))
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pth")
    parity_kit.load_state_dict(port, tmp_path / "net.pth")
    agree(port, net)
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"bad\.pth: torch can't read it"):
        parity_kit.load_state_dict(port, tmp_path / "bad.pth")


@pytest.mark.parametrize("turned", [False, True])
def test_names(turned):
    theirs = nn.ModuleDict({"x": nn.Linear(3, 3), "y": nn.Linear(3, 3)})
    ours = nnx.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 3, rngs=nnx.Rngs(1)))
    paths = [p.nnx.path for p in parity_kit.load_state_dict(ours, theirs.state_dict()).pairs]
    names = {"x": paths[1], "y": paths[0]}
    names = {b: a for a, b in names.items()} if turned else names
    loaded = parity_kit.load_state_dict(ours, theirs.state_dict(), names=names)
    assert {p.how for p in loaded.pairs} == {"as `names` says"}
    np.testing.assert_array_equal(ours.layers[1].kernel[...], theirs["x"].weight.detach().numpy().T)


def without(name):
    return lambda s: {n: a for n, a in s.items() if n != name}


WRONG = {
    "missing": (without("head.bias"), ["missing out.bias"]),
    "extra": (lambda s: s | {"tail.weight": torch.zeros(7, 7)}, ["extra tail.weight"]),
    "misshapen": (
        lambda s: s | {"head.weight": torch.zeros(3, 100)},
        ["misshapen head.weight is [3, 100], out.weight takes [2, 100] of torch"],
    ),
    "no state dict": (lambda s: {"epoch": 3}, ["no state dict in it", "epoch"]),
    "no norm": (
        lambda s: s | {"head.weight_u": torch.zeros(2), "head.weight_orig": s["head.weight"]},
        ["head: its spectral norm u^T W v is 0"],
    ),
    "half a weight norm": (lambda s: s | {"head.weight_g": torch.zeros(2, 1)}, ["head: missing weight_v"]),
    "another parametrization": (
        lambda s: without("head.weight")(s) | {"head.parametrizations.weight.original": torch.zeros(2, 100)},
        ["neither spectral nor weight norm"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_one_line_and_nothing_loaded(case):
    change, words = WRONG[case]
    port = Port(nnx.Rngs(0))
    before = np.array(port.out.kernel[...])
    with pytest.raises(UserError) as error:
        parity_kit.load_state_dict(port, change(Net().state_dict()))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value
    np.testing.assert_array_equal(port.out.kernel[...], before)


def test_a_layer_of_the_same_name_but_another_shape_is_misshapen():
    theirs, ours = nn.ModuleDict({"fc": nn.Linear(3, 4)}), nnx.Dict(fc=nnx.Linear(3, 5, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match=r"misshapen fc.weight is \[4, 3\], fc.weight takes \[5, 3\] of torch"):
        parity_kit.load_state_dict(ours, theirs.state_dict())


def test_a_generator_unflattens_in_its_own_order():
    theirs, ours = TorchGenerator(), Generator(nnx.Rngs(0))
    parity_kit.load_state_dict(ours, theirs.state_dict(), flatten="hwc")
    z = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    ours.eval()
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(ours(jnp.asarray(z)), np.moveaxis(expected, 1, -1), rtol=0, atol=1e-5)


def test_without_torch_one_line_names_the_extra():
    code = "import sys; sys.modules['torch'] = None; import parity_kit"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .endswith("parity_kit needs PyTorch, which the extra `parity` brings: pip install 'jax-sngan[parity]'")
    )
