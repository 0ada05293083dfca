"""Running out of a device's memory or the machine's: recognised whatever library says it, told in one line."""

import re
from collections.abc import Iterator

# Class names, since neither jax nor torch is imported here, and with what words each says it. Errors that were caught
# on the way and raised as others are seen by their cause.
_SAID = {
    "JaxRuntimeError": r"RESOURCE_EXHAUSTED|out of memory|failed to allocate",
    "XlaRuntimeError": r"RESOURCE_EXHAUSTED|out of memory|failed to allocate",
    "OutOfMemoryError": r"",  # torch.OutOfMemoryError is this and nothing else
    "RuntimeError": r"DefaultCPUAllocator: can't allocate memory|CUDA error: out of memory",  # torch
    "MemoryError": r"",
    "_ArrayMemoryError": r"",  # numpy's
}


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that memory ran out."""
    return any(
        (words := _SAID.get(type(e).__name__)) is not None and re.search(words, str(e), re.IGNORECASE)
        for e in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on; each once, since errors that were raised from each other make a circle."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def memory_line(error: BaseException) -> str:
    """One line: what was said, and which options take less."""
    *_, error = _causes(error)
    said = (str(error).strip() or "no more was said").splitlines()[0][:200].rstrip(".: ")
    return (
        f"out of memory: {said}; a run takes less with a smaller --batch-size, --accumulate N (a batch in N parts) "
        "or with --model.compute-dtype bfloat16; checkpoints stay as they are"
    )
