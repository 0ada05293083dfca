"""The device that the reference computes on: which there is, what it is called, how it multiplies, when it is done."""

import torch

from jax_sngan.system.errors import UserError


def device(name: str) -> torch.device:
    """RunConfig.device, `auto`, `cpu`, `cuda` or `cuda:N`, as a device; auto: a GPU where torch sees one, else the CPU.

    Raises:
      UserError: this torch sees no such device.
    """
    there = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if name == "auto":
        name = there[0] if there else "cpu"
    if name == "cuda":
        name = "cuda:0"
    if name not in ("cpu", *there):
        known = ", ".join(["cpu", *there])
        raise UserError(f"device must be one that this torch ({torch.__version__}) sees, {known}; got {name}")
    return torch.device(name)


def described(of: torch.device) -> str:
    """As a run's summary and its checkpoints have it."""
    if of.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads (torch {torch.__version__})"
    return f"{of}, {torch.cuda.get_device_name(of)} (torch {torch.__version__})"


def set_precision(precision: str, of: torch.device) -> None:
    """How products of float32 are computed: `highest` in float32; `high` and `default` on a GPU with TF32's factors,
    which have 10 bits behind the point. On a CPU nothing changes.

    Of itself torch has TF32 in convolutions and not in matrix products.

    The power iteration multiplies matrices and vectors, for which cuBLAS has no form with TF32 (read, not measured).
    """
    if of.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def finish(of: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if of.type == "cuda":
        torch.cuda.synchronize(of)


def forget_peak(of: torch.device) -> None:
    """What was held before does not count for peak()."""
    if of.type == "cuda":
        torch.cuda.reset_peak_memory_stats(of)


def peak(of: torch.device) -> float:
    """MiB that tensors held on a GPU at the peak since forget_peak()."""
    return torch.cuda.max_memory_allocated(of) / 2**20
