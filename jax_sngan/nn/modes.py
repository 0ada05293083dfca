"""Training passes and evaluations: nnx's train() and eval(), and a call that says which it is."""

from typing import Any


def is_training(module: Any, train: bool | None) -> bool:
    """What a pass is: as its argument `train` says, else as the module's train() and eval() have left it."""
    return not module.deterministic if train is None else train
