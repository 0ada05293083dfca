"""convert_checkpoint.py and other people's spellings of a network: wrappers, prefixes, norms, types."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from torch import nn

import jax_sngan
from jax_sngan.config.schema import ModelConfig, replace
from jax_sngan.interop import conversion, public_programs, state_dicts, torch_layout
from jax_sngan.interop.adoption import networks_of
from jax_sngan.models.network import Variables
from parity_tests.compare import assert_within, relative_error
from parity_tests.test_convert_checkpoint import converter, network_config, refused  # noqa: F401 - a fixture
from parity_tests.trees import load_module, random_variables
from torch_ref.models.network import build

BOUND = 2e-6  # of float32: one evaluation of a small network, in both frameworks
PLAIN = {"spectral_norm.networks": "none", "dtype": "float32"}
NETWORKS = {
    "standard_cnn": {"image_size": 28, "channels": 1},
    "standard_cnn with classes and batch norm in D": {
        "image_size": 32,
        "num_classes": 3,
        "discriminator_norm": "batch",
    },
    "resnet": {"architecture": "resnet", "image_size": 32, "num_classes": 3},
    "resnet of 28": {"architecture": "resnet", "image_size": 28, "channels": 1, "score_bias": False},
    "mlp": {"architecture": "mlp", "image_size": 5, "channels": 3, "depth": 2, "discriminator_norm": "layer"},
    "points": {"architecture": "mlp", "image_size": 1, "channels": 2, "output": "identity", "generator_norm": "none"},
}


def config_of(name: str) -> ModelConfig:
    widths = {"generator_width": 4, "discriminator_width": 6, "latent_size": 5}
    return replace(ModelConfig(), PLAIN | widths | NETWORKS[name])


def modules(config: ModelConfig) -> dict[str, nn.Module]:
    """torch_ref's networks with weights and statistics that are not those of a start."""
    rng, found = np.random.default_rng(0), {}
    for network, module in build(config)._asdict().items():
        variables = random_variables(config, network, rng)
        load_module(module, torch_layout.variables_to_torch(config, network, variables))
        found[network] = module
    return found


def layers(module: nn.Module) -> list[nn.Module]:
    """Those that a norm goes on: with a kernel, not those of class-conditional normalisations."""
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
    return [m for name, m in module.named_modules() if isinstance(m, kinds) and "norm" not in name]


def turned(layer: nn.Module) -> nn.Module:
    """As after three passes: u^T W v of the random u and v of a start is a small difference of large terms."""
    for hook in list(layer._forward_pre_hooks.values()) * 3:
        hook(layer.train(), None)
    return layer


def by(norm: Callable[..., Any]) -> Callable[[nn.Module], nn.Module]:
    """A module with one of torch's norms on every layer."""

    def add(module: nn.Module) -> nn.Module:
        with warnings.catch_warnings(action="ignore"):  # torch has deprecated its old weight norm; its files stay
            for layer in layers(module):
                turned(norm(layer))
        return module

    return add


class Read(NamedTuple):
    """What the command reads before it makes a run of it."""

    model: ModelConfig
    networks: dict[str, Variables]
    notes: str


def read(*paths: Path, **given: Any) -> Read:
    files = [f for path in paths for f in conversion.network_files(path, conversion.contents_of(path))]
    _, config, networks, _ = networks_of(files, given)
    return Read(config.model, networks, "; ".join(note for file in files for note in file.notes))


def evaluated(layer: nn.Module) -> np.ndarray:
    """The weight that torch evaluates with."""
    layer.eval()
    for hook in layer._forward_pre_hooks.values():  # the older norms make it before a pass
        hook(layer, None)
    return layer.weight.detach().float().numpy()


