"""Which precision the products of what is traced have: the config's, not jax's own (words: config/arithmetic.py)."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import jax

from jax_sngan.config.schema import TrainConfig

_Update = TypeVar("_Update", bound=Callable[..., Any])


def at_its_precision(update: _Update) -> _Update:
    """update(config, …) with its products, those of gradients taken within it too, at config.precision."""

    @wraps(update)
    def traced(config: TrainConfig, *args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(config.precision):
            return update(config, *args, **kwargs)

    return cast(_Update, traced)
