"""What README.md and docs/ tell a reader to type exists: scripts, options, presets, extras, Python names and links."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import jax_sngan

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("bash", "sh", "shell", "console")
# Programs that a reader has; what follows them is checked where it names something of ours.
KNOWN_PROGRAMS = {
    "python",
    "python3",
    "pip",
    "pytest",
    "bash",
    ".",
    "source",
    "git",
    "cd",
    "tensorboard",
    "ruff",
    "mypy",
}
TAKE_A_PRESET = {"scripts/train_jax.py", "scripts/train_torch.py"}

BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, languages: tuple[str, ...]) -> list[str]:
    """The code blocks of a page in one of these languages."""
    return [body for language, body in BLOCK.findall(page.read_text()) if language in languages]


def commands(text: str) -> list[list[str]]:
    """Shell text as words, one list a command: comments and prompts dropped, lines joined, chains cut."""
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
            else:
                command.append(word)
    return found


def page_commands() -> list[tuple[str, list[str]]]:
    """(page, command) for shell blocks, and for the commands that stand in a line of text."""
    found = []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        prose = BLOCK.sub("", page.read_text())
        inline = re.findall(r"`((?:python3?|bash|pip|pytest) [^`\n]+)`", prose)
        found += [(name, c) for text in blocks(page, SHELL) + inline for c in commands(text)]
    return found


@cache
def help_of(script: str) -> str:
    """What `python SCRIPT --help` prints."""
    result = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, f"{script} --help exits with {result.returncode}: {result.stderr}"
    return result.stdout


def missing_options(words: list[str], help_text: str) -> list[str]:
    """Those of a command's --options that its help does not have, as whole words."""
    named = [w.partition("=")[0] for w in words if w.startswith("--")]
    return [o for o in named if not re.search(rf"(?<![\w.-]){re.escape(o)}(?![\w.-]*\w)", help_text)]


def faults(command: list[str]) -> list[str]:
    """What a command names that does not exist; empty where all of it does."""
    program, *words = command
    wrong = []
    if program not in KNOWN_PROGRAMS:
        wrong.append(f"unknown program {program}")
    wrong += [f"no file {w}" for w in words if re.match(r"(scripts|\.ci)/", w) and not (ROOT / w).exists()]
    if program == "pytest":
        paths = [w.partition("::")[0] for w in words if "/" in w or w.endswith(".py")]
        wrong += [f"no file {p}" for p in paths if not (ROOT / p).exists()]
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = [e.strip() for w in words for part in re.findall(r"^\.\[(.*)\]$", w) for e in part.split(",")]
        wrong += [f"no extra {e}" for e in asked if e not in extras]
    if program.startswith("python") and words and words[0].startswith("scripts/") and not wrong:
        script, *arguments = words
        wrong += [f"{script} has no option {o}" for o in missing_options(arguments, help_of(script))]
        if script in TAKE_A_PRESET and arguments and not arguments[0].startswith("-"):
            wrong += [] if arguments[0] in jax_sngan.presets() else [f"no preset {arguments[0]}"]
    return wrong


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize(("page", "command"), page_commands(), ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_commands_name_what_exists(page, command):
    assert faults(command) == []


def test_the_first_screen_has_the_two_commands():
    # .ci/run finds them by their endings and runs them as they stand.
    lines = (ROOT / "README.md").read_text().splitlines()[:25]
    assert [x for x in lines if x.startswith("python3 -m venv ") and x.endswith("&& python scripts/train_jax.py")]
    assert [x for x in lines if x.startswith("python3 -m venv ") and x.endswith("&& pytest -n auto --dist worksteal")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue  # another site
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in {slug(h) for h in re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_use_names_that_exist(page):
    for block in blocks(page, ("python",)):
        aliases = {}
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                aliases |= {a.asname or a.name: a.name for a in node.names if a.name.startswith("jax_sngan")}
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(("jax_sngan", "torch_ref")):
                module = importlib.import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []
        used = {
            (n.value.id, n.attr)
            for n in ast.walk(ast.parse(block))
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in aliases
        }
        assert [f"{a}.{n}" for a, n in sorted(used) if not hasattr(importlib.import_module(aliases[a]), n)] == []


@pytest.mark.parametrize(
    "preset", re.findall(r"^\| `(\w+)` \| .*(?:CNN|ResNet)", (ROOT / "README.md").read_text(), re.MULTILINE)
)
def test_presets_of_the_table_exist(preset):
    assert preset in jax_sngan.presets()


@pytest.mark.parametrize(
    "text",
    [
        "python scripts/no_such.py",
        "python scripts/train_jax.py --no-such-option 3",
        "python scripts/train_jax.py --log 3",  # the beginning of one that exists
        "python scripts/train_jax.py no_such_preset",
        "pip install -e '.[no_such_extra]'",
        "pytest parity_tests/no_such.py",
        "trian_jax",
    ],
)
def test_the_checks_can_fail(text):
    assert [f for c in commands(text) for f in faults(c)]


def test_chains_prompts_comments_and_long_lines_are_read():
    text = "# a comment\n$ cd x && pip install . ; pytest \\\n  -k 'a b'  # another\n"
    assert commands(text) == [["cd", "x"], ["pip", "install", "."], ["pytest", "-k", "a b"]]
