"""Pages made from the source: every option of the config, every script's command line, every public function."""

import argparse
import ast
import dataclasses
import re
import textwrap
from typing import Any, get_args, get_origin, get_type_hints

from docs_build import commands
from docs_build.links import page_of
from docs_build.source import ROOT, fence
from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.system.invocation import SCRIPTS

FRAMEWORKS = ("jax_sngan", "torch_ref")


def escaped(text: str) -> str:
    """Plain text as Markdown that shows it as it is; what stands between backticks stays code."""
    parts = re.split(r"(`[^`]+`)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_\[\]#{}`])", r"\\\1", parts[i]).replace("<", "&lt;").replace(">", "&gt;")
        parts[i] = parts[i].replace("|", "&#124;")
    return "".join(p.replace("|", "&#124;") if i % 2 else p for i, p in enumerate(parts))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


# Options


def option_rows(kind: Any, prefix: str = "") -> list[list[str]]:
    """option, values, default and meaning of a config's own fields."""
    hints, rows = get_type_hints(kind), []
    for f in dataclasses.fields(kind):
        hint = hints[f.name]
        if dataclasses.is_dataclass(hint):
            continue
        kinds = [k for k in (get_args(hint) or (hint,)) if k is not type(None)]
        if get_origin(hint) is not None and hint not in (str | None, int | None):
            values = ", ".join(f"`{c}`" for c in kinds)
        else:
            values = {int: "number", float: "real number", bool: "`true`, `false`", str: "text"}[kinds[0]]
        least, below = f.metadata["minimum"], f.metadata["below"]
        values += f", at least {least:g}" if least is not None else ""
        values += f", below {below:,.0f}" if below is not None and below > 1 else ", below 1" if below else ""
        name = f"`--{prefix}{f.name.replace('_', '-')}`"
        rows.append([name, values, f"`{_shown(f.default)}`", escaped(f.metadata["help"])])
    return rows


def _shown(value: Any) -> str:
    """A value as a command line has it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _config_sections(kind: Any, prefix: str = "") -> list[str]:
    said = " ".join((kind.__doc__ or "").split())
    title = f"## {kind.__name__}" + (f": `--{prefix}…`" if prefix else "")
    head = ["option", "values", "default", "meaning"]
    found = [f"{title}\n\n{escaped(said)}\n\n{table(head, option_rows(kind, prefix))}\n"]
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found += _config_sections(hint, f"{prefix}{name.replace('_', '-')}.")
    return found


def options_page() -> str:
    """Every option of a training run."""
    start = (
        "# Every option of a run\n\n"
        "Options of `sngan train` and `sngan torch`, from the dataclasses in "
        f"[`jax_sngan/config/schema.py`](../{page_of('jax_sngan/config/schema.py')}). The defaults are the "
        "dataclasses'; a preset has others, and `--dry-run` prints what holds. In Python the same names, "
        "with `_` for `-`.\n"
    )
    return "\n".join([start, *_config_sections(TrainConfig), *_config_sections(RunConfig)])


# Command lines


def _argument(action: argparse.Action) -> list[str]:
    value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
    value = value or ("\\|".join(map(str, action.choices)) if action.choices else "")
    if action.option_strings:
        name = f"`{action.option_strings[-1]}`" + (f" {escaped(value)}" if value else "")
    else:
        name = escaped(value)
    return [name, escaped((action.help or "").replace("%%", "%"))]


def commands_page() -> str:
    """Every command's line; options that are the config's have their own page."""
    found = [
        "# Every command\n\nMade from the commands' own parsers; `--help` prints the same. `sngan` is installed with "
        "the package, and `python -m jax_sngan` is the same; in a checkout each has its file in `scripts/` too.\n"
    ]
    for name in commands.commands():
        parser = commands.parser_of(name)
        said = textwrap.dedent(parser.description or "").strip()
        first, _, rest = said.partition("\n\n")
        own = [a for a in parser._actions if a.default != argparse.SUPPRESS]
        found.append(f"## sngan {name}\n\n{escaped(first)}\n\n`python scripts/{SCRIPTS[name]}`\n")
        if rest:
            found.append(prose(rest) + "\n")
        found.append(table(["argument", "meaning"], [_argument(a) for a in own]) + "\n")
        if any(a.default == argparse.SUPPRESS and a.dest != "help" for a in parser._actions):
            found.append("And [every option of a run](options.md).\n")
    return "\n".join(found)


# Functions


def modules(framework: str) -> list[str]:
    """Paths of a framework's files with public definitions, from the repository's root."""
    paths = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / framework).rglob("*.py"))
    return [p for p in paths if _public(ast.parse((ROOT / p).read_text()))]


def _public(node: Any) -> list[ast.FunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n for n in node.body if isinstance(n, kinds) and not n.name.startswith("_")]


def prose(text: str) -> str:
    """Paragraphs; a table stays one, another with indented lines is shown as it stands."""
    shown = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("| "):
            shown.append(re.sub(r"\n +(?!\|)", " ", paragraph))
            continue
        indented = any(line.startswith(" ") for line in paragraph.splitlines())
        shown.append(fence(paragraph, "text") if indented else escaped(paragraph))
    return "\n\n".join(shown)


def dotted(path: str) -> str:
    """jax_sngan/nn/conv.py -> jax_sngan.nn.conv."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def module_page(path: str) -> str:
    """All public functions and classes of a file, by mkdocstrings."""
    framework, _, rest = path.partition("/")
    depth = "../" * (path.count("/") + 1)
    links = [f"[the file]({depth}{page_of(path)})"]
    twin = f"{FRAMEWORKS[1 - FRAMEWORKS.index(framework)]}/{rest}"
    if (ROOT / twin).exists() and _public(ast.parse((ROOT / twin).read_text())):
        links.append(f"[its twin in {twin.partition('/')[0]}]({depth}reference/{twin}.md)")
    options = "    options: {heading_level: 1, show_root_heading: false, show_root_toc_entry: false}"
    return f"# `{path}`\n\n{', '.join(links)}\n\n::: {dotted(path)}\n{options}\n"


def functions_page() -> str:
    """Every file of both frameworks with the first line of what it says."""
    found = [
        "# Every file\n\nMade from the docstrings, one page a file. What is public stands in "
        "[the interface](../interface.md).\n"
    ]
    for framework in FRAMEWORKS:
        rows = []
        for path in modules(framework):
            tree = ast.parse((ROOT / path).read_text())
            names = ", ".join(f"[`{n.name}`]({path}.md#{dotted(path)}.{n.name})" for n in _public(tree))
            said = (ast.get_docstring(tree) or "").splitlines()[0]
            rows.append([f"[`{path.removeprefix(framework + '/')}`]({path}.md)", escaped(said), names])
        found.append(f"## {framework}\n\n{table(['file', 'what it is for', 'defines'], rows)}\n")
    return "\n".join(found)


def pages() -> dict[str, str]:
    """Every page of the reference: its place in the site -> its text."""
    found = {
        "reference/options.md": options_page(),
        "reference/commands.md": commands_page(),
        "reference/functions.md": functions_page(),
    }
    return found | {
        f"reference/{path}.md": module_page(path) for framework in FRAMEWORKS for path in modules(framework)
    }
