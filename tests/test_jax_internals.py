"""What the project leans on inside XLA and jax is there: a release that drops some of it fails here, by its name."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import jax
import jax.numpy as jnp
import pytest

from jax_sngan.system import jax_internals
from jax_sngan.system.jax_internals import OPTIONS, PRIVATE, Option, flags, is_known, known

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("jax_sngan", "torch_ref", "parity_tests", "tests", "scripts", "docs_build", "examples", ".ci", "conftest.py")
NOT_PUBLIC = ("jax._src.", "jax.experimental.", "jax.extend.", "jax.interpreters.", "jaxlib.")


def compile_with(name: str, option: Option) -> None:
    jax.jit(lambda x: x + 1, compiler_options={name: option.example}).lower(jnp.zeros(2)).compile()


@pytest.mark.parametrize("name", OPTIONS)
def test_xla_knows_the_option_in_a_program(name: str) -> None:
    if is_known(OPTIONS[name]):
        compile_with(name, OPTIONS[name])
    else:  # if it does, `dropped` is wrong, and programs are made without an option that they should have
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"No such compile option: '{name}'"):
            compile_with(name, OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_xla_knows_the_option_as_a_flag(name: str) -> None:
    text = flags({name: OPTIONS[name].example})
    assert bool(text) == is_known(OPTIONS[name])
    environment = os.environ | {"XLA_FLAGS": text}
    code = "import jax; jax.devices()"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, f"XLA does not know --{name}, or takes no {OPTIONS[name].example} for it: {ran.stderr}"


@pytest.mark.parametrize("name", PRIVATE)
def test_jax_has_the_private_name(name: str) -> None:
    resolve_name(name)


@pytest.mark.parametrize(
    ("jaxlib", "emitters"), [("0.10.2", True), ("0.11.0", False), ("0.12.0.1", False), ("1.0.0.dev20270101", False)]
)
def test_options_are_chosen_by_the_version(jaxlib: str, emitters: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_internals, "version", {"jaxlib": jaxlib}.__getitem__)
    asked: dict[str, int | bool] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    expected = asked if emitters else {"xla_backend_optimization_level": 0}
    assert known(asked) == expected
    assert known(asked, "tpu") == known(asked, "gpu") == {"xla_backend_optimization_level": 0}
    assert flags(asked) == "--xla_backend_optimization_level=0" + " --xla_cpu_use_fusion_emitters=false" * emitters


def test_an_option_that_is_not_listed_is_refused() -> None:
    with pytest.raises(KeyError, match="xla_unheard_of"):
        known({"xla_unheard_of": 1})


def sources() -> list[Path]:
    found = [p for name in FOLDERS for p in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))]
    return [p for p in found if p.suffix in (".py", ".ipynb") or p.parent.name == ".ci"]


def test_every_option_in_the_sources_is_listed() -> None:
    pattern = r"(?<!\w)xla_(?!cuda)\w+(?<!_)\b"  # jax_plugins.xla_cuda13 is a package
    found = {n for p in sources() if p != Path(__file__) for n in re.findall(pattern, p.read_text())}
    assert found == set(OPTIONS)


def private_names(tree: ast.AST) -> set[str]:
    """What a file imports or reads by name that is not public; of what objects are asked for it knows nothing."""
    called = {"jax": "jax"}  # how the file calls it: what it is
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            called |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            called |= {a.asname or a.name: a.name for a in node.names}
    found = set(called.values())
    for node in ast.walk(tree):
        path: list[str] = []
        while isinstance(node, ast.Attribute):
            path, node = [node.attr, *path], node.value
        if path and isinstance(node, ast.Name) and node.id in called:
            found.add(".".join([called[node.id], *path]))
    return {name for name in found if f"{name}.".startswith(NOT_PUBLIC)}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import jax\nx = jax._src.core.Primitive", "jax._src.core.Primitive"),
        ("import jax.extend.core as c\nc.Primitive", "jax.extend.core.Primitive"),
        ("from jax._src import core\nx = core.Primitive('x')", "jax._src.core.Primitive"),
        ("from jax._src.core import Primitive", "jax._src.core.Primitive"),
        ("def f():\n from jax.interpreters import mlir as m\n m.ir_type(1)", "jax.interpreters.mlir.ir_type"),
    ],
)  # fmt: skip
def test_a_private_name_is_found(code: str, name: str) -> None:
    assert name in private_names(ast.parse(code))


def test_every_private_name_in_the_sources_is_listed() -> None:
    texts = {p: p.read_text() for p in sources() if p.suffix == ".py" and p != Path(jax_internals.__file__)}
    found = {name: p.name for p, text in texts.items() for name in private_names(ast.parse(text))}
    unlisted = {n: file for n, file in found.items() if not any(f"{p}.".startswith(f"{n}.") for p in PRIVATE)}
    assert not unlisted, f"add to jax_internals.PRIVATE: {unlisted}"
    unused = [p for p in PRIVATE if not any(p.rsplit(".", 1)[1] in text for text in texts.values())]
    assert not unused, f"take out of jax_internals.PRIVATE: {unused}"
