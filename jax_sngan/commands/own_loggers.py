"""--logger: wandb, or MODULE:NAME, the user's own function NAME(config, workdir) -> logger (runs/loggers.py)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jax_sngan.commands.own_gan import named
from jax_sngan.config.schema import TrainConfig
from jax_sngan.runs.loggers import Logger
from jax_sngan.runs.wandb_logger import WandB, check_wandb
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import shown


def own_loggers(texts: Sequence[str]) -> Callable[[TrainConfig, Path], Sequence[Logger]]:
    """What makes the loggers that a command line names.

    Raises:
      UserError: as named; wandb is not installed; or, when it is called, what is made is no logger.
    """
    makers = [_maker(text) for text in texts]

    def make(config: TrainConfig, workdir: Path) -> Sequence[Logger]:
        made = [maker(config, workdir) for maker in makers]
        for text, logger in zip(texts, made, strict=True):
            if not isinstance(logger, Logger):
                kind = type(logger).__name__
                raise UserError(f"--logger: {shown(text)} must return an object with numbers and images, got {kind}")
        return made

    return make


def _maker(text: str) -> Callable[[TrainConfig, Path], Any]:
    if text == "wandb":
        check_wandb()
        return WandB
    return named("--logger", text)
