"""Whole checkpoints from one program's files to another's: ours, the reference's, and public programs'.

What is the reference's is read and written by its own code (torch_ref/runs/checkpoint.py), which is loaded by name and
only where such a file is met.
"""

import importlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.state import TrainState
from jax_sngan.interop import bare_networks, state_dicts, torch_layout
from jax_sngan.interop.adoption import NetworkFile, adopt, named, release
from jax_sngan.interop.public_programs import PROGRAMS
from jax_sngan.interop.safetensors import read_safetensors
from jax_sngan.models.network import allow_dtype
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.log import lines_up_to
from jax_sngan.runs.selection import choose_step
from jax_sngan.runs.workdir import prepare, sample_command, training_command
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import new_folder, write_whole
from jax_sngan.system.invocation import called, install_command
from jax_sngan.system.npz import read_whole_npz

_WEIGHT_NORM = ("weight_g", "parametrizations.weight.original0")
SUFFIX = {"mimicry": ".pth", "authors": ".npz"}  # of a network's file


class Run(NamedTuple):
    """One checkpoint of a run, from either framework or from another program."""

    config: TrainConfig
    state: TrainState
    metrics: dict[str, float]
    unlogged: list[dict[str, float]]
    log: str  # lines of metrics.jsonl up to it
    origin: str  # for the person
    rollbacks: int = 0  # times that the run went back after a NaN


def read_jax_run(workdir: Path, step: str) -> Run:
    """A checkpoint of a run in JAX."""
    with Checkpoints(workdir) as checkpoints:
        number, config, like, _ = checkpoints.choose(step, needs="conversion to torch")
        state = checkpoints.restore(number, like)
        metrics, unlogged = checkpoints.metrics(number), checkpoints.unlogged(number)
        rollbacks = checkpoints.rollbacks(number)
    return Run(config, state, metrics, unlogged, log_of(workdir, number), f"a run of {called('train')}", rollbacks)


def read_torch_run(workdir: Path, step: str) -> Run:
    """A checkpoint of the reference."""
    checkpoints = torch_checkpoints().Checkpoints(workdir)
    number = choose_step(checkpoints, step)
    run = from_torch(checkpoints.folder / str(number) / "state.pt", checkpoints.restore(number))
    return run._replace(log=log_of(workdir, number))


def read_file(path: Path, pair: str | None, given: dict[str, Any]) -> tuple[Run, str | None]:
    """A lone state.pt, or networks of another program; with that program's name."""
    contents = contents_of(path)
    if isinstance(contents, dict) and {"config", "state"} <= contents.keys():
        return from_torch(path, torch_checkpoints().from_contents(path, contents)), None
    files = network_files(path, contents)
    if pair:
        files += network_files(Path(pair), contents_of(Path(pair)))
    program, config, state, networks = adopt(files, given)
    fresh = [*({"generator", "discriminator"} - set(networks)), "optimisers"]
    title = PROGRAMS[program].title if program in PROGRAMS else bare_networks.TITLE
    notes = "".join(f" ({'; '.join(file.notes)})" for file in files if file.notes)
    origin = f"{' and '.join(networks)} of {title}{notes}, fresh {' and '.join(fresh)}"
    return Run(config, state, {}, [], "", origin), program


def contents_of(path: Path) -> Any:
    """What a file holds: arrays by name of an .npz or .safetensors, and of torch's files whatever is in them."""
    if is_npz(path):
        return read_whole_npz(path)
    return read_safetensors(path) if path.suffix == ".safetensors" else torch_checkpoints().read_contents(path)


