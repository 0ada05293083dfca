"""torch's side of the benchmark: `python -m torch_ref.benchmark WORK FOLDER CHANGES KIND`.

The folder holds the first state and the inputs of JAX's side. A kind is eager, channels_last or compiled.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from jax_sngan.benchmark_plan import TORCH_KINDS, Work, works
from jax_sngan.benchmark_side import serve
from jax_sngan.config import replace
from jax_sngan.machine import cores
from torch_ref.images import to_uint8
from torch_ref.inputs import from_numpy
from torch_ref.state import TrainState, create_state, load
from torch_ref.update import training_step

_BATCH = 64  # images of one pass where the work is sampling


def prepare(work: Work, folder: Path, kind: str) -> tuple[dict[str, Any], Callable[[], None]]:
    """Reads the folder and returns what to tell and one repetition (benchmark_side.serve)."""
    torch.set_num_threads(cores())
    state = _state(work, folder)
    if kind == "channels_last":
        for network in (state.generator, state.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if kind == "compiled":
        return _compiled(work, folder, state)
    repeat, told = _work(work, folder, state, kind)
    if kind == "eager":
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _Whole()  # type: ignore[assignment]
        with counter:
            repeat()  # the first
        told["gflop"] = counter.get_total_flops() / 1e9
    else:
        repeat()
    return told, repeat


class _Whole:
    """In the place of torch's ModuleTracker: that hooks the nodes of autograd to tell a module's FLOPs from another's,
    which a second derivative does not bear; the sum of all is asked for."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _state(work: Work, folder: Path) -> TrainState:
    state = create_state(work.config)
    with np.load(folder / "state.npz") as arrays:
        load(state, dict(arrays))
    return state


def _compiled(work: Work, folder: Path, state: TrainState) -> tuple[dict[str, Any], Callable[[], None]]:
    """Both networks by torch.compile; the generator alone where torch can't compile a spectrally normalised D.

    Its u moves in place between two passes, and compiled code then refuses the gradient; it also has no second one.
    """
    state.generator.compile()
    state.discriminator.compile()
    repeat, told = _work(work, folder, state, "compiled")
    try:
        repeat()
    except RuntimeError:
        state = _state(work, folder)
        state.generator.compile()
        repeat, told = _work(work, folder, state, "compiled")
        return told | {"compiled": "generator"}, repeat
    return told | {"compiled": "both"}, repeat


def _work(work: Work, folder: Path, state: TrainState, kind: str) -> tuple[Callable[[], None], dict[str, Any]]:
    return _sampling(work, state) if work.images else _training(work, folder, state, kind)


def _training(work: Work, folder: Path, state: TrainState, kind: str) -> tuple[Callable[[], None], dict[str, Any]]:
    with np.load(folder / "inputs.npz") as arrays:
        inputs = from_numpy(dict(arrays))
    if kind == "channels_last":
        images = inputs.real_images  # [n_dis, batch, c, h, w]
        inputs = inputs._replace(real_images=images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3))
    told: dict[str, Any] = {}

    def repeat() -> None:
        _, logs = training_step(work.config, state, inputs)
        told.setdefault("losses", {name: a.double().ravel().tolist() for name, a in logs.items()})

    return repeat, told


def _sampling(work: Work, state: TrainState) -> tuple[Callable[[], None], dict[str, Any]]:
    latents = torch.from_numpy(np.random.default_rng(0).normal(size=(work.images, work.config.model.latent_size)))
    latents = latents.to(getattr(torch, work.config.model.dtype))
    network: nn.Module = state.generator.eval()

    @torch.inference_mode()
    def repeat() -> None:
        torch.cat([to_uint8(network(part, None, None)) for part in latents.split(_BATCH)])

    return repeat, {}


def main() -> None:
    """Serves one work in one kind."""
    name, folder, changes, kind = sys.argv[1:5]
    if kind not in TORCH_KINDS:
        raise ValueError(f"kind must be one of {', '.join(TORCH_KINDS)}, got {kind!r}")
    work = works()[name]
    serve(lambda: prepare(work._replace(config=replace(work.config, json.loads(changes))), Path(folder), kind))


if __name__ == "__main__":
    main()
