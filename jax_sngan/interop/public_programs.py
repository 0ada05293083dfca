"""Names and layouts of two public programs' networks <-> our trees, numpy in, numpy out.

    mimicry   torch-mimicry's SNGAN and cGAN-PD state dicts, 32 to 128 pixels            block2.c1.weight_orig
    authors   the Chainer npz of pfnet-research/sngan_projection, 32, 64 and 128 pixels  block2/c1/W

Both lay their arrays out as torch_ref does, kernels [out, in, k, k] and maps (c, h, w): what is left to translate
between them and interop/torch_layout.py's state dicts are names.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jax_sngan.config.architectures import ARCHITECTURES, RESNET_PLANS
from jax_sngan.config.schema import ModelConfig, replace
from jax_sngan.interop.state_dicts import TorchLayer, layers_of, missing_v, spelled
from jax_sngan.interop.torch_layout import Flat, check_fit, network_entries, variables_from_torch, variables_to_torch
from jax_sngan.models.network import Variables
from jax_sngan.system.errors import UserError


class Program(NamedTuple):
    """How a program names things."""

    title: str
    separator: str
    leaves: dict[str, str]  # torch_ref's last part of a layer's names -> theirs
    norm_leaves: dict[str, str]  # of a batch normalisation's
    class_norm_leaves: dict[str, str]  # of a class-conditional one's
    ignored: str  # counts of batches that no forward pass reads


PROGRAMS = {
    "mimicry": Program(
        title="torch-mimicry",
        separator=".",
        leaves={name: name for name in ("weight", "weight_orig", "bias", "weight_u", "weight_v")},
        norm_leaves={name: name for name in ("weight", "bias", "running_mean", "running_var")},
        class_norm_leaves={
            "weight": "embed.weight",  # [classes, 2 * features]: scales, then shifts
            "bias": "embed.weight",
            "running_mean": "bn.running_mean",
            "running_var": "bn.running_var",
        },
        ignored="num_batches_tracked",
    ),
    "authors": Program(
        title="the authors' Chainer code (pfnet-research/sngan_projection)",
        separator="/",
        # No v: an iteration that begins with v <- W^T u has no need of a stored one.
        leaves={"weight": "W", "weight_orig": "W", "bias": "b", "weight_u": "u"},
        norm_leaves={"weight": "gamma", "bias": "beta", "running_mean": "avg_mean", "running_var": "avg_var"},
        class_norm_leaves={
            "weight": "gammas/W",
            "bias": "betas/W",
            "running_mean": "avg_mean",
            "running_var": "avg_var",
        },
        ignored="N",
    ),
}
_LAYERS = {"project": "l1", "embed": "l_y"}
_BLOCK_LAYERS = {"norm1": "b1", "conv1": "c1", "norm2": "b2", "conv2": "c2", "shortcut": "c_sc"}
_LAST = {32: 5, 48: 5, 64: 6, 128: 7}  # image size -> number in the names of the last layers: b5, c5, l5


class Place(NamedTuple):
    """Where a program keeps one of torch_ref's arrays. Two places of one name are the halves of one array."""

    name: str  # theirs
    reference: str  # torch_ref's
    tree: str  # the field of Variables that it belongs to
    to_theirs: Callable[[np.ndarray], np.ndarray]
    from_theirs: Callable[[np.ndarray], np.ndarray]


def places(program: str, config: ModelConfig, network: str) -> list[Place]:
    """Every array that a program stores of a network, "generator" or "discriminator"."""
    names = PROGRAMS[program]
    found = []
    for tree, entries in network_entries(in_old_names(config), network)._asdict().items():
        for entry in sorted(entries, key=lambda e: e.name.endswith("bias")):  # scales before shifts
            *layer, leaf = entry.name.split(".")
            leaves = names.leaves
            if layer[-1].startswith("norm"):
                conditional = config.num_classes > 0 and layer[-1] != "norm"  # the last one, "norm", never is
                leaves = names.class_norm_leaves if conditional else names.norm_leaves
            if leaf in leaves:
                name = names.separator.join([*_layer(program, config, network, layer), leaves[leaf]])
                found.append(Place(name, entry.name, tree, *_layouts(program, leaf, leaves[leaf])))
    return found


