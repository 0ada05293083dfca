"""Where the package keeps what can be made again: prepared images, classifiers, compiled programs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/jax_sngan, or ~/.cache/jax_sngan."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jax_sngan"
