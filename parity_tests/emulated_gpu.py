"""A GPU that is not there, for machines without one: the CPU computes, and whatever mixes the two raises as on a GPU.

Its tensors are wrapped tensors of the CPU. An operation on tensors of both devices raises (but for a single number, as
torch allows), and so does handing one to numpy. What it can't show: a GPU's own kernels, their rounding, their speed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "emulated"  # torch lets Python register one device of its own
aten = torch.ops.aten
_BETWEEN = (aten._to_copy.default, aten.copy_.default)  # what may see both devices


class OnGpu(Tensor):
    """A tensor whose device is the emulated GPU."""

    held: Tensor  # its numbers, on the CPU

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        tensor: OnGpu = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Emulation(TorchDispatchMode):
    """Sees what makes tensors on the device, beside what computes with them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_ours(kwargs.get("device")) or any(isinstance(x, OnGpu) for x in tree_leaves((args, kwargs))):
            return _compute(func, args, kwargs)
        return func(*args, **kwargs)


class _Literals(TorchFunctionMode):
    """torch.tensor, which alone makes its result where the mode above does not see it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.tensor:
            return func(*args, **kwargs)
        device = kwargs.get("device") or torch.get_default_device()
        return func(*args, **kwargs | {"device": "cpu"}).to(device)


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if func not in _BETWEEN and any(isinstance(x, OnGpu) for x in tensors):
        if any(not isinstance(x, OnGpu) and x.ndim for x in tensors):
            raise RuntimeError(f"{func}: expected all tensors on one device, found {NAME}:0 and cpu")
    on_gpu = isinstance(args[0], OnGpu) if func is aten.copy_.default else True
    if (device := kwargs.get("device")) is not None:
        on_gpu = _is_ours(device)
        kwargs = kwargs | {"device": torch.device("cpu")}
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if not on_gpu:
        return found
    wrapped = tree_map(lambda x: OnGpu(x) if isinstance(x, Tensor) else x, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OnGpu) else x


def start() -> torch.device:
    """Puts the device there until the process ends; before the first gradient, since autograd counts devices then."""
    # Here: not every torch that the ladder runs under has it.
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    _Emulation().__enter__()
    _Literals().__enter__()
    return torch.device(NAME, 0)
