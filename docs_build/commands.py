"""The scripts' command lines, as their own parsers have them."""

import runpy
import sys
from functools import cache
from unittest import mock

from docs_build.source import ROOT
from jax_sngan.commands.cli import Parser


class _Reached(BaseException):
    """A script has made its parser; nothing of it runs after that."""


def scripts() -> list[str]:
    """Names of the files in scripts/."""
    return sorted(p.name for p in (ROOT / "scripts").glob("*.py"))


@cache
def parser_of(script: str) -> Parser:
    """The parser of scripts/SCRIPT.

    Raises:
      ValueError: the script reads no command line by cli.Parser.
    """
    made: list[Parser] = []

    def parse(parser: Parser, args: object = None) -> None:
        made.append(parser)
        raise _Reached

    path = str(ROOT / "scripts" / script)
    with mock.patch.object(Parser, "parse", parse), mock.patch.object(sys, "argv", [path]):
        try:
            runpy.run_path(path, run_name="__main__")
        except _Reached:
            return made[0]
    raise ValueError(f"{script} ended without reading a command line")