def _layer(program: str, config: ModelConfig, network: str, layer: list[str]) -> list[str]:
    """torch_ref's [blocks, 0, conv1] -> their [block2, c1]."""
    if layer[0] == "blocks":
        first = {"generator": 2, "discriminator": 1}[network]
        return [f"block{int(layer[1]) + first}", _BLOCK_LAYERS[layer[2]]]
    # In their larger networks the authors call the generator's last convolution l6 or l7.
    to_image = "l" if program == "authors" and config.image_size > 32 else "c"
    kind = {"norm": "b", "to_image": to_image, "score": "l"}.get(layer[0])
    return [f"{kind}{_LAST[config.image_size]}"] if kind else [_LAYERS[layer[0]]]


_Layout = Callable[[np.ndarray], np.ndarray]


def _layouts(program: str, leaf: str, theirs: str) -> tuple[_Layout, _Layout]:
    """(torch_ref's array -> theirs, or its half of theirs; the inverse)."""
    if program == "authors" and leaf == "weight_u":
        return lambda u: u[None], lambda u: u[0]  # theirs is [1, out]
    if theirs == "embed.weight":
        half = 0 if leaf == "weight" else 1
        return np.asarray, lambda both: np.split(both, 2, axis=1)[half]
    return np.asarray, np.asarray


def _translate(program: str, config: ModelConfig, network: str, reference: Flat) -> Flat:
    flat: Flat = {}
    for place in places(program, config, network):
        value = place.to_theirs(reference[place.reference])
        flat[place.name] = np.concatenate([flat[place.name], value], axis=1) if place.name in flat else value
    return flat


def write(program: str, config: ModelConfig, network: str, variables: Variables) -> Flat:
    """A network's variables under a program's names and in its layouts."""
    return _translate(program, config, network, variables_to_torch(in_old_names(config), network, variables))


def read(program: str, config: ModelConfig, network: str, arrays: Mapping[str, np.ndarray]) -> Variables:
    """The inverse of write, in the config's type; a v that is not stored becomes W^T u over its norm.

    Raises:
      UserError: names the missing, the extra and the misshapen entries.
    """
    dtype = np.dtype(config.dtype)
    flat = one_spelling(program, arrays)
    flat |= missing_v(_layers(arrays)) if program == "mimicry" else {}
    flat = {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in flat.items()}
    check_fit(flat, {n: (dtype, shape) for n, shape in shapes(program, config, network).items()})
    reference = {p.reference: p.from_theirs(flat[p.name]) for p in places(program, config, network)}
    reference |= {n: v.astype(dtype) for n, v in missing_v(_layers(reference)).items()}  # Chainer stores no v
    return variables_from_torch(in_old_names(config), network, reference)


def shapes(program: str, config: ModelConfig, network: str) -> dict[str, tuple[int, ...]]:
    """The shape of every array that a program stores of a network, by its name."""
    entries = [e for tree in network_entries(in_old_names(config), network) for e in tree]
    blank = {e.name: e.to_torch(np.broadcast_to(np.False_, e.shape)) for e in entries}
    return {name: a.shape for name, a in _translate(program, config, network, blank).items()}


def one_spelling(program: str, arrays: Mapping[str, np.ndarray]) -> Flat:
    """A file's arrays under the names of `write`, without the counts and sigmas that nothing reads.

    torch-mimicry has two spectral norms, torch's and its own, and its cGAN-PD for 32 pixels takes its own in the last
    two layers: l5.weight, l5.sn_u [1, out] and l5.sn_sigma, no v. Training computes the same with both. A file may
    also have been written with torch's parametrizations, or with weight norm, which is multiplied out.
    """
    if program == "mimicry":
        return spelled(_layers(arrays))
    its = PROGRAMS[program]
    return {name: a for name, a in arrays.items() if name.split(its.separator)[-1] != its.ignored}


def _layers(arrays: Mapping[str, np.ndarray]) -> dict[str, TorchLayer]:
    return layers_of(arrays, {name: name for name in arrays})


def in_old_names(config: ModelConfig) -> ModelConfig:
    """A config whose arrays bear the names of torch.nn.utils.spectral_norm, in whichever order it iterates."""
    return replace(config, {"spectral_norm.order": "v_first"})


