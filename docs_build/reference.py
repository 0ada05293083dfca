"""Pages made from the source: every option of the config, every script's command line, every public function."""

import argparse
import ast
import dataclasses
import re
import textwrap
from typing import Any, get_args, get_origin, get_type_hints

from docs_build import commands
from docs_build.links import page_of
from docs_build.source import ROOT, definition, fence
from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.system.invocation import SCRIPTS

FRAMEWORKS = ("jax_sngan", "torch_ref")
SECTION = re.compile(r"^(Args|Returns|Raises|Yields):$")


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
    """Paragraphs; one with indented lines, or of several short ones, is shown as it stands."""
    shown = []
    for paragraph in text.split("\n\n"):
        indented = any(line.startswith(" ") for line in paragraph.splitlines())
        shown.append(fence(paragraph, "text") if indented else escaped(paragraph))
    return "\n\n".join(shown)


def documentation(docstring: str) -> str:
    """A docstring (Args, Returns and Raises indented below their names) as Markdown."""
    shown: list[str] = []
    plain: list[str] = []
    lines = docstring.splitlines()
    while lines:
        line = lines.pop(0)
        if not SECTION.match(line):
            plain.append(line)
            continue
        body = []
        while lines and (not lines[0].strip() or lines[0].startswith(" ")):
            body.append(lines.pop(0))
        text = textwrap.dedent("\n".join(body)).strip()
        shown.append(f"**{line[:-1]}**\n\n{_entries(text, named=line not in ('Returns:', 'Yields:'))}")
    if any(plain):
        shown.insert(0, prose("\n".join(plain).strip()))
    return "\n\n".join(shown)


def _entries(text: str, *, named: bool) -> str:
    entries: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += " " + line.strip()
        elif line.strip():
            entries.append(line)
    if not named:
        return escaped(" ".join(entries))
    cut = [e.partition(": ") for e in entries]
    return "\n".join(f"- `{name}`: {escaped(rest)}" if rest else f"- {escaped(name)}" for name, _, rest in cut)


def signature(node: ast.FunctionDef, name: str) -> str:
    """`name(arguments) -> result`, one argument a line where it is long."""
    arguments = ast.unparse(node.args)
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({arguments}){result}"
    if len(line) <= 90:
        return line
    copy = ast.parse(f"def f({arguments}): pass").body[0]
    assert isinstance(copy, ast.FunctionDef)
    return f"{name}(\n" + textwrap.indent(",\n".join(_each(copy.args)), "    ") + f",\n){result}"


def _each(a: ast.arguments) -> list[str]:
    """The arguments of a signature, each as it is written."""

    def one(argument: ast.arg, default: ast.expr | None) -> str:
        told = ast.unparse(argument)
        equals = " = " if argument.annotation else "="
        return told if default is None else told + equals + ast.unparse(default)

    plain = [*a.posonlyargs, *a.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(a.defaults)), *a.defaults]
    found = [one(p, d) for p, d in zip(plain, defaults, strict=True)]
    if a.vararg:
        found.append("*" + ast.unparse(a.vararg))
    elif a.kwonlyargs:
        found.append("*")
    found += [one(p, d) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    return found + (["**" + ast.unparse(a.kwarg)] if a.kwarg else [])


def _entry(path: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    found = [f"## {node.name} {{ #{node.name} }}"]
    if isinstance(node, ast.FunctionDef):
        found.append(fence(signature(node, node.name)))
    else:
        bases = f"({', '.join(ast.unparse(b) for b in node.bases)})" if node.bases else ""
        found.append(fence(f"class {node.name}{bases}"))
    found.append(documentation(ast.get_docstring(node) or ""))
    if isinstance(node, ast.ClassDef):
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        if fields:
            found.append(fence("\n".join(ast.unparse(f) for f in fields)))
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
        for method in methods:
            told = ast.get_docstring(method)
            if told and (not method.name.startswith("_") or method.name in ("__init__", "__call__")):
                found += [f"### {node.name}.{method.name}", fence(signature(method, method.name)), documentation(told)]
    source = textwrap.indent(fence(definition(path, node.name)), "    ")
    found.append(f'??? note "source of {node.name}"\n\n{source}')
    return "\n\n".join(found)


def module_page(path: str) -> str:
    """All public functions and classes of a file."""
    tree = ast.parse((ROOT / path).read_text())
    framework, _, rest = path.partition("/")
    depth = "../" * (path.count("/") + 1)
    links = [f"[the file]({depth}{page_of(path)})"]
    twin = f"{FRAMEWORKS[1 - FRAMEWORKS.index(framework)]}/{rest}"
    if (ROOT / twin).exists() and _public(ast.parse((ROOT / twin).read_text())):
        links.append(f"[its twin in {twin.partition('/')[0]}]({depth}reference/{twin}.md)")
    head = f"# `{path}`\n\n{documentation(ast.get_docstring(tree) or '')}\n\n{', '.join(links)}\n"
    return "\n\n".join([head, *(_entry(path, node) for node in _public(tree))]) + "\n"


def functions_page() -> str:
    """Every file of both frameworks with the first line of what it says."""
    found = ["# Every public function\n\nMade from the files' docstrings, one page a file.\n"]
    for framework in FRAMEWORKS:
        rows = []
        for path in modules(framework):
            tree = ast.parse((ROOT / path).read_text())
            names = ", ".join(f"[`{n.name}`]({path}.md#{n.name})" for n in _public(tree))
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