def assert_as_torch(found: Read, given: dict[str, nn.Module]) -> None:
    """Every layer has torch's weight, divided by its sigma where there is one; the rest to the bit."""
    for network, module in given.items():
        module.eval()  # in training torch's parametrization iterates whenever its weight is looked at
        variables = jax.tree.map(np.asarray, found.networks[network])
        flat = torch_layout.variables_to_torch(public_programs.in_old_names(found.model), network, variables)
        layers = state_dicts.layers_of(flat, {name: name for name in flat})
        holding = {n for n, m in module.named_modules() if getattr(m, "weight", None) is not None}
        assert set(layers) == {n for n in holding if "parametrizations" not in n}
        for layer in layers.values():
            theirs = module.get_submodule(layer.name)
            weight = layer.arrays["weight"]
            if layer.spectral:
                weight = state_dicts.effective_weight(layer, 1 if layer.name.startswith("deconvs") else 0)
            assert_within(relative_error(np.float32(weight), evaluated(theirs)), BOUND, layer.name, "float32")
            for field, name in (("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
                if field in layer.arrays:
                    np.testing.assert_array_equal(layer.arrays[field], getattr(theirs, name).detach().numpy())


def save(folder: Path, given: dict[str, nn.Module]) -> list[Path]:
    """Both networks, as a person would give them."""
    for network, module in given.items():
        torch.save(module.state_dict(), folder / f"{network}.pth")
    return [folder / "generator.pth", folder / "discriminator.pth"]


@pytest.mark.parametrize("name", NETWORKS)
def test_bare_state_dicts_of_torch_ref(name: str, tmp_path: Path) -> None:
    given = modules(config_of(name))
    found = read(*save(tmp_path, given))
    assert_as_torch(found, given)
    assert found.model == config_of(name)


def test_the_command_samples_from_them(converter: Callable, tmp_path: Path) -> None:  # noqa: F811
    given = modules(config_of("mlp"))
    generator, discriminator = save(tmp_path, given)
    code, out, err = converter(generator, "run", "--pair", discriminator)
    assert code == 0, err
    assert "generator and discriminator of the PyTorch reference (torch_ref), fresh optimisers" in out
    run = jax_sngan.load(tmp_path / "run")
    latents = run.latents(3)
    with torch.no_grad():
        expected = given["generator"].eval()(torch.from_numpy(latents.copy())).numpy()
    assert_within(relative_error(run.pixels(latents), (np.moveaxis(expected, 1, -1) + 1) * 127.5), BOUND, "", "float32")


class Both(nn.Module):
    """A GAN as one module, as Lightning's and many people's own are."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module):
        super().__init__()
        self.netG, self.netD = generator, discriminator


def compiled(module: nn.Module) -> nn.Module:
    """As torch.compile gives it; it is compiled when it is called, which it is not here."""
    with warnings.catch_warnings(action="ignore"):  # torch 2.13 warns of itself as it loads its compiler
        return torch.compile(module)  # type: ignore[return-value]


WRAPPINGS = {
    "DataParallel": lambda g, d: {"generator": nn.DataParallel(g).state_dict(), "discriminator": d.state_dict()},
    "compiled and parallel": lambda g, d: {
        "netG": nn.DataParallel(compiled(g)).state_dict(), "netD": compiled(nn.DataParallel(d)).state_dict(),
    },
    "one module": lambda g, d: {"state_dict": Both(g, d).state_dict(), "epoch": 3},
    "one parallel module": lambda g, d: {"model": nn.DataParallel(Both(g, d)).state_dict()},
    "in wrappers": lambda g, d: {
        "epoch": 3, "g": {"model": g.state_dict()}, "d": {"model": d.state_dict()}, "g_ema": g.state_dict(),
    },
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_both_networks_of_one_file(wrapping: str, tmp_path: Path) -> None:
    given = modules(config_of("mlp"))
    torch.save(WRAPPINGS[wrapping](*given.values()), tmp_path / "gan.pt")
    found = read(tmp_path / "gan.pt")
    assert_as_torch(found, given)
    assert ("module." in found.notes) == ("arallel" in wrapping)
    assert ("_orig_mod." in found.notes) == ("compiled" in wrapping)
    assert ("found under g / model" in found.notes) == (wrapping == "in wrappers")


NORMS = {
    "old": (torch.nn.utils.spectral_norm, "both"),
    "parametrization": (torch.nn.utils.parametrizations.spectral_norm, "both"),
    "weight norm": (torch.nn.utils.parametrizations.weight_norm, "none"),
    "old weight norm": (torch.nn.utils.weight_norm, "none"),
}


@pytest.mark.parametrize("name", ["standard_cnn", "resnet", "mlp"])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_of_torch(norm: str, name: str, tmp_path: Path) -> None:
    """torch's own norms on a plain network: u and v wherever torch's start has them, evaluated as torch does."""
    put, networks = NORMS[norm]
    torch.manual_seed(0)
    given = {network: by(put)(module) for network, module in modules(config_of(name)).items()}
    found = read(*save(tmp_path, given))
    assert_as_torch(found, given)
    assert found.model.spectral_norm.networks == networks
    assert found.model.spectral_norm.order == ("u_first" if norm == "parametrization" else "v_first")
    assert ("weight norm multiplied out" in found.notes) == ("weight" in norm)


def test_old_files_without_v(tmp_path: Path) -> None:
    """torch 1.0's: the normalised weight beside weight_orig and weight_u; torch itself solves for v, and so do we."""
    given = {n: by(torch.nn.utils.spectral_norm)(m.double()) for n, m in modules(config_of("standard_cnn")).items()}
    again = {n: by(torch.nn.utils.spectral_norm)(m.double()) for n, m in modules(config_of("standard_cnn")).items()}
    for network, module in given.items():
        state = module.state_dict()
        old = {name: a for name, a in state.items() if not name.endswith("weight_v")}
        for name in [n for n in state if n.endswith("weight_orig")]:
            layer = module.get_submodule(name.removesuffix(".weight_orig"))
            turned(layer)
            old[name.removesuffix("_orig")] = layer.weight.detach()
            old[name.replace("orig", "u")] = layer.weight_u.detach()
        torch.save(old, tmp_path / f"{network}.pth")
        again[network].load_state_dict(dict(old))
    found = read(tmp_path / "generator.pth", tmp_path / "discriminator.pth")
    assert found.model.dtype == "float64"
    assert_as_torch(found, again)


def safetensors(path: Path, state: dict[str, torch.Tensor]) -> None:
    """As its library writes it, which is no package of this project."""
    kinds = {
        torch.float32: ("F32", torch.int32),
        torch.bfloat16: ("BF16", torch.int16),
        torch.int64: ("I64", torch.int64),
    }
    blob, header = b"", {"__metadata__": {"format": "pt"}}
    for name, a in state.items():
        kind, view = kinds[a.dtype]
        raw = a.contiguous().view(view).numpy().tobytes()
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + blob)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_bfloat16_and_safetensors(kind: str, tmp_path: Path) -> None:
    given = {network: module.to(torch.bfloat16) for network, module in modules(config_of("mlp")).items()}
    for network, module in given.items():
        path = tmp_path / f"{network}.{kind}"
        torch.save(module.state_dict(), path) if kind == "pth" else safetensors(path, module.state_dict())
    assert_as_torch(
        read(*(tmp_path / f"{network}.{kind}" for network in given)), {n: m.float() for n, m in given.items()}
    )


class Named(nn.Module):
    """Layers under a program's own names, of the shapes that its files have."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        for name, a in arrays.items():
            layer, _, leaf = name.rpartition(".")
            owner: nn.Module = self
            for part in layer.split("."):
                if part not in dict(owner.named_children()):
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if leaf.startswith("running"):
                owner.register_buffer(leaf, torch.from_numpy(a.copy()))
            else:
                owner.register_parameter(leaf, nn.Parameter(torch.from_numpy(a.copy())))


SPELLINGS = {
    "old": lambda d: by_kernels(d, torch.nn.utils.spectral_norm).state_dict(),
    "parametrization": lambda d: by_kernels(d, torch.nn.utils.parametrizations.spectral_norm).state_dict(),
    "weight norm": lambda d: by_kernels(d, torch.nn.utils.parametrizations.weight_norm).state_dict(),
    "no norm": lambda d: d.state_dict(),
    "old, in wrappers": lambda d: {
        "netD": nn.DataParallel(by_kernels(d, torch.nn.utils.spectral_norm)).state_dict(), "epoch": 1,
    },
    "bfloat16": lambda d: by_kernels(d.to(torch.bfloat16), torch.nn.utils.spectral_norm).state_dict(),
}  # fmt: skip


def by_kernels(module: nn.Module, norm: Callable[..., Any]) -> nn.Module:
    for part in [m for m in module.modules() if getattr(m, "weight", None) is not None and m.weight.ndim > 1]:
        turned(norm(part))
    return module


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_mimicrys_discriminator_in_every_spelling(spelling: str, tmp_path: Path) -> None:
    """Each layer's kernel, divided by its sigma, is the weight that torch's own norm evaluates with."""
    config = replace(network_config("mimicry", image_size=32), {"spectral_norm.networks": "none"})
    variables = random_variables(config, "discriminator", np.random.default_rng(0))
    plain = torch_layout.variables_to_torch(config, "discriminator", variables)
    names = {p.reference: p.name for p in public_programs.places("mimicry", config, "discriminator")}
    module = Named({names[name]: a for name, a in plain.items()})
    torch.manual_seed(0)
    torch.save(SPELLINGS[spelling](module), tmp_path / "d.pth")
    found = read(tmp_path / "d.pth")
    model, d = found.model, jax.tree.map(np.asarray, found.networks["discriminator"])
    assert model.spectral_norm.networks == ("none" if spelling in ("weight norm", "no norm") else "discriminator")
    assert model.shortcut_input == "activated"  # its protocol
    ours = public_programs.write("mimicry", model, "discriminator", d)
    for layer in state_dicts.layers_of(ours, {n: n for n in ours}).values():
        made = state_dicts.effective_weight(layer, 0) if layer.spectral else layer.arrays["weight"]
        theirs = evaluated(module.get_submodule(layer.name))
        # torch divides a bfloat16 kernel by a sigma of bfloat16; here sigma is of float32.
        bound = 2e-2 if spelling == "bfloat16" else BOUND
        assert_within(relative_error(np.float32(made), theirs), bound, layer.name, "float32")


def _drop(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda s: {n: a for n, a in s.items() if n not in names}


REFUSED = {
    "half a norm": (_drop("convs.0.weight_u"), ["missing convs.0.weight_u"]),
    "a layer without the norm of the others": (
        lambda s: _drop("convs.0.weight_orig", "convs.0.weight_u", "convs.0.weight_v")(s)
        | {"convs.0.weight": s["convs.0.weight_orig"]},
        ["missing convs.0.weight_orig, convs.0.weight_u", "extra convs.0.weight"],
    ),
    "half a weight norm": (
        lambda s: s | {"convs.1.weight_g": torch.ones(6, 1, 1, 1)}, ["convs.1: a weight norm's lengths"],
    ),
    "another parametrization": (
        lambda s: _drop("score.weight_orig", "score.weight_u", "score.weight_v")(s)
        | {"score.parametrizations.weight.original": s["score.weight_orig"]},
        ["neither spectral nor weight norm"],
    ),
    "quantised": (lambda s: s | {"score.weight_orig": torch.ones(1, 1176, dtype=torch.int8)}, ["weight_orig is int8"]),
    "another depth": (
        lambda s: s | {f"convs.{i}.weight": torch.zeros(6, 6, 3, 3) for i in range(5, 9)},
        ["no network of the PyTorch reference", "9 convolutions"],
    ),
    "no last layer": (
        _drop("score.weight_orig", "score.weight_u", "score.weight_v"), ["has score.weight, which is missing"],
    ),
    "no arrays": (lambda s: {"netD": {"epoch": 3}}, ["no state dict in it; its keys are epoch"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_by_its_cause(case: str, converter: Callable, tmp_path: Path) -> None:  # noqa: F811
    change, words = REFUSED[case]
    module = by(torch.nn.utils.spectral_norm)(modules(config_of("standard_cnn"))["discriminator"])
    torch.save(change(module.state_dict()), tmp_path / "d.pth")
    refused(converter("d.pth", "out"), tmp_path, "d.pth", *words)


def test_a_resnets_discriminator_alone_does_not_tell_its_size(converter: Callable, tmp_path: Path) -> None:  # noqa: F811
    module = modules(config_of("resnet of 28"))["discriminator"]
    torch.save(module.state_dict(), tmp_path / "d.pth")
    refused(converter("d.pth", "out"), tmp_path, "d.pth", "28 or 32 pixels", "--model.image-size")
    assert_as_torch(read(tmp_path / "d.pth", **{"model.image_size": 28}), {"discriminator": module})


def test_a_spectral_norm_in_g_alone_is_refused(converter: Callable, tmp_path: Path) -> None:  # noqa: F811
    given = modules(config_of("mlp"))
    by(torch.nn.utils.spectral_norm)(given["generator"])
    refused(
        converter(*save(tmp_path, given)[:1], "out", "--pair", "discriminator.pth"), tmp_path, "the discriminator none"
    )


def test_what_holds_no_array_is_told(tmp_path: Path) -> None:
    torch.save(modules(config_of("mlp"))["generator"].state_dict() | {"epoch": 3}, tmp_path / "g.pth")
    assert "left aside: epoch" in read(tmp_path / "g.pth").notes