def own_spelling(program: str, config: ModelConfig, network: str, arrays: Flat) -> Flat:
    """The inverse of one_spelling: what `write` gives, under the names that the program's own class loads.

    A sigma is written as 1: torch-mimicry overwrites it in training and reads it nowhere. Chainer's count of batches
    is written as 0: only a fine-tuning of its statistics reads it, and starts it there.
    """
    if program == "authors":
        norms = (name.removesuffix("avg_mean") for name in arrays if name.endswith("/avg_mean"))
        return arrays | {f"{norm}{PROGRAMS[program].ignored}": np.array(0) for norm in norms}
    if (program, network, config.image_size) != ("mimicry", "discriminator", 32) or not config.num_classes:
        return arrays
    flat = {n: a for n, a in arrays.items() if n.split(".")[0] not in ("l5", "l_y") or n == "l5.bias"}
    for layer in ("l5", "l_y"):
        weight, u = arrays[f"{layer}.weight_orig"], arrays[f"{layer}.weight_u"]
        flat |= {f"{layer}.weight": weight, f"{layer}.sn_u": u[None], f"{layer}.sn_sigma": np.ones(1, u.dtype)}
    return flat


def recognise(names: Iterable[str]) -> tuple[str, str]:
    """(program, network) whose arrays bear these names.

    Raises:
      UserError: neither program has such names.
    """
    found = sorted(names)
    for program, its in PROGRAMS.items():
        starts = {its.separator.join(name.split(its.separator)[:2]) for name in found}
        for network, first in (("discriminator", "block1"), ("generator", "block2")):
            if f"{first}{its.separator}c1" in starts:
                return program, network
    titles = " nor of ".join(its.title for its in PROGRAMS.values())
    raise UserError(f"neither a network of {titles}: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}")


def model_options(program: str, network: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What one network's arrays say of the ModelConfig: option -> value.

    An option that only a missing or misshapen array would tell is left out; `read` then names that array.

    Raises:
      UserError: no image size has that many blocks, or the network is too narrow for its size.
    """
    its = PROGRAMS[program]
    # A kernel tells its shape whether it is normalised or not.
    arrays = {name.replace("weight_orig", "weight"): a for name, a in one_spelling(program, arrays).items()}
    blocks = len({name.split(its.separator)[0] for name in arrays if name.startswith("block")})

    def axis(i: int, *name: str) -> int | None:
        a = arrays.get(its.separator.join(name))
        return a.shape[i] if a is not None and a.ndim > i else None

    if network == "generator":
        width, rows = axis(1, "block2", "c1", its.leaves["weight"]), axis(0, "l1", its.leaves["weight"])
        wide_base = bool(width and rows and rows == width * RESNET_PLANS[48].base ** 2)
        size = {3: 48 if wide_base else 32, 4: 64, 5: 128}.get(blocks)
        found = {
            "latent_size": axis(1, "l1", its.leaves["weight"]),
            "generator_width": width,
            "num_classes": axis(0, "block2", "b1", its.class_norm_leaves["weight"]) or 0,
        }
    else:
        last = next((n for n in (5, 6, 7) if any(name.startswith(f"l{n}{its.separator}") for name in arrays)), 5)
        size = {4: 32, 5: 64 if last == 6 else 48, 6: 128}.get(blocks)
        width = axis(1, f"l{last}", its.leaves["weight"])
        found = {
            "discriminator_width": width,
            "channels": axis(1, "block1", "c1", its.leaves["weight"]),
            "num_classes": axis(0, "l_y", its.leaves["weight"]) or 0,
            "score_bias": f"l{last}{its.separator}{its.leaves['bias']}" in arrays,
        }
    if size is None:
        known = "3 to 5" if network == "generator" else "4 to 6"
        raise UserError(f"a {network} of {its.title} for 32 to 128 pixels has {known} blocks, got {blocks}")
    least = ARCHITECTURES["resnet"].least_widths[size][network == "discriminator"]
    if width and width < least:
        raise UserError(f"a {network} for {size} pixels has a width of at least {least}, got {width}")
    return {"architecture": "resnet", "image_size": size} | {k: v for k, v in found.items() if v is not None}
