"""How this process was started, and how a person types the program's other commands in the same way.

`sngan sample …` and `python -m jax_sngan sample …` are of the installed package, `python scripts/sample.py …` of a
checkout. From a notebook or a program of the user's own the commands are named as `sngan`, which is installed with the
package. Knows no jax.
"""

import sys
from pathlib import Path

from jax_sngan.system.terminal import command

# The file in scripts/ that is the same as `sngan NAME`.
SCRIPTS = {
    "train": "train_jax.py",
    "torch": "train_torch.py",
    "sample": "sample.py",
    "evaluate": "evaluate.py",
    "export": "export.py",
    "certify": "certify.py",
    "compare": "compare_gans.py",
    "search": "search.py",
    "replay": "replay.py",
    "convert": "convert_checkpoint.py",
    "parity": "parity_report.py",
    "benchmark": "benchmark.py",
    "compile": "compile_for.py",
    "compile-table": "compile_table.py",
    "accelerator-check": "accelerator_check.py",
    "report": "report.py",
    "plot-runs": "plot_runs.py",
    "plot-sample-size": "plot_sample_size.py",
    "plot-lag": "plot_lag.py",
    "make-pretrained": "make_pretrained.py",
    "make-fashion10k": "make_fashion10k.py",
}
_PACKAGE = Path(__file__).resolve().parents[1]


def _script() -> Path | None:
    """The file of scripts/ that runs, as it was typed."""
    path = Path(sys.argv[0])
    return path if path.name in SCRIPTS.values() and path.absolute().parent.name == "scripts" else None


def _entry() -> list[str] | None:
    """The words before a command's name, where this is `sngan` or `python -m jax_sngan`."""
    path = Path(sys.argv[0])
    if path.stem == "sngan":
        return ["sngan"]
    return ["python", "-m", "jax_sngan"] if (path.parent.name, path.name) == (_PACKAGE.name, "__main__.py") else None


def program() -> str:
    """The name that an error's line begins with: `sample.py`, `sngan sample`, or what runs otherwise."""
    entry = _entry()
    return Path(sys.argv[0]).name if entry is None else " ".join([*entry, *(w for w in sys.argv[1:2] if w in SCRIPTS)])


def words() -> list[str]:
    """The words behind the command's name."""
    return sys.argv[1:] if _entry() is None else sys.argv[2:]


def this_command() -> str:
    """The command that started this process, as a person types it."""
    entry = _entry()
    return command("python", *sys.argv) if entry is None else command(*entry, *sys.argv[1:])


def own_command(name: str, *words: object) -> str:
    """Another of the program's commands, typed as this one was.

    Args:
      name: as in SCRIPTS.
      words: what stands behind it.
    """
    if (script := _script()) is not None:
        return command("python", script.with_name(SCRIPTS[name]), *words)
    return command(*(_entry() or ["sngan"]), name, *words)


def called(name: str) -> str:
    """What a command is called where this one was started: `train_torch.py`, or `sngan torch`."""
    return SCRIPTS[name] if _script() is not None else " ".join([*(_entry() or ["sngan"]), name])


def install_command(extra: str) -> str:
    """How an extra of this package is installed: from the checkout that runs, or the package index."""
    what = f'-e ".[{extra}]"' if checkout() else f'"jax-sngan[{extra}]"'  # quotes that every shell knows
    return f"pip install {what}"


def checkout() -> Path | None:
    """The folder of the source that this package runs from; None where a wheel of it is installed."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "scripts").is_dir() else None
