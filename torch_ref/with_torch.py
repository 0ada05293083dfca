"""Imported by every folder that computes in torch: where it is not installed, one line says what brings it."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ModuleNotFoundError(
        "torch_ref needs PyTorch, which the extra `parity` brings: pip install 'jax-sngan[parity]'", name="torch"
    )
