"""torch_ref's networks as bare state dicts, `torch.save(generator.state_dict(), …)`: what they say of a ModelConfig.

Names are torch_ref's own, "blocks.0.conv1.weight_orig". What shapes don't tell has its default or is given: dropout, a
ResNet's up-sampling, sigma's target.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jax_sngan.config.architectures import CNN_HALVINGS, RESNET_PLANS
from jax_sngan.config.schema import ModelConfig
from jax_sngan.interop.public_programs import in_old_names
from jax_sngan.interop.state_dicts import layers_of, missing_v, spelled
from jax_sngan.interop.torch_layout import Flat, check_fit, network_entries, variables_from_torch
from jax_sngan.models.network import Variables
from jax_sngan.system.errors import UserError

TITLE = "the PyTorch reference (torch_ref)"
UNTOLD = "a ResNet discriminator of 4 blocks is one for 28 or 32 pixels, one of 5 for 48 or 64, by the same arrays"
_LAST = {"to_image": "generator", "score": "discriminator"}
_FIRST = {"deconvs": "standard_cnn", "convs": "standard_cnn", "blocks": "resnet", "hidden": "mlp"}


def recognise(names: Iterable[str]) -> str | None:
    """The network, "generator" or "discriminator", whose arrays bear these names; None: none of torch_ref's."""
    layers = {name.partition(".")[0] for name in names}
    if not layers & _FIRST.keys():
        return None
    return next((network for layer, network in _LAST.items() if layer in layers), None)


def read(config: ModelConfig, network: str, arrays: Mapping[str, np.ndarray]) -> Variables:
    """A network's variables, in the config's type; a v that is not stored is made as torch makes it.

    Raises:
      UserError: names the missing, the extra and the misshapen entries.
    """
    layers = layers_of(arrays, {name: name for name in arrays})
    flat: Flat = spelled(layers) | missing_v(layers, transposed="deconvs.")
    dtype = np.dtype(config.dtype)
    flat = {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in flat.items()}
    entries = network_entries(in_old_names(config), network)
    check_fit(flat, {e.name: (dtype, e.torch_shape) for tree in entries for e in tree})
    return variables_from_torch(in_old_names(config), network, flat)


def model_options(network: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What one network's arrays say of the ModelConfig: option -> value.

    Raises:
      UserError: they are of no network that the config has, or lack the arrays that would tell.
    """
    flat = spelled(layers_of(arrays, {name: name for name in arrays}))
    shapes = {name.replace("weight_orig", "weight"): a.shape for name, a in flat.items()}
    architecture = next(kind for layer, kind in _FIRST.items() if any(n.startswith(f"{layer}.") for n in shapes))
    tell = {
        ("standard_cnn", "generator"): _cnn_generator, ("standard_cnn", "discriminator"): _cnn_discriminator,
        ("resnet", "generator"): _resnet_generator, ("resnet", "discriminator"): _resnet_discriminator,
        ("mlp", "generator"): _mlp_generator, ("mlp", "discriminator"): _mlp_discriminator,
    }[architecture, network]  # fmt: skip
    try:
        found = tell(shapes)
    except KeyError as error:
        raise UserError(f"a {network} of {TITLE}, {architecture}, has {error.args[0]}, which is missing") from None
    except IndexError:
        raise UserError(f"a {network} of {TITLE}, {architecture}: its first or last layer has another shape") from None
    norms = [shape for name, shape in shapes.items() if "norm" in name and name.endswith(".weight")]
    means = any(name.endswith("running_mean") for name in shapes)
    found[f"{network}_norm"] = "batch" if means else "layer" if norms else "none"
    if network == "discriminator":
        found |= {"score_bias": "score.bias" in shapes}
        found |= {"num_classes": shapes["embed.weight"][0] if "embed.weight" in shapes else 0}
    else:
        found["num_classes"] = max((shape[0] for shape in norms if len(shape) == 2), default=0)
    return {"architecture": architecture, **found}


Shapes = Mapping[str, tuple[int, ...]]


def _count(shapes: Shapes, layer: str) -> int:
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{layer}.")})


def _side(size: int, channels: int) -> int:
    side = math.isqrt(size // max(channels, 1))
    return side if side * side * channels == size else 0


def _known(size: int | None, what: str) -> int:
    if size is None:
        raise UserError(f"no network of {TITLE} has {what}")
    return size


def _cnn_generator(shapes: Shapes) -> dict[str, Any]:
    depth, (widest, *_) = _count(shapes, "deconvs"), shapes["deconvs.0.weight"]
    base = _side(shapes["project.weight"][0], widest)
    size = base << depth
    _known(size if CNN_HALVINGS.get(size) == depth else None, f"{depth} transposed convolutions from {base} pixels")
    return {
        "image_size": size,
        "generator_width": shapes["to_image.weight"][1],
        "latent_size": shapes["project.weight"][1],
        "channels": shapes["to_image.weight"][0],
    }


def _cnn_discriminator(shapes: Shapes) -> dict[str, Any]:
    depth, width = _count(shapes, "convs") // 2, shapes["convs.0.weight"][0]
    base = _side(shapes["score.weight"][1], width << depth)
    size = base << depth
    _known(size if CNN_HALVINGS.get(size) == depth else None, f"{2 * depth + 1} convolutions down to {base} pixels")
    return {"image_size": size, "discriminator_width": width, "channels": shapes["convs.0.weight"][1]}


def _resnet_generator(shapes: Shapes) -> dict[str, Any]:
    blocks, width = _count(shapes, "blocks"), shapes["blocks.0.conv1.weight"][1]
    base = _side(shapes["project.weight"][0], width)
    plans = RESNET_PLANS.items()
    size = next((n for n, plan in plans if (len(plan.generator) - 1, plan.base) == (blocks, base)), None)
    return {
        "image_size": _known(size, f"{blocks} blocks from {base} pixels"),
        "generator_width": width,
        "latent_size": shapes["project.weight"][1],
        "channels": shapes["to_image.weight"][0],
    }


def _resnet_discriminator(shapes: Shapes) -> dict[str, Any]:
    """Without an image size: those of 28 and 32 pixels have the same arrays, and those of 48 and 64."""
    blocks = _count(shapes, "blocks")
    _known(next((b for b in (4, 5, 6) if b == blocks), None), f"{blocks} blocks")
    return {"discriminator_width": shapes["score.weight"][1], "channels": shapes["blocks.0.conv1.weight"][1]} | (
        {"image_size": 128} if blocks == 6 else {}
    )


def _mlp_generator(shapes: Shapes) -> dict[str, Any]:
    width, latent = shapes["hidden.0.weight"]
    return {
        "generator_width": width,
        "latent_size": latent,
        "depth": _count(shapes, "hidden"),
        **_pixels(shapes["to_image.weight"][0]),
    }


def _mlp_discriminator(shapes: Shapes) -> dict[str, Any]:
    width, size = shapes["hidden.0.weight"]
    return {"discriminator_width": width, "depth": _count(shapes, "hidden"), **_pixels(size)}


def _pixels(size: int) -> dict[str, Any]:
    if size == 2:
        return {"image_size": 1, "channels": 2, "output": "identity"}
    side, channels = max((_side(size, c), c) for c in (1, 3))  # a square is never three times another
    _known(side or None, f"images of {size} numbers: neither a square nor three")
    return {"image_size": side, "channels": channels}
