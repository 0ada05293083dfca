"""The command lines, as the commands' own parsers have them."""

import sys
from functools import cache
from unittest import mock

from docs_build.source import ROOT
from jax_sngan.commands.cli import Parser
from jax_sngan.commands.sngan import COMMANDS, load
from jax_sngan.system.invocation import SCRIPTS


class _Reached(BaseException):
    """A command has made its parser; nothing of it runs after that."""


def commands() -> list[str]:
    """Names of the commands, `sngan NAME`."""
    return list(COMMANDS)


@cache
def parser_of(name: str) -> Parser:
    """The parser of a command, by its name or that of its file in scripts/.

    Raises:
      ValueError: there is none, or it reads no command line by cli.Parser.
    """
    made: list[Parser] = []

    def parse(parser: Parser, args: object = None) -> None:
        made.append(parser)
        raise _Reached

    name = next((command for command, script in SCRIPTS.items() if script == name), name)
    if name not in COMMANDS:
        raise ValueError(f"there is no command {name}")
    path = str(ROOT / "scripts" / SCRIPTS[name])
    with mock.patch.object(Parser, "parse", parse), mock.patch.object(sys, "argv", [path]):
        try:
            load(name).main()
        except _Reached:
            return made[0]
    raise ValueError(f"{name} ended without reading a command line")
