"""Converts checkpoints between the frameworks, exact to the bit, and networks of other programs. What IN is decides:

  a run of the PyTorch reference, or its       OUT becomes a workdir that `train` goes on from
  state.pt
  a run in JAX                                 OUT becomes a workdir that `torch` goes on from;
                                               OUT.pt: that checkpoint alone;
                                               with --format: a folder with generator and discriminator for a program
  a network of torch-mimicry (.pth) or of      OUT becomes a workdir that `sample` samples from; optimisers, and a
  the SN-GAN authors' Chainer program (.npz)   network that no file is given of, are fresh

IN is only read. OUT must not exist yet. Files run no code.
"""

from pathlib import Path
from typing import Any

from jax_sngan.commands import cli
from jax_sngan.config.schema import TrainConfig
from jax_sngan.runs.workdir import framework_of, has_checkpoint
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import check_unused, write_json
from jax_sngan.system.invocation import called
from jax_sngan.system.terminal import shown


def main() -> None:
    """Prints what was read, what was written, and how to go on."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("input", metavar="IN", help="a workdir, a .pt file, or one network of another program")
    parser.add_argument("output", metavar="OUT", help="what to make; a name that ends in .pt is one file")
    parser.add_argument("--step", metavar="N|latest|best", help="which checkpoint of a workdir (default latest)")
    parser.add_argument("--pair", metavar="FILE", help="the other network, where IN is one of another program")
    parser.add_argument(
        "--format", choices=("authors", "mimicry"), help="write networks that this program's classes load"
    )
    parser.add_argument(
        "--raw", action="store_true", help="with --format: the generator's own weights, not the average"
    )
    parser.add_output("--json", "write what was done", ".json")
    cli.add_options(parser, TrainConfig, "training: what of a run the files of another program do not tell")
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
            needs = {
                "--step": "a workdir as IN",
                "--format": f"a workdir of {called('train')} as IN",
                "--raw": "--format",
            }
            raise UserError(f"{name} needs {needs[name]}")
    if out.suffix == ".pt" and (framework != "jax" or arguments.format):
        raise UserError(f"OUT would be a folder, got {out}; a .pt is made from a workdir of {called('train')}")

    from jax_sngan.interop import conversion  # jax takes a second to load

    if is_run:
        read = conversion.read_torch_run if framework == "torch" else conversion.read_jax_run
        run, foreign = read(source, arguments.step or "latest"), None
    else:
        run, foreign = conversion.read_file(source, arguments.pair, given)
    if foreign is None and (given or arguments.pair):
        name = "--pair" if arguments.pair else f"--{next(iter(given)).replace('_', '-')}"
        raise UserError(f"{name} needs another program's network as IN; {source} has its whole config")
    if arguments.format:
        done = conversion.write_networks(out, run, arguments.format, average=not arguments.raw)
    elif framework == "jax":
        done = conversion.write_torch(out, run)
    else:
        done = conversion.write_jax_run(out, run)
    told = {"read": str(source), "origin": run.origin, "step": int(run.state.step), "wrote": str(out)} | done
    if arguments.json != "-":
        print(f"read      {shown(source)}: {run.origin}, step {told['step']}")
        print(f"wrote     {shown(out)}")
        for what in ("go_on", "sample"):
            if what in done:
                print(f"{what.replace('_', ' '):9} {done[what]}")
    if arguments.json:
        write_json(arguments.json, told)
