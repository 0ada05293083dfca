"""Command lines made from the config dataclasses; a user's mistake is one line on stderr and exit code 2.

argparse, since tyro (DESIGN's plan) answers a wrong option with a box of many lines.
"""

import argparse
import dataclasses
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from jax_sngan.commands.help import HelpParser
from jax_sngan.config import other_names
from jax_sngan.config.presets import names, preset
from jax_sngan.config.reference_programs import PROTOCOLS, with_protocol
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.runs.workdir import run_folder
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import check_output, write_json
from jax_sngan.system.invocation import own_command, program, words
from jax_sngan.system.nearest import nearest, suggestion
from jax_sngan.system.terminal import shown
from jax_sngan.training.loop import ALARM, Result, TrainingDiverged
from jax_sngan.training.messages import describe_end

STOPPED_BY_ALARM = 3  # the exit code of a run that --stop-on ended


class Parser(HelpParser):
    """argparse with one-line errors; options may be written with - or _; none may be shortened."""

    def error(self, message: str) -> NoReturn:
        """Prints `prog: message` and exits with 2."""
        for kind, wanted in (("int|N", "a whole number"), ("float|X", "a number")):
            message = re.sub(rf"argument (\S+): invalid (?:{kind}) value: ", rf"\1 must be {wanted}, got ", message)
        if choice := re.match(r"argument \S+: invalid choice: '(.*)' \(choose from (.*)\)", message):
            near = suggestion(nearest(choice[1], choice[2].replace("'", "").split(", ")))
            message += f"; {near}" if near else ""
        self.exit(2, f"{self.prog}: {shown(message)}\n")

    def add_step(self) -> None:
        """--step, of what reads a run's checkpoint."""
        help = "which checkpoint (default latest)"
        self.add_argument("--step", default="latest", metavar="N|latest|best", help=help)

    def add_gan(self, does: str) -> None:
        """--gan, of what trains or reads networks of the user's own (commands/own_gan.py)."""
        self.add_argument("--gan", metavar="MODULE:NAME", help=f"{does}: your function NAME(config) -> jax_sngan.GAN")

    def add_logger(self) -> None:
        """--logger, of what trains (commands/own_loggers.py)."""
        self.add_argument(
            "--logger",
            action="append",
            default=[],
            metavar="wandb|MODULE:NAME",
            help="tell numbers and pictures to Weights & Biases too, or to the object that your function NAME(config, "
            "workdir) returns (docs/watching.md); may be repeated, beside metrics.jsonl and TensorBoard's files",
        )

    def add_output(self, option: str, what: str, *endings: str, default: str | None = None) -> None:
        """An option that names a file to write, refused at once where it could not be written (files.check_output).

        Args:
          what: its help. Of --json, - is standard output.
          endings: that the file's name must have; .json is a habit alone.
          default: where the option is not given; checked too.
        """
        json = endings == (".json",)

        def read(text: str) -> str:
            if not (json and text == "-"):
                try:
                    check_output(Path(text), *endings, always=not json)
                except UserError as error:
                    raise argparse.ArgumentTypeError(str(error)) from error
            return text

        metavar = "FILE" if json else f"FILE{endings[0]}"
        help = f"{what}; - is standard output" if json else what
        self.add_argument(option, metavar=metavar, type=read, default=default, help=help)

    def parse(self, args: Sequence[str] | None = None) -> argparse.Namespace:
        """The arguments; an unknown option is answered with the one it resembles."""
        given = [_dashed(a) for a in (words() if args is None else args)]
        parsed, unknown = self.parse_known_args(given)
        if unknown:
            name = unknown[0].split("=")[0]
            known = [o for action in self._actions for o in action.option_strings]
            known += ["--help presets"] * self.presets
            hint = "--help lists what there is"
            if name.startswith("-"):
                hint = suggestion(nearest(name, known, other_names.OPTIONS)) or hint
            self.error(f"unknown {'option' if name.startswith('-') else 'argument'} {name}; {hint}")
        return parsed


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def add_options(parser: Parser, kind: Any, title: str, prefix: str = "", only: Sequence[str] | None = None) -> None:
    """One option for each field of a config dataclass, nested ones as --outer.inner; none has a default of its own.

    title: of the section; its first word, up to a colon, is its name.
    only: the fields that a command has a use for; default: all.
    """
    group = parser.add_argument_group(title)
    section = parser.sections.setdefault(title.partition(":")[0], [])
    hints = get_type_hints(kind)
    nested = []
    for f in dataclasses.fields(kind):
        hint = hints[f.name]
        if only is not None and f.name not in only:
            continue
        if dataclasses.is_dataclass(hint):
            nested.append((f.name, hint))
            continue
        name = f"{prefix}{f.name}"
        choices = get_args(hint) if get_origin(hint) is Literal else None
        switch: dict[str, Any] = {"nargs": "?", "const": True} if hint is bool else {}  # alone it says true
        action = group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            choices=choices,
            type=str if choices else _reader(hint),
            metavar=None if choices else _metavar(hint),
            help=f.metadata["help"].replace("%", "%%"),
            **switch,
        )
        section.append(action)
    for name, hint in nested:
        add_options(parser, hint, f"{prefix}{name}", f"{prefix}{name}.")


