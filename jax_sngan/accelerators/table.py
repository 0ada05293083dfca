"""Presets beside targets: one compiled step a cell."""

from collections.abc import Callable, Sequence
from typing import Any

from jax_sngan.accelerators.compiled import NotKept, compiled, request_for
from jax_sngan.accelerators.report import figures
from jax_sngan.accelerators.targets import target
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import RunConfig
from jax_sngan.system.errors import UserError


def cell(name: str, column: str, say: Callable[[str], None], *, kept: bool) -> dict[str, Any]:
    """The figures of a preset on `TARGET` or `TARGET/N`, or {"reason": why there are none}.

    Args:
      kept: compile nothing.
    Raises:
      UserError: there is no such target or number of its devices, or its compiler is not installed.
    """
    place, _, count = column.partition("/")
    to, told = target(place), {"preset": name, "target": column}
    if count and not count.isdigit():
        raise UserError(f"devices of a target are given as {to.name}/N, got {column!r}")
    config = preset(name)
    if count and config.batch_size % int(count):
        return told | {"reason": f"batch {config.batch_size}"}
    request = request_for(
        config, RunConfig(mesh=f"data={count}" if count else None), to, quick=to.chip.platform == "tpu"
    )
    say(f"{name} on {column}")
    try:
        return figures(request, compiled(request, say, kept=kept)) | told
    except NotKept:
        return told | {"reason": "not compiled"}


def markdown(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[dict[str, Any]]]) -> str:
    """A table of the cells: milliseconds by the slowest peak and by all kernels in turn, and GiB of a device."""
    head = ["preset", *columns]
    body = [[f"`{row}`", *(_text(of) for of in told)] for row, told in zip(rows, cells, strict=True)]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(of: dict[str, Any]) -> str:
    if reason := of.get("reason"):
        return f"*{reason}*"
    total = of["memory_mb"]["total"]
    memory = "" if total is None else f"{total / 1024:.2g} GiB" if total < 10240 else f"{total / 1024:.0f} GiB"
    if not of["fits"]:
        return f"does not fit: {memory}"
    seconds = of["seconds"]
    return f"{1e3 * seconds[of['pace']]:,.3g}, {1e3 * seconds['step']:,.3g} ms; {memory}"
