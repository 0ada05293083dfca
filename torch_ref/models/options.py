"""What a network's config says to the layers, normalisations and blocks of nn."""

from functools import partial
from typing import Any

import torch

from jax_sngan.config.schema import ModelConfig
from torch_ref.nn.normalization import normalization as of_kind


def layer_options(config: ModelConfig, network: str) -> dict[str, Any]:
    """What every layer of a network is made with: its spectral norm and its types."""
    return {
        "spectral_norm": config.spectral_norm_of(network),
        "dtype": getattr(torch, config.dtype),
        "compute_dtype": getattr(torch, config.dtype if config.compute_dtype == "same" else config.compute_dtype),
    }


def in_full(options: dict[str, Any]) -> dict[str, Any]:
    """layer_options of a network's last layer, which gives its result in the weights' own type: a pixel or a score of
    bfloat16's eight bits would be the coarsest number of all. What it multiplies is of compute_dtype as elsewhere."""
    return options | {"result_dtype": options["dtype"]}


def normalization(config: ModelConfig, network: str, features: int, *, conditional: bool = False) -> Any:
    """A network's normalisation of [n, features, ...]; conditional: by class where the config has classes."""
    return of_kind(
        getattr(config, f"{network}_norm"),
        features,
        eps=config.batch_norm_eps,
        momentum=config.batch_norm_momentum,
        num_classes=config.num_classes if conditional else 0,
        dtype=getattr(torch, config.dtype),
    )


def block_options(config: ModelConfig, network: str) -> dict[str, Any]:
    """What every residual block of a network is made with: the generator's normalisation is by class."""
    return {
        "norm": partial(normalization, config, network, conditional=network == "generator"),
        "dropout": getattr(config, f"{network}_dropout"),
        **layer_options(config, network),
    }
