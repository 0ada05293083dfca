"""What an accelerator would compute, on this machine: its branch of every choice by platform, compiled for a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import pytest


def _default(*arrays: Any, default: Callable[..., Any], **others: Any) -> Any:
    del others
    return default(*arrays)


@contextmanager
def accelerator_forms() -> Iterator[None]:
    """What is traced inside takes the branches of platforms other than CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        jax.clear_caches()  # of what was traced before, functions inside others too
        patch.setattr(jax.lax, "platform_dependent", _default)
        yield
    jax.clear_caches()
