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
from jax_sngan.interop import bare_networks, public_programs
from jax_sngan.interop.torch_layout import NETWORKS, Flat
from jax_sngan.models.network import Variables, allow_dtype
from jax_sngan.runs.sample import averaged
from jax_sngan.system.errors import UserError

# What decides the numbers of a forward pass and is not told by shapes. The guards and the start of u and v matter in
# training alone; a file says nothing of them either.
_FORWARD = ("model.upsampling", "model.shortcut_input", "model.batch_norm_eps", "model.spectral_norm.order")
BARE = "torch_ref"  # the name of a run from the reference's bare state dicts
_SIZES = {"mimicry": (32, 48, 64, 128), "authors": (32, 64, 128)}


class NetworkFile(NamedTuple):
    """One network as its program saved it, without what stood before all of its names."""

    path: Path
    arrays: Flat
    step: int | None  # training steps done, where the file tells
    notes: tuple[str, ...] = ()  # where in the file it was found, and what was taken off its names


class Adopted(NamedTuple):
    """A run that goes on from another program's networks."""

    program: str
    config: TrainConfig
    state: TrainState
    networks: list[str]  # those that came from files; the rest of the state is fresh


class Networks(NamedTuple):
    """What files hold, and the config that they and their program make."""

    program: str
    config: TrainConfig
    networks: dict[str, Variables]
    step: int


def adopt(files: Sequence[NetworkFile], changes: dict[str, Any]) -> Adopted:
    """One or both networks of another program, as a run by that program's protocol.

    The averaged generator is the generator. Adam's moments and counts are zero, and a network without a file is drawn
    from the config's seed. The step is what the files tell, or 0.

    Args:
      changes: dotted options of TrainConfig that the files do not tell, {"data": "cifar10"}.
    Raises:
      UserError: as networks_of.
    """
    program, config, networks, step = networks_of(files, changes)
    given: dict[str, Any] = dict(networks)
    state = create_state(config)._replace(step=jnp.asarray(step, jnp.int32), **given)
    return Adopted(program, config, state._replace(generator_ema=state.generator.params), list(networks))


def networks_of(files: Sequence[NetworkFile], changes: dict[str, Any]) -> Networks:
    """The networks of files alone; what of them is in no file is not made.

    Args:
      changes: dotted options of TrainConfig that the files do not tell, {"data": "cifar10"}.
    Raises:
      UserError: a file is no network of a known program, does not fit its own shapes or the changes (it names the
        missing, the extra and the misshapen entries), or the files do not go together.
    """
    found: dict[str, NetworkFile] = {}
    options: dict[str, Any] = {}
    programs: set[str] = set()
    normed: dict[str, bool] = {}
    for file in files:
        with named(file.path):
            program, network, own = _recognised(file.arrays)
            normed[network] = bool(_vectors(file)) or (program, network) == ("authors", "discriminator")
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
    if "image_size" not in options | {n.removeprefix("model."): 0 for n in changes}:
        raise UserError(f"{files[0].path}: {bare_networks.UNTOLD}: give the generator as --pair, or --model.image-size")
    data = {1: "fashion", 2: "grid", 3: "cifar10"}[options.get("channels", 3)]
    config = TrainConfig(name=program, data=data)
    config = with_protocol(config, program) if program in PROTOCOLS else config
    if program == "authors" and options["image_size"] > 32:
        config = replace(config, {"model.score_bias": True})  # their larger networks have one
    double = any(a.dtype == np.float64 for f in files for a in f.arrays.values())
    config = replace(config, {"model.dtype": "float64" if double else "float32", "steps": max(step, config.steps)})
    changes = {f"model.{name}": value for name, value in (options | _spectral(files, normed)).items()} | changes
    config = replace(config, changes)
    allow_dtype(config.model)
    networks = {n: _read(program, config.model, n, file) for n, file in found.items()}
    return Networks(program, config, networks, step)


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


def _recognised(arrays: Flat) -> tuple[str, str, dict[str, Any]]:
    """(program, network, what its arrays say of the ModelConfig)."""
    if bare := bare_networks.recognise(arrays):
        return BARE, bare, bare_networks.model_options(bare, arrays)
    program, network = public_programs.recognise(arrays)
    return program, network, public_programs.model_options(program, network, arrays)


def _vectors(file: NetworkFile) -> list[str]:
    """The names of all u."""
    return [name for name in file.arrays if name.rpartition(".")[2] in ("weight_u", "sn_u", "_u")]


def _spectral(files: Sequence[NetworkFile], normed: dict[str, bool]) -> dict[str, Any]:
    """The options of the spectral norm that the files tell, where it is another than the program's own.

    Raises:
      UserError: the generator alone has it.
    """
    found: dict[str, Any] = {}
    if any(name.endswith("._u") for f in files for name in _vectors(f)):
        # torch's parametrization renews u first, and iterates 15 times when a layer is made.
        found |= {"spectral_norm.order": "u_first", "spectral_norm.warmup": 15}
    if normed.get("generator") and not normed.get("discriminator", True):
        raise UserError(
            "the generator has a spectral norm and the discriminator none; a config has it in D, both or none"
        )
    if normed.get("generator"):
        found["spectral_norm.networks"] = "both"
    elif not normed.get("discriminator", True):
        found["spectral_norm.networks"] = "none"
    return found


def _read(program: str, config: ModelConfig, network: str, file: NetworkFile) -> Variables:
    with named(file.path):
        if program == BARE:
            return jax.tree.map(jnp.asarray, bare_networks.read(config, network, file.arrays))
        return jax.tree.map(jnp.asarray, public_programs.read(program, config, network, file.arrays))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts a file's name before what is wrong with it."""
    try:
        yield
    except UserError as error:
        told = str(error)
        raise UserError(told if told.startswith(str(path)) else f"{path}: {told}") from error
