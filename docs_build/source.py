"""Code taken from the source by name, so that a page shows what is run: `<!-- code: FILE NAME -->` in a page."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = re.compile(r"^<!-- code: (\S+) (\S+) -->$", re.MULTILINE)
TWINS = re.compile(r"^<!-- side by side: (\S+) (\S+) -->$", re.MULTILINE)
Definition = ast.FunctionDef | ast.ClassDef


def definition(path: str, name: str) -> str:
    """The text of a function, a class or a method (`Class.method`) of a file of the repository, decorators included.

    Raises:
      KeyError: the file has no such definition.
    """
    text = (ROOT / path).read_text()
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        inside = [n for n in getattr(node, "body", []) if isinstance(n, Definition) and n.name == part]
        if not inside:
            raise KeyError(f"{path} defines no {name}")
        node = inside[0]
    assert isinstance(node, Definition)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)


def without_docstring(text: str) -> str:
    """A definition's text without its docstring, for where two stand side by side."""
    node = ast.parse(text).body[0]
    assert isinstance(node, Definition)
    if ast.get_docstring(node) is None:
        return text
    lines = text.splitlines()
    return "\n".join(lines[: node.body[0].lineno - 1] + lines[node.body[0].end_lineno :])


def fence(text: str, language: str = "python", title: str = "") -> str:
    """A code block of the site; tildes, since a text may hold backticks."""
    head = f'~~~~~{language} title="{title}"' if title else f"~~~~~{language}"
    return f"{head}\n{text}\n~~~~~"


def with_code(markdown: str) -> str:
    """A page with the code in place of its marks; `side by side` shows both frameworks', without docstrings."""

    def one(found: re.Match[str]) -> str:
        return fence(definition(found[1], found[2]), title=found[1])

    def both(found: re.Match[str]) -> str:
        paths = [f"{framework}/{found[1]}" for framework in ("jax_sngan", "torch_ref")]
        blocks = "\n\n".join(fence(without_docstring(definition(p, found[2])), title=p) for p in paths)
        return f'<div class="twins" markdown="1">\n\n{blocks}\n\n</div>'

    return TWINS.sub(both, CODE.sub(one, markdown))
