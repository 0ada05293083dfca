"""Runs from the networks of another program, and networks for it: files' arrays in and out, numpy both ways."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.config.reference_programs import PROTOCOLS, with_protocol
from jax_sngan.config.schema import ModelConfig, TrainConfig, flatten, replace
from jax_sngan.core.state import TrainState, create_state
from jax_sngan.interop import public_programs
from jax_sngan.interop.torch_layout import NETWORKS, Flat
from jax_sngan.models.network import Variables, allow_dtype
from jax_sngan.runs.sample import averaged
from jax_sngan.system.errors import UserError

# What decides the numbers of a forward pass and is not told by shapes. The guards and the start of u and v matter in
# training alone; a file says nothing of them either.
_FORWARD = ("model.upsampling", "model.shortcut_input", "model.batch_norm_eps", "model.spectral_norm.order")
_SIZES = {"mimicry": (32, 48, 64, 128), "authors": (32, 64, 128)}


class NetworkFile(NamedTuple):
    """One network as its program saved it."""

    path: Path
    arrays: Flat
    step: int | None  # training steps done, where the file tells


class Adopted(NamedTuple):
    """A run that goes on from another program's networks."""

    program: str
    config: TrainConfig
    state: TrainState
    networks: list[str]  # those that came from files; the rest of the state is fresh


def adopt(files: Sequence[NetworkFile], changes: dict[str, Any]) -> Adopted:
    """One or both networks of another program, as a run by that program's protocol.

    The averaged generator is the generator. Adam's moments and counts are zero, and a network without a file is drawn
    from the config's seed. The step is what the files tell, or 0.

    Args:
      changes: dotted options of TrainConfig that the files do not tell, {"data": "cifar10"}.
    Raises:
      UserError: a file is no network of a known program, does not fit its own shapes or the changes (it names the
        missing, the extra and the misshapen entries), or the files do not go together.
    """
    found: dict[str, NetworkFile] = {}
    options: dict[str, Any] = {}
    programs: set[str] = set()
    for file in files:
        with _named(file.path):
            program, network = public_programs.recognise(file.arrays)
            own = public_programs.model_options(program, network, file.arrays)
        if network in found:
            raise UserError(f"{found[network].path} and {file.path} are two {network}s; give one of each network")
        clash = [f"{name} {options[name]} and {own[name]}" for name in own if own[name] != options.get(name, own[name])]
        if clash:
            raise UserError(f"{files[0].path} and {file.path} are not of one pair: {', '.join(clash)}")
        programs.add(program)
        found[network] = file
        options |= own
    if len(programs) > 1:
        raise UserError(f"{' and '.join(str(f.path) for f in files)} are of different programs")
    steps = {f.step for f in files if f.step is not None}
    if len(steps) > 1:
        raise UserError(f"{' and '.join(str(f.path) for f in files)} are of different steps: {sorted(steps)}")
    step = max(steps, default=0)
    config = with_protocol(TrainConfig(name=program, data="cifar10"), program)
    if program == "authors" and options["image_size"] > 32:
        config = replace(config, {"model.score_bias": True})  # their larger networks have one
    double = any(a.dtype == np.float64 for f in files for a in f.arrays.values())
    config = replace(config, {"model.dtype": "float64" if double else "float32", "steps": max(step, config.steps)})
    config = replace(config, {f"model.{name}": value for name, value in options.items()} | changes)
    allow_dtype(config.model)
    networks: dict[str, Any] = {n: _read(program, config.model, n, file) for n, file in found.items()}
    state = create_state(config)._replace(step=jnp.asarray(step, jnp.int32), **networks)
    return Adopted(program, config, state._replace(generator_ema=state.generator.params), list(found))


def release(program: str, config: TrainConfig, state: TrainState, *, average: bool) -> dict[str, Flat]:
    """Both networks as another program's own classes load them: network -> arrays by that program's names.

    Args:
      average: the generator with the moving average's weights, else with its own.
    Raises:
      UserError: the program has no such network; each option that stands against it is named.
    """
    m, theirs = config.model, flatten(TrainConfig()) | PROTOCOLS[program]
    theirs["model.architecture"], theirs["model.channels"] = "resnet", 3
    theirs["model.score_bias"] = not (program == "authors" and m.image_size == 32)
    own = flatten(config)
    decisive = ("model.architecture", "model.channels", "model.score_bias", *_FORWARD)
    wrong = [f"{name} is {own[name]}, not {theirs[name]}" for name in decisive if own[name] != theirs[name]]
    if m.image_size not in _SIZES[program]:
        wrong.append(f"model.image_size is {m.image_size}, none of {', '.join(map(str, _SIZES[program]))}")
    if wrong:
        title = public_programs.PROGRAMS[program].title
        raise UserError(f"{title} has no such networks: {'; '.join(wrong)}")
    generator = averaged(state.generator, state.generator_ema) if average else state.generator
    given = {"generator": generator, "discriminator": state.discriminator}
    return {
        network: public_programs.own_spelling(
            program, m, network, public_programs.write(program, m, network, given[network])
        )
        for network in NETWORKS
    }


def _read(program: str, config: ModelConfig, network: str, file: NetworkFile) -> Variables:
    with _named(file.path):
        return jax.tree.map(jnp.asarray, public_programs.read(program, config, network, file.arrays))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts a file's name before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
