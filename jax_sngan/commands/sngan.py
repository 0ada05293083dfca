"""The command `sngan`: what each of its commands does, and where it is. A file in scripts/ runs one of them."""

import importlib
import sys
from typing import Any, NoReturn

from jax_sngan import __version__
from jax_sngan.commands.process import run as run_main
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import checkout, install_command, program
from jax_sngan.system.nearest import nearest, suggestion
from jax_sngan.system.terminal import shown

COMMANDS = {
    "train": "train a preset; without arguments `fashion`, on images that ship with the package",
    "torch": "the same run by the PyTorch reference",
    "sample": "images from a run: a grid, an npz, an interpolation",
    "evaluate": "score a run, or a folder or file of images; test two against each other",
    "export": "a run's generator as StableHLO, ONNX or a web page",
    "certify": "how steep a run's discriminator is, bounded from both sides",
    "compare": "train the GAN family side by side, and tell of it on one page",
    "search": "search settings that give better pictures at the same cost",
    "replay": "replay a recorded training trajectory of a public program",
    "convert": "checkpoints between JAX, PyTorch and public programs",
    "parity": "measure JAX against PyTorch, from one operation to a whole training",
    "benchmark": "step time and memory beside PyTorch's",
    "compile": "compile a step for a TPU or GPU that is not here: does it fit, what does it cost",
    "compile-table": "that for several presets and devices, as a table",
    "accelerator-check": "try it all on a GPU or TPU, in 10 minutes",
    "report": "one page that tells of a run, or of several side by side",
    "plot-runs": "learning curves of runs, seeds as a band",
    "plot-sample-size": "how a Frechet distance depends on the number of images",
    "plot-lag": "how far sigma lags behind the singular value, over runs",
    "make-pretrained": "pack a run's generator as the package ships it",
    "make-fashion10k": "choose the images of `fashion` again, or verify them",
}
# By name alone: this package imports neither, and both need PyTorch.
_ELSEWHERE = {"torch": "torch_ref.commands.train", "parity": "parity_tests.command"}
# What people type for a command.
_ELSEWHERE_CALLED = {
    **dict.fromkeys(("generate", "images", "draw"), ("sample",)),
    **dict.fromkeys(("fit", "run", "resume"), ("train",)),
    **dict.fromkeys(("eval", "score", "fid", "test", "metrics"), ("evaluate",)),
    **dict.fromkeys(("plot", "curves"), ("plot-runs", "plot-sample-size")),
    **dict.fromkeys(("html", "page", "summary", "dashboard"), ("report",)),
    "pytorch": ("torch",),
}


def main() -> NoReturn:
    """Runs the command that sys.argv names; without one, says which there are."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        run(name)
    run_main(lambda: _tell(name))


def _tell(name: str) -> None:
    if name in ("-h", "--help", "help"):
        print(listing(), flush=True)
    elif name == "--version":
        print(f"jax-sngan {__version__}", flush=True)
    else:
        hint = suggestion(nearest(name, COMMANDS, _ELSEWHERE_CALLED)) or f"there are: {', '.join(COMMANDS)}"
        raise UserError(f"unknown command {shown(name)}; {hint}")


def listing() -> str:
    """A line a command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {does}" for name, does in COMMANDS.items()]
    head = f"usage: {program()} COMMAND …     {program()} COMMAND --help says what it takes\n"
    return "\n".join([head, *lines])


def run(name: str) -> NoReturn:
    """Runs a command of the table, and ends the process as commands/process.py says."""
    run_main(lambda: _run(name))


def _run(name: str) -> int | None:
    module = load(name)
    try:
        code: int | None = module.main()
    except ModuleNotFoundError as error:  # where a command loads what computes when its line is read
        _tell_lacking(error)
        raise
    return code


def load(name: str) -> Any:
    """The module of a command; its `main` reads the command's line.

    Raises:
      UserError: it is of a package that is not installed.
    """
    if name == "parity" and (root := checkout()) is not None:
        sys.path.append(str(root))  # parity_tests is no part of what is installed
    try:
        return importlib.import_module(_ELSEWHERE.get(name, f"jax_sngan.commands.{name.replace('-', '_')}"))
    except ModuleNotFoundError as error:
        _tell_lacking(error)
        raise


def _tell_lacking(error: ModuleNotFoundError) -> None:
    """Says of a module that is not there what brings it; passes where that is not known.

    Raises:
      UserError: it is known.
    """
    missing = (error.name or "").partition(".")[0]
    if missing == "parity_tests":
        raise UserError(
            "this needs parity_tests/, which is in the source and not in the wheel: run it there, "
            'after pip install -e ".[dev]"'
        ) from error
    if missing in ("torch", "torch_ref"):
        raise UserError(f"this needs {missing}: {install_command('parity')}") from error
