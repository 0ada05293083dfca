"""The ladder's own option: the device that the reference computes on; and jax as users of parity_kit have it."""

from collections.abc import Iterator

import jax
import pytest

from jax_sngan.system.errors import UserError
from parity_tests import torch_device


def pytest_addoption(parser: pytest.Parser) -> None:
    """--torch-device."""
    parser.addoption(
        "--torch-device", default="cpu", metavar="DEVICE", help=f"of the reference: {torch_device.CHOICES}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Before any test makes a tensor.

    Raises:
      UsageError: there is no such device.
    """
    try:
        torch_device.use(config.getoption("--torch-device"))
    except UserError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture
def as_strangers_have_it() -> Iterator[None]:
    """jax's own defaults: our conftest's strictness is not theirs."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
