"""The same torch program computed in other ways: what is left between two of them is rounding, and nothing else."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class ChannelsLast(TorchFunctionMode):
    """Inside, every convolution is given its map in torch's other layout."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("conv2d", "conv_transpose2d"):
            args = (args[0].contiguous(memory_format=torch.channels_last), *args[1:])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def no_onednn() -> Iterator[None]:
    """Inside, torch uses its own convolutions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # oneDNN's switch asks about Intel's GPUs
        with torch.backends.mkldnn.flags(enabled=False):
            yield


VARIATIONS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "one thread": lambda: threads(1),
    "channels_last": ChannelsLast,
    "no oneDNN": no_onednn,
}
