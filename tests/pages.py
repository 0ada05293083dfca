"""The code blocks of README.md and docs/, with what a page's comments say of running them in a test.

A comment in front of a block, or of another comment in front of it:

  <!-- not run: REASON -->      the block needs what a test has not; its command lines are still parsed
  <!-- run by: FILE, HOW -->    that file runs it, not the test of the page
  <!-- long: REASON -->         it takes long, and `pytest -m long` alone runs it
  <!-- needs: MODULE -->        it is run where Python finds that module
  <!-- with: NAME=VALUE -->     in that environment
  <!-- serves: OPTIONS -->      its one command serves pages until it is stopped; a test calls it with OPTIONS behind,
                                {port} in them one that is free, and reads the first page

From where it stands to the end of the page:

  <!-- shorter: NAME.py OPTIONS -->   a test calls that script with OPTIONS behind the page's own

And once, before it all:

  <!-- before: COMMAND -->   what a reader of the page has done already
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$|^<!-- ([a-z ]+): (.*?) -->$", re.MULTILINE | re.DOTALL)
LANGUAGES = ("bash", "python", "text", "js")
RUN = ("bash", "python")
OF_A_BLOCK = ("not run", "run by", "long", "needs", "with", "serves")
MARKS = (*OF_A_BLOCK, "shorter", "before", "code", "side by side")


@dataclass
class Block:
    """One code block."""

    language: str
    text: str
    line: int
    marks: dict[str, str] = field(default_factory=dict)  # of OF_A_BLOCK -> what is said
    shorter: dict[str, list[str]] = field(default_factory=dict)  # script -> options


def name(page: Path) -> str:
    """The page from the root, as a test's id."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> tuple[list[str], list[Block]]:
    """A page's commands before it all, and its blocks.

    Raises:
      ValueError: a comment that marks no block.
    """
    before: list[str] = []
    found: list[Block] = []
    shorter: dict[str, list[str]] = {}
    waiting: dict[str, str] = {}
    for part in _PART.finditer(text):
        language, body, mark, said = part.groups()
        if mark == "shorter":
            script, *options = said.split()
            shorter = {**shorter, script: options}
        elif mark == "before":
            before.append(said)
        elif mark in OF_A_BLOCK:
            waiting[mark] = said
        elif mark is None:
            line = text[: part.start()].count("\n") + 1
            found.append(Block(language, body, line, waiting, shorter))
            waiting = {}
    if waiting:
        raise ValueError(f"no block follows the last of {waiting}")
    return before, found


def commands(text: str) -> list[list[str]]:
    """Shell text as words, one list a command: comments, prompts and settings dropped, lines joined, chains cut."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                if command:
                    found.append(command)
                command = []
            elif command or not re.match(r"[A-Z_]+=", word):
                command.append(word)
    return found


def page_commands(page: Path) -> list[list[str]]:
    """The commands of its shell blocks, of its comments, and those that stand in a line of its text."""
    text = page.read_text()
    before, found = blocks(text)
    inline = re.findall(r"`((?:python3?|bash|pip|pytest|mkdocs) [^`\n]+)`", BLOCK.sub("", text))
    return [c for t in before + [b.text for b in found if b.language == "bash"] + inline for c in commands(t)]