def network_files(path: Path, contents: Any) -> list[NetworkFile]:
    """The networks of a Chainer npz, of torch-mimicry's checkpoint, or of anybody's state dict of their layers.

    Raises:
      UserError: there is no state dict in it, or not of dense arrays of numbers.
    """
    step = contents.get("global_step") if isinstance(contents, dict) and "model_state_dict" in contents else None
    if step is not None and not (type(step) is int and 0 <= step < 2**31):
        raise UserError(f"{path}: global_step must be a number of steps, got {step!r}")
    files = []
    with named(path):
        for found in state_dicts.networks(contents):
            plain = all(isinstance(a, np.ndarray) for a in found.arrays.values())
            arrays = found.arrays if plain else torch_checkpoints().arrays(path, found.arrays)
            short, prefixes = state_dicts.without_prefixes(arrays)
            numbers = {short[n]: state_dicts.as_numpy(n, a) for n, a in arrays.items()}
            notes = found.notes(prefixes)
            notes += ["weight norm multiplied out"] if any(n.endswith(_WEIGHT_NORM) for n in arrays) else []
            files.append(NetworkFile(path, numbers, step, tuple(notes)))
    return files


def is_npz(path: Path) -> bool:
    """Whether a file is a zip of .npy files; torch's are zips of others."""
    if not path.is_file():
        raise UserError(f"no file {path}")
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def from_torch(path: Path, checkpoint: Any) -> Run:
    """A checkpoint of the reference in our layouts."""
    allow_dtype(checkpoint.config.model)
    try:
        state = torch_layout.from_torch(checkpoint.config, checkpoint.state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if state.step < 0:
        raise UserError(f"{path}: step must be at least 0, got {state.step}")
    state = jax.tree.map(jnp.asarray, state)
    c = checkpoint
    return Run(c.config, state, c.metrics, c.unlogged, "", f"a run of {called('torch')}", c.rollbacks)


def write_jax_run(out: Path, run: Run) -> dict[str, Any]:
    """A workdir that training in JAX goes on from."""
    go_on = training_command(run.config, out)
    sampling = sample_command(out)
    with new_folder(out) as folder:
        prepare(out, run.config, sampling, resuming=go_on, folder=folder)
        with Checkpoints(folder, keep=1) as checkpoints:
            checkpoints.save(run.state, run.config, run.metrics, run.unlogged, rollbacks=run.rollbacks)
        write_log(folder, run.log)
    return {"go_on": go_on, "sample": sampling}


def write_torch(out: Path, run: Run) -> dict[str, Any]:
    """A workdir that the reference goes on from, or one .pt file."""
    module = torch_checkpoints()
    arrays = torch_layout.to_torch(run.config, run.state)
    checkpoint = module.Checkpoint(run.config, run.metrics, run.unlogged, arrays, run.rollbacks)
    if out.suffix == ".pt":
        write_whole(out, lambda path: module.save(path, checkpoint))
        return {}
    go_on = training_command(run.config, out, "torch")
    with new_folder(out) as folder:
        prepare(out, run.config, "", resuming=go_on, folder=folder)
        module.Checkpoints(folder).save(checkpoint)
        write_log(folder, run.log)
    return {"go_on": go_on}


def write_networks(out: Path, run: Run, program: str, *, average: bool) -> dict[str, Any]:
    """A folder with both networks as a program's own classes load them."""
    networks = release(program, run.config, run.state, average=average)
    files = {network: f"{network}{SUFFIX[program]}" for network in networks}
    with new_folder(out) as folder:
        for network, arrays in networks.items():
            if program == "authors":
                np.savez(folder / files[network], **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for options
            else:
                torch_checkpoints().save_network(folder / files[network], arrays, int(run.state.step))
    return {"files": [str(out / name) for name in files.values()]}


def log_of(workdir: Path, step: int) -> str:
    """The lines of a run's metrics.jsonl up to a step."""
    path = workdir / "metrics.jsonl"
    return lines_up_to(path, step) if path.exists() else ""


def write_log(folder: Path, lines: str) -> None:
    """Those lines as the metrics.jsonl of the new run, which its trainer goes on with."""
    if lines:
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")


def torch_checkpoints() -> Any:
    """torch_ref.runs.checkpoint, by name: no file of this package imports torch, and a Chainer npz needs none.

    Raises:
      UserError: torch is not installed.
    """
    try:
        return importlib.import_module("torch_ref.runs.checkpoint")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torch_ref"):
            raise
        raise UserError(f"this needs PyTorch, which the extra `parity` brings: {install_command('parity')}") from error
