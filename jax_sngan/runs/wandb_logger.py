"""Weights & Biases as a logger; needs the extra `wandb`. Without a network or a key the run is kept offline."""

import os
import secrets
import socket
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from jax_sngan.config.schema import TrainConfig, flatten
from jax_sngan.runs import pictures
from jax_sngan.runs.log import Values
from jax_sngan.system.errors import UserError

_SERVER, _WAIT = "https://api.wandb.ai", 3.0  # seconds


class WandB:
    """A run of W&B, in WORKDIR/wandb: numbers, histograms, and pictures as grids.

    WANDB_MODE decides whether it is sent; where that is not set, it is kept offline if there is no key or no network,
    and a line says so. A run that goes on is the same one there.
    """

    def __init__(self, config: TrainConfig, workdir: Path):
        """config: told to W&B by its dotted names.

        Raises:
          UserError: wandb is not installed.
        """
        check_wandb()
        wandb: Any = import_module("wandb")  # an extra: its types are there for some alone

        folder = workdir / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        name = folder / "jax-sngan-run"
        if not name.exists():
            name.write_text(secrets.token_hex(4))
        mode = os.environ.get("WANDB_MODE")
        if mode is None and (missing := _missing(os.environ.get("WANDB_BASE_URL", _SERVER))):
            mode = "offline"
            print(
                f"note        W&B: {missing}; kept offline in {folder}; to send it: wandb sync {folder}/offline-run-*"
            )
        self._wandb = wandb
        self._run: Any = wandb.init(
            project="jax-sngan",
            name=f"{config.name} {workdir.name}",
            id=name.read_text(),
            resume="allow",
            dir=workdir,
            mode=mode,
            config=flatten(config),
        )
        self._run.define_metric("*", step_metric="step")

    def numbers(self, step: int, values: Values) -> None:
        """See Logger."""
        told = {
            name: self._wandb.Histogram(value) if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }
        self._run.log({"step": step, **told})

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """See Logger."""
        self._run.log({"step": step, name: self._wandb.Image(pictures.grid(images, scale=2))})

    def close(self) -> None:
        """See Logger."""
        self._run.finish()


def check_wandb() -> None:
    """Passes where wandb is installed.

    Raises:
      UserError: it is not.
    """
    if find_spec("wandb") is None:
        raise UserError('the logger wandb needs the package: pip install "jax-sngan[wandb]"')


def _missing(address: str) -> str:
    """What keeps a run from being sent to a server of W&B; "" where nothing is known to."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    kept = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()  # where `wandb login` writes a key
    if not os.environ.get("WANDB_API_KEY") and not (kept.is_file() and host in kept.read_text(errors="replace")):
        return f"there is no key for {host} (wandb login)"
    try:
        socket.create_connection((host, parts.port or 443), _WAIT).close()
    except OSError:
        return f"{host} cannot be reached"
    return ""
