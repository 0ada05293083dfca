"""What the tests of penalties share: each with its options, points to take it at, its call in both frameworks."""

from typing import Any

import numpy as np
import torch

from jax_sngan.core import penalties
from parity_tests.torch_device import tensor
from torch_ref.core import penalties as torch_penalties

# name -> (function, arrays that it takes, options)
PENALTIES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "two-sided": ("gradient_penalty", ("real", "fake", "mix"), {}),
    "two-sided, target 0.3": ("gradient_penalty", ("real", "fake", "mix"), {"target": 0.3}),
    # Between the norms at the points: some are punished, some are not.
    "one-sided": ("gradient_penalty", ("real", "fake", "mix"), {"target": 0.65, "sides": "one"}),
    "r1": ("r1", ("real",), {}),
    "dragan": ("dragan", ("real", "noise", "mix"), {}),
    "dragan, one-sided": ("dragan", ("real", "noise", "mix"), {"target": 0.65, "sides": "one"}),
}
N, SIDE, CHANNELS = 4, 3, 2


def draw(dtype: str, side: int = SIDE, channels: int = CHANNELS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (N, side, side, channels)
    arrays = {
        "real": np.tanh(rng.normal(size=shape)),
        "fake": np.tanh(rng.normal(size=shape)),
        "noise": rng.uniform(size=shape),
        "mix": np.array([0.0, 1 - 2.0**-23, 0.25, 0.7]),  # both ends among them
    }
    return {name: a.astype(dtype) for name, a in arrays.items()}


def of_ours(name: str, score: Any, arrays: dict[str, Any]) -> Any:
    function, takes, options = PENALTIES[name]
    return getattr(penalties, function)(score, *(arrays[a] for a in takes), **options)


def of_torch(name: str, score: Any, arrays: dict[str, np.ndarray]) -> torch.Tensor:
    function, takes, options = PENALTIES[name]
    tensors = [
        tensor(np.ascontiguousarray(a.transpose(0, 3, 1, 2)) if a.ndim == 4 else a) for a in (arrays[a] for a in takes)
    ]
    value: torch.Tensor = getattr(torch_penalties, function)(score, *tensors, **options)
    return value
