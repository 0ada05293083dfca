"""Which precision the products of what is traced have: the GAN's, not jax's own (words: config/arithmetic.py)."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import jax

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN, as_gan

_P = ParamSpec("_P")
_R = TypeVar("_R")


def at_its_precision(update: Callable[Concatenate[GAN, _P], _R]) -> Callable[Concatenate[GAN | TrainConfig, _P], _R]:
    """update(gan, …), also for a config, with its products, those of gradients within it too, at gan.precision."""

    @wraps(update)
    def traced(what: GAN | TrainConfig, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        gan = as_gan(what)
        with jax.default_matmul_precision(gan.precision):
            return update(gan, *args, **kwargs)

    return traced
