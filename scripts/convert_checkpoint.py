"""Converts checkpoints between the frameworks, exact to the bit, and networks of other programs. What IN is decides:

  a run of train_torch.py, or its state.pt     OUT becomes a workdir that train_jax.py goes on from
  a run of train_jax.py                        OUT becomes a workdir that train_torch.py goes on from;
                                               OUT.pt: that checkpoint alone;
                                               with --format: a folder with generator and discriminator for a program
  a network of torch-mimicry (.pth) or of      OUT becomes a workdir that sample.py samples from; optimisers, and a
  the SN-GAN authors' Chainer program (.npz)   network that no file is given of, are fresh

IN is only read. OUT must not exist yet. Files run no code.
"""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jax_sngan.commands import cli
from jax_sngan.config.schema import TrainConfig
from jax_sngan.runs.log import lines_up_to
from jax_sngan.runs.workdir import framework_of, has_checkpoint, prepare, sample_command
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import check_unused, new_folder, write_json, write_whole
from jax_sngan.system.npz import read_whole_npz
from jax_sngan.system.terminal import shown

if TYPE_CHECKING:
    from jax_sngan.core.state import TrainState
    from jax_sngan.interop.adoption import NetworkFile
    from torch_ref.runs import checkpoint as reference

SUFFIX = {"mimicry": ".pth", "authors": ".npz"}


class Run(NamedTuple):
    """One checkpoint of a run, from either framework or from another program."""

    config: TrainConfig
    state: "TrainState"
    metrics: dict[str, float]
    unlogged: list[dict[str, float]]
    log: str  # lines of metrics.jsonl up to it
    origin: str  # for the person
    rollbacks: int = 0  # times that the run went back after a NaN


def main() -> None:
    """Prints what was read, what was written, and how to go on."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("input", metavar="IN", help="a workdir, a .pt file, or one network of another program")
    parser.add_argument("output", metavar="OUT", help="what to make; a name that ends in .pt is one file")
    parser.add_argument("--step", metavar="N|latest|best", help="which checkpoint of a workdir (default latest)")
    parser.add_argument("--pair", metavar="FILE", help="the other network, where IN is one of another program")
    parser.add_argument("--format", choices=sorted(SUFFIX), help="write networks that this program's classes load")
    parser.add_argument(
        "--raw", action="store_true", help="with --format: the generator's own weights, not the average"
    )
    parser.add_output("--json", "write what was done", ".json")
    cli.add_options(parser, TrainConfig, "where IN is another program's: what its files do not tell of the run")
    arguments = parser.parse()
    given = cli.given(arguments, TrainConfig)
    source, out = Path(arguments.input), Path(arguments.output)
    is_run = source.is_dir()
    if not source.exists():
        raise UserError(f"no {source}; IN is a workdir, a .pt file, or a network of another program")
    if is_run and not has_checkpoint(source):
        raise UserError(f"no checkpoint in {source}; a workdir holds checkpoints/STEP")
    framework = framework_of(source) if is_run else None
    check_unused(out)
    allowed: dict[str, Any] = {"--step": is_run, "--format": framework == "jax", "--raw": bool(arguments.format)}
    asked = {"--step": arguments.step, "--format": arguments.format, "--raw": arguments.raw}
    for name, value in asked.items():
        if value and not allowed[name]:
            needs = {"--step": "a workdir as IN", "--format": "a workdir of train_jax.py as IN", "--raw": "--format"}
            raise UserError(f"{name} needs {needs[name]}")
    if out.suffix == ".pt" and (framework != "jax" or arguments.format):
        raise UserError(f"OUT would be a folder, got {out}; a .pt is made from a workdir of train_jax.py")

    if is_run:
        read = read_torch_run if framework == "torch" else read_jax_run
        run, foreign = read(source, arguments.step or "latest"), None
    else:
        run, foreign = read_file(source, arguments.pair, given)
    if foreign is None and (given or arguments.pair):
        name = "--pair" if arguments.pair else f"--{next(iter(given)).replace('_', '-')}"
        raise UserError(f"{name} needs another program's network as IN; {source} has its whole config")
    if arguments.format:
        done = write_networks(out, run, arguments.format, average=not arguments.raw)
    elif framework == "jax":
        done = write_torch(out, run)
    else:
        done = write_jax_run(out, run)
    told = {"read": str(source), "origin": run.origin, "step": int(run.state.step), "wrote": str(out)} | done
    if arguments.json != "-":
        print(f"read      {shown(source)}: {run.origin}, step {told['step']}")
        print(f"wrote     {shown(out)}")
        for what in ("go_on", "sample"):
            if what in done:
                print(f"{what.replace('_', ' '):9} {done[what]}")
    if arguments.json:
        write_json(arguments.json, told)


def read_jax_run(workdir: Path, step: str) -> Run:
    """A checkpoint of train_jax.py."""
    from jax_sngan.runs.checkpoint import Checkpoints

    with Checkpoints(workdir) as checkpoints:
        number, config, like, _ = checkpoints.choose(step, needs="conversion to torch")
        state = checkpoints.restore(number, like)
        metrics, unlogged = checkpoints.metrics(number), checkpoints.unlogged(number)
        rollbacks = checkpoints.rollbacks(number)
    return Run(config, state, metrics, unlogged, log_of(workdir, number), "a run of train_jax.py", rollbacks)


def read_torch_run(workdir: Path, step: str) -> Run:
    """A checkpoint of train_torch.py."""
    from jax_sngan.runs.selection import choose_step

    checkpoints = torch_checkpoints().Checkpoints(workdir)
    number = choose_step(checkpoints, step)
    run = from_torch(checkpoints.folder / str(number) / "state.pt", checkpoints.restore(number))
    return run._replace(log=log_of(workdir, number))


def read_file(path: Path, pair: str | None, given: dict[str, Any]) -> tuple[Run, str | None]:
    """A lone state.pt, or networks of another program; with that program's name."""
    from jax_sngan.interop.adoption import adopt
    from jax_sngan.interop.public_programs import PROGRAMS

    contents = None if is_npz(path) else torch_checkpoints().read_contents(path)
    if isinstance(contents, dict) and {"config", "state"} <= contents.keys():
        return from_torch(path, torch_checkpoints().from_contents(path, contents)), None
    files = [network_file(path, contents)]
    if pair:
        other = Path(pair)
        files.append(network_file(other, None if is_npz(other) else torch_checkpoints().read_contents(other)))
    program, config, state, networks = adopt(files, given)
    fresh = [*({"generator", "discriminator"} - set(networks)), "optimisers"]
    origin = f"{' and '.join(networks)} of {PROGRAMS[program].title}, fresh {' and '.join(fresh)}"
    return Run(config, state, {}, [], "", origin), program


