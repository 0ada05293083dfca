"""TrainState: all that a training step reads and writes, as one flat dict of arrays where it leaves the process."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jax_sngan.config.schema import TrainConfig
from jax_sngan.system.errors import UserError
from torch_ref.core.optim import adam
from torch_ref.models.network import build


@dataclass
class TrainState:
    """Changed in place by every update."""

    step: int  # training steps done
    generator: nn.Module
    discriminator: nn.Module
    generator_ema: dict[str, Tensor]  # moving average of generator's parameters
    generator_opt: Optimizer
    discriminator_opt: Optimizer


def create_state(config: TrainConfig, seed: int | None = None, device: torch.device | None = None) -> TrainState:
    """A fresh state: the same for the same config and seed (the config's own where none is given).

    device: torch's default where none is given. Weights are drawn on the CPU: every device starts from the same bits.
    """
    device = device or torch.get_default_device()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(config.seed if seed is None else seed)
        generator, discriminator = (network.to(device) for network in build(config.model))
    return TrainState(
        step=0,
        generator=generator,
        discriminator=discriminator,
        generator_ema={name: p.detach().clone() for name, p in generator.named_parameters()},
        generator_opt=adam(config.generator_optimizer, generator.parameters()),
        discriminator_opt=adam(config.discriminator_optimizer, discriminator.parameters()),
    )


def _entries(state: TrainState) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of everything in the state, the counts apart."""
    for network in ("generator", "discriminator"):
        module, optimizer = getattr(state, network), getattr(state, f"{network}_opt")
        for name, tensor in module.state_dict().items():
            yield f"{network}.{name}", tensor
        for name, p in module.named_parameters():
            for moment in ("exp_avg", "exp_avg_sq"):
                yield f"{network}_opt.{moment}.{name}", optimizer.state[p][moment]
    for name, tensor in state.generator_ema.items():
        yield f"generator_ema.{name}", tensor


def _counts(optimizer: Optimizer) -> list[Tensor]:
    """Each parameter's count of Adam steps; all are equal."""
    return [entry["step"] for entry in optimizer.state.values()]


def dump(state: TrainState) -> dict[str, np.ndarray]:
    """The whole state by name, copied to the host; jax_sngan.interop.torch_layout.from_torch reads it.

    Names: step, generator.*, discriminator.* (their state_dict), generator_ema.*, and for both networks
    *_opt.count, *_opt.exp_avg.*, *_opt.exp_avg_sq.*.
    """
    flat = {name: tensor.detach().cpu().numpy().copy() for name, tensor in _entries(state)}
    flat["step"] = np.asarray(state.step, np.int32)
    for network in ("generator", "discriminator"):
        flat[f"{network}_opt.count"] = np.asarray(int(_counts(getattr(state, f"{network}_opt"))[0]), np.int32)
    return flat


def load_state(state: TrainState, flat: dict[str, np.ndarray]) -> None:
    """The inverse of dump, into a state of the same config on any device.

    Raises:
      UserError: an entry is missing, left over, or of another shape or type.
    """
    own = dict(_entries(state))
    counts = {f"{network}_opt.count": getattr(state, f"{network}_opt") for network in ("generator", "discriminator")}
    names = {*own, *counts, "step"}
    wrong = [f"missing {name}" for name in sorted(names - set(flat))]
    wrong += [f"left over {name}" for name in sorted(set(flat) - names)]
    for name in sorted(own.keys() & flat.keys()):
        found, shape, dtype = flat[name], tuple(own[name].shape), str(own[name].dtype).removeprefix("torch.")
        if (found.shape, found.dtype.name) != (shape, dtype):
            wrong.append(f"{name} is {found.dtype} {found.shape}, expected {dtype} {shape}")
    if wrong:
        raise UserError(f"the state does not fit: {'; '.join(wrong)}")

    state.step = int(flat["step"])
    for name, optimizer in counts.items():
        for count in _counts(optimizer):
            count.fill_(int(flat[name]))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(flat[name].copy()))
