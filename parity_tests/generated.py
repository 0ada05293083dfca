"""Mistakes made by a program: one operator, constant, argument order or call of a mathematical file changed.

    python -m parity_tests.mutation --generated 300 --seed 0 --keep FOLDER    a seeded sample (hours)
    python -m parity_tests.mutation --generated 60 --quick                    of 60, by what caught them (minutes)

Each is one line of one file, as those of `mistakes` are. A mistake that stops the program counts as caught. What
survives either changes no result, and has its reason in `survivors`, or has found a hole.
"""

import ast
import hashlib
import itertools
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from parity_tests.mistakes import Mistake

FOLDERS = ("nn", "core", "models")
# Not of the mathematics that both frameworks have: where work goes, not what is computed.
LEFT_OUT = {"core/flops.py", "core/sharding.py", "core/precision.py", "core/gan.py", "nn/platforms.py"}
_SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_KEPT = {"range", "len", "isinstance", "getattr", "zip", "enumerate", "tuple", "list", "int", "dict", "cast", "partial"}


def mistakes(root: Path, count: int | None = None, seed: int = 0) -> list[Mistake]:
    """A seeded sample of all that can be made, or all of them in the order of files."""
    found = []

    @cache
    def right(name: str) -> tuple[str, str]:
        source = (root / "jax_sngan" / name).read_text()
        return source, ast.dump(ast.parse(source))

    for folder in FOLDERS:
        for path in sorted((root / "jax_sngan" / folder).glob("*.py")):
            name = f"{folder}/{path.name}"
            if name not in LEFT_OUT and path.name != "__init__.py":
                found += list(of_file(name, path.read_text()))
    if count is None:
        return found
    # By what each is, not by its place in the list: an edit elsewhere leaves the rest of the sample as it was.
    found.sort(key=lambda m: hashlib.sha256(f"{seed} {m.file} {m.old.strip()} {m.new.strip()}".encode()).digest())
    real = (m for m in found if _changes_the_program(right(m.file), m))
    return list(itertools.islice(real, count))


def _changes_the_program(right: tuple[str, str], mistake: Mistake) -> bool:
    """Whether it is more than another spelling of a source, given with its tree, and Python still."""
    try:
        return ast.dump(ast.parse(right[0].replace(mistake.old, mistake.new))) != right[1]
    except SyntaxError:
        return False


def of_file(name: str, source: str) -> Iterator[Mistake]:
    """All mistakes of one file that are one line's, where that line is there once."""
    lines = source.split("\n")
    for node, words, new in _changes(ast.parse(source)):
        if node.lineno != node.end_lineno:
            continue
        line = lines[node.lineno - 1]
        # ast counts bytes; these files have letters beyond ASCII in comments and docstrings alone.
        changed = line[: node.col_offset] + new + line[node.end_col_offset :]
        if not line.isascii() or source.count(line) != 1 or changed == line:
            continue
        place = f"{name}:{node.lineno}:{node.col_offset + 1}"
        yield Mistake(f"{place} {words}", name, line, changed, words, "")


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr, str, str]]:
    """(expression, what is changed in it, its new text)."""
    for node in _mathematics(tree):
        if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _SWAPPED:
            new = _SWAPPED[type(node.op)]()
            yield node, f"{type(node.op).__name__} for {type(new).__name__}", f"({_unparsed(node, op=new)})"
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SWAPPED:
            new = _SWAPPED[type(node.ops[0])]()
            yield node, f"{type(node.ops[0]).__name__} for {type(new).__name__}", f"({_unparsed(node, ops=[new])})"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            yield node, f"{type(node.op).__name__} left out", f"({ast.unparse(node.operand)})"
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            other = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node, f"{other} for {node.value}", repr(other)
        elif isinstance(node, ast.Call):
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[tuple[ast.expr, str, str]]:
    name = ast.unparse(node.func)
    plain = [a for a in node.args if not isinstance(a, ast.Starred)]
    if len(plain) >= 2 and ast.unparse(plain[0]) != ast.unparse(plain[1]) and plain == node.args:
        turned = [node.args[1], node.args[0], *node.args[2:]]
        yield node, f"arguments of {name} swapped", _unparsed(node, args=turned)
    if plain and name.rpartition(".")[2] not in _KEPT and not name[0].isupper():
        yield node, f"{name} left out", f"({ast.unparse(plain[0])})"


def _unparsed(node: ast.expr, **changed: object) -> str:
    return ast.unparse(type(node)(**{f: changed.get(f, getattr(node, f)) for f in node._fields}))  # type: ignore[arg-type]


def _mathematics(tree: ast.AST) -> Iterator[ast.AST]:
    """Every expression but those of messages, annotations, decorators and subscripts of types."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
            continue
        if isinstance(child, ast.FunctionDef):
            for default in (*child.args.defaults, *(d for d in child.args.kw_defaults if d is not None)):
                yield default
                yield from _mathematics(default)
            for statement in child.body:
                yield statement
                yield from _mathematics(statement)
            continue
        if isinstance(child, ast.AnnAssign):
            if child.value is not None:
                yield child.value
                yield from _mathematics(child.value)
            continue
        yield child
        yield from _mathematics(child)


def interval(caught: int, tried: int) -> tuple[float, float]:
    """The share of mistakes that is caught, between which 95 % of samples like this one have it (Wilson 1927)."""
    z, n = 1.96, max(tried, 1)
    share = caught / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half