def network_file(path: Path, contents: Any) -> "NetworkFile":
    """A Chainer npz, torch-mimicry's checkpoint, or a bare state dict; contents: what torch found in the file."""
    from jax_sngan.interop.adoption import NetworkFile

    if contents is None:
        return NetworkFile(path, read_whole_npz(path), None)
    step = None
    if isinstance(contents, dict) and "model_state_dict" in contents:
        step, contents = contents.get("global_step"), contents["model_state_dict"]
        if step is not None and not (type(step) is int and 0 <= step < 2**31):
            raise UserError(f"{path}: global_step must be a number of steps, got {step!r}")
    return NetworkFile(path, torch_checkpoints().arrays(path, contents), step)


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


def from_torch(path: Path, checkpoint: "reference.Checkpoint") -> Run:
    """A checkpoint of the reference in our layouts."""
    import jax
    import jax.numpy as jnp

    from jax_sngan.interop import torch_layout
    from jax_sngan.models.network import allow_dtype

    allow_dtype(checkpoint.config.model)
    try:
        state = torch_layout.from_torch(checkpoint.config, checkpoint.state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if state.step < 0:
        raise UserError(f"{path}: step must be at least 0, got {state.step}")
    state = jax.tree.map(jnp.asarray, state)
    c = checkpoint
    return Run(c.config, state, c.metrics, c.unlogged, "", "a run of train_torch.py", c.rollbacks)


def write_jax_run(out: Path, run: Run) -> dict[str, Any]:
    """A workdir for train_jax.py and sample.py."""
    from jax_sngan.runs.checkpoint import Checkpoints

    go_on = cli.training_command("train_jax.py", run.config, out)
    sampling = sample_command(out)
    with new_folder(out) as folder:
        prepare(out, run.config, sampling, resuming=go_on, folder=folder)
        with Checkpoints(folder, keep=1) as checkpoints:
            checkpoints.save(run.state, run.config, run.metrics, run.unlogged, rollbacks=run.rollbacks)
        write_log(folder, run.log)
    return {"go_on": go_on, "sample": sampling}


def write_torch(out: Path, run: Run) -> dict[str, Any]:
    """A workdir for train_torch.py, or one .pt file."""

    from jax_sngan.interop import torch_layout

    module = torch_checkpoints()
    arrays = torch_layout.to_torch(run.config, run.state)
    checkpoint = module.Checkpoint(run.config, run.metrics, run.unlogged, arrays, run.rollbacks)
    if out.suffix == ".pt":
        write_whole(out, lambda path: module.save(path, checkpoint))
        return {}
    go_on = cli.training_command("train_torch.py", run.config, out)
    with new_folder(out) as folder:
        prepare(out, run.config, "", resuming=go_on, folder=folder)
        module.Checkpoints(folder).save(checkpoint)
        write_log(folder, run.log)
    return {"go_on": go_on}


def write_networks(out: Path, run: Run, program: str, *, average: bool) -> dict[str, Any]:
    """A folder with both networks as a program's own classes load them."""
    from jax_sngan.interop.adoption import release

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
    """torch_ref.runs.checkpoint; the default install has no torch, and a Chainer npz needs none.

    Raises:
      UserError: torch is not installed.
    """
    try:
        from torch_ref.runs import checkpoint
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError("this needs PyTorch, which the extra `parity` brings: pip install -e '.[parity]'") from error
    return checkpoint


if __name__ == "__main__":
    cli.run(main)
