"""torch's side of the benchmark: `python -m torch_ref.benchmark.torch_side WORK FOLDER CHANGES KIND DEVICE`.

The folder holds the first state and the inputs of JAX's side. benchmark_plan has the kinds.
"""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from jax_sngan.benchmark.server import Prepared, serve
from jax_sngan.benchmark.workloads import Workload, check_kind, workloads
from jax_sngan.config.schema import replace
from jax_sngan.system.machine import cores
from torch_ref.core.inputs import from_numpy
from torch_ref.core.pixels import to_uint8
from torch_ref.core.state import TrainState, create_state, load_state
from torch_ref.core.step import training_step
from torch_ref.system import machine

_BATCH = 64  # images of one pass where the work is sampling
_WARM_UP = 3  # steps before a graph is recorded: libraries choose their kernels in them

Step = Callable[[], Any]


def prepare(work: Workload, folder: Path, kind: str, device: torch.device) -> Prepared:
    """Reads the folder, compiles or records where the kind says so, and does a step."""
    torch.set_num_threads(cores())
    machine.set_precision(work.config.precision, device)
    forms = set(kind.split("+"))
    if "autocast" in forms:  # in the place of the layers' own bfloat16
        work = work._replace(config=replace(work.config, {"model.compute_dtype": "same"}))
    told: dict[str, Any] = {"device": machine.described(device)}
    if "compiled" in forms:
        step, compiled = _compiled(work, folder, device, forms, told)
        told["compiled"] = compiled
    else:
        step = _step(work, folder, device, _state(work, folder, device, forms), forms, told)
        if kind == "eager":
            told["gflop"] = _gflop(step)
        else:
            step()
    if "graphs" in forms:
        step = _recorded(step)

    def repeat(count: int) -> None:
        for _ in range(count):
            step()
        machine.finish(device)

    repeat(1)
    machine.forget_peak(device)
    return Prepared(told, repeat, None if device.type == "cpu" else lambda: machine.peak(device))


def _gflop(step: Step) -> float:
    """Of a step, counted while it runs."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Whole()  # type: ignore[assignment]
    with counter:
        step()
    return counter.get_total_flops() / 1e9


class _Whole:
    """In the place of torch's ModuleTracker: that hooks the nodes of autograd to tell a module's FLOPs from another's,
    which a second derivative does not bear; the sum of all is asked for."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _state(work: Workload, folder: Path, device: torch.device, forms: set[str]) -> TrainState:
    state = create_state(work.config, device=device)
    with np.load(folder / "state.npz") as arrays:
        load_state(state, dict(arrays))
    if "channels_last" in forms:
        for network, optimizer in (
            (state.generator, state.generator_opt),
            (state.discriminator, state.discriminator_opt),
        ):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for p, entry in optimizer.state.items():  # as they would have been made: Adam is slow between two layouts
                entry |= {name: torch.empty_like(p).copy_(entry[name]) for name in ("exp_avg", "exp_avg_sq")}
        for name, p in state.generator.named_parameters():
            state.generator_ema[name] = torch.empty_like(p).copy_(state.generator_ema[name])
    if "graphs" in forms:
        for optimizer in (state.generator_opt, state.discriminator_opt):
            if not isinstance(optimizer, torch.optim.Adam):
                raise ValueError("a graph holds torch's own Adam alone")  # the other form reads its count on the host
            for group in optimizer.param_groups:
                group["capturable"] = True
            for entry in optimizer.state.values():
                entry["step"] = entry["step"].to(device)
    return state


def _compiled(
    work: Workload, folder: Path, device: torch.device, forms: set[str], told: dict[str, Any]
) -> tuple[Step, str]:
    """Both networks by torch.compile; the generator alone where torch can't compile a spectrally normalised D.

    Its u moves in place between two passes, and compiled code then refuses the gradient; it also has no second one.
    """
    for networks in (("generator", "discriminator"), ("generator",)):
        state = _state(work, folder, device, forms)
        for name in networks:
            getattr(state, name).compile()
        step = _step(work, folder, device, state, forms, told)
        try:
            step()
            break
        except RuntimeError:
            if len(networks) == 1:
                raise
            told.pop("losses", None)
    return step, "both" if len(networks) == 2 else "generator"


def _recorded(step: Step) -> Step:
    """The step as one CUDA graph: the host launches it whole. Learning rate and average's decay stay the recorded."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _step(
    work: Workload, folder: Path, device: torch.device, state: TrainState, forms: set[str], told: dict[str, Any]
) -> Step:
    def arithmetic() -> AbstractContextManager[Any]:
        if "autocast" not in forms:
            return nullcontext()
        # A graph must not keep a cast weight of the time when it was recorded.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled="graphs" not in forms)

    make = _sampling(work, device, state) if work.images else _training(work, folder, device, state, forms, told)

    def step() -> None:
        with arithmetic():
            make()

    return step


def _training(
    work: Workload, folder: Path, device: torch.device, state: TrainState, forms: set[str], told: dict[str, Any]
) -> Step:
    with np.load(folder / "inputs.npz") as arrays:
        inputs = from_numpy(dict(arrays), device)
    if "channels_last" in forms:
        images = inputs.real_images  # [n_dis, batch, c, h, w]
        inputs = inputs._replace(real_images=images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3))

    def step() -> None:
        _, logs = training_step(work.config, state, inputs)
        if "losses" not in told:
            told["losses"] = {name: a.double().ravel().tolist() for name, a in logs.items()}

    return step


def _sampling(work: Workload, device: torch.device, state: TrainState) -> Step:
    latents = torch.from_numpy(np.random.default_rng(0).normal(size=(work.images, work.config.model.latent_size)))
    latents = latents.to(device, getattr(torch, work.config.model.dtype))
    network: nn.Module = state.generator.eval()

    @torch.inference_mode()
    def step() -> None:
        torch.cat([to_uint8(network(part, None, None)) for part in latents.split(_BATCH)])

    return step


def main() -> None:
    """Serves one workload in one kind."""
    name, folder, changes, kind, on = sys.argv[1:6]
    device = machine.device(on)
    work = workloads()[name]
    work = work._replace(config=replace(work.config, json.loads(changes)))
    arithmetic = "bfloat16" if work.config.model.compute_dtype == "bfloat16" else "float32"
    check_kind(kind, "cpu" if device.type == "cpu" else "gpu", arithmetic)
    serve(lambda: prepare(work, Path(folder), kind, device))


if __name__ == "__main__":
    main()
