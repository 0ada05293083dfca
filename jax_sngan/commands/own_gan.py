"""--gan MODULE:NAME: the user's own function NAME(config) -> GAN, from the current folder or what is installed."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown


def own_gan(text: str) -> Callable[[TrainConfig], GAN]:
    """The function that a command line names.

    Raises:
      UserError: as named; or, when it is called, it makes no GAN.
    """
    function = named("--gan", text)

    def make(config: TrainConfig) -> GAN:
        made = function(config)
        if not isinstance(made, GAN):
            raise UserError(f"--gan: {shown(text)} must return a jax_sngan.GAN, got {type(made).__name__}")
        return made

    return make


def named(option: str, text: str) -> Callable[..., Any]:
    """MODULE:NAME of a command line; the module is imported, and what that raises is its author's to see.

    Raises:
      UserError: it is not of the form, or there is no such module or function.
    """
    module, _, name = text.partition(":")
    if not module or not name.isidentifier():
        raise UserError(f"{option} must be MODULE:NAME, got {shown(text)}")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # a script's own folder is there, not the one that it is called in
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise UserError(f"{option}: there is no module {shown(module)}, in {shown(here)} or installed") from error
    if not callable(function):
        raise UserError(f"{option}: {shown(module)} has no function {name}")
    return function