def given(arguments: argparse.Namespace, kind: Any, prefix: str = "") -> dict[str, Any]:
    """The options of a config dataclass that the command line names: dotted name -> value."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for f in dataclasses.fields(kind):
        name = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(hints[f.name]):
            found |= given(arguments, hints[f.name], f"{name}.")
        elif hasattr(arguments, name):
            found[name] = getattr(arguments, name)
    return found


def training_arguments(description: str) -> tuple[TrainConfig, RunConfig, argparse.Namespace]:
    """The command line of a training script: [PRESET] [--protocol NAME] and every option of both configs.

    Returns:
      (config, run, all arguments as parsed).
    Raises:
      UserError: a value that an option does not allow.
    """
    parser = Parser(description=description, presets=True, examples=_examples())
    help = f"the options to begin with: {', '.join(names())} [fashion]"
    parser.add_argument("preset", nargs="?", default="fashion", metavar="PRESET", help=help)
    parser.add_argument(
        "--protocol", choices=sorted(PROTOCOLS), help="the update order, forms and layers of a public program"
    )
    parser.add_gan("train your own networks, loss or optimisers")
    parser.add_logger()
    parser.add_argument("--dry-run", action="store_true", help="print config, parameters and FLOPs; train nothing")
    parser.add_output("--json", "write the result there", ".json")
    add_options(parser, RunConfig, "run: where and how often results are written")
    add_options(parser, TrainConfig, "training: all that decides the numbers; defaults are the preset's")
    arguments = parser.parse()
    config = preset(arguments.preset)
    if arguments.protocol:
        config = with_protocol(config, arguments.protocol)
    config = replace(config, given(arguments, TrainConfig))
    return config, replace(RunConfig(), given(arguments, RunConfig)), arguments


def _examples() -> list[str]:
    """Command lines of the framework that is asked."""
    name = program()
    name = "torch" if name.endswith(("torch", "torch.py")) else "train"
    photos = ("--data=photos/", "--model.image-size=64", "--model.channels=3", "--workdir=runs/photos")
    return [
        f"{own_command(name)}    (10,000 garments that ship with the package: 5 minutes on 2 cores)",
        own_command(name, "wgan_gp", "--steps=1000", "--seed=1", "--workdir=runs/critic"),
        own_command(name, *photos),
    ]


def run_training(
    config: TrainConfig,
    run: RunConfig,
    arguments: argparse.Namespace,
    describe: Callable[[TrainConfig], dict[str, Any]],
    train: Callable[[TrainConfig, RunConfig], Result],
) -> int:
    """Does what training_arguments asked for, by one framework's functions; returns the exit code."""
    if arguments.dry_run:
        told = describe(config)
        if arguments.json != "-":
            write_json("-", told)
    else:
        started = time.monotonic()
        try:
            result = train(config, run)
        except TrainingDiverged as error:
            print(f"{program()}: {shown(error)}", file=sys.stderr)
            return 1
        if result.writes:
            describe_end(result, config, run_folder(config, run), started)
        if result.stopped:
            return STOPPED_BY_ALARM if result.stopped == ALARM else 128 + result.stopped
        if not result.writes:
            return 0
        told = {"step": result.step, "metrics": result.metrics, "picture": str(result.picture)}
    if arguments.json:
        write_json(arguments.json, told)
    return 0


def _reader(hint: Any) -> Callable[[str], Any]:
    kinds = [k for k in (get_args(hint) or (hint,)) if k is not type(None)]
    kind = kinds[0]

    def read(text: str) -> Any:
        if type(None) in get_args(hint) and text.lower() == "none":
            return None
        if kind is bool:
            if text.lower() not in ("true", "false"):
                raise ValueError(text)
            return text.lower() == "true"
        return kind(text)

    read.__name__ = _metavar(hint)  # argparse names it in `invalid X value`
    return read


def _metavar(hint: Any) -> str:
    kinds = [k for k in (get_args(hint) or (hint,)) if k is not type(None)]
    return {int: "N", float: "X", bool: "true|false", str: "TEXT"}[kinds[0]]
