"""The site builds without a warning and without a network, and what it takes from the source is the source."""

import ast
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import griffe
import pytest
from browser import browser, chromium, served
from pages import ROOT

import jax_sngan.metrics
from docs_build import commands, docstrings, links, reference, source
from jax_sngan.config.schema import RunConfig, TrainConfig, flatten

# mkdocs, in a process where every connection is refused.
OFFLINE = """
import socket, sys
def refuse(*_): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE, "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


class Loads(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        loads = tag in ("script", "img", "iframe", "source") or (tag == "link" and values.get("rel") != "canonical")
        address = values.get("src") or (values.get("href") if tag == "link" else None)
        if loads and address:
            self.found.append(address)


def test_no_page_asks_another_host(site: Path) -> None:
    found = {p.name: Loads(p.read_text()).found for p in site.rglob("*.html")}
    assert sum(map(len, found.values())) > len(found)  # the parser sees something
    assert {n: f for n, a in found.items() if (f := [x for x in a if re.match(r"(https?:)?//", x)])} == {}


def test_what_a_page_loads_is_there(site: Path) -> None:
    missing = {
        p.name: wrong
        for p in site.rglob("*.html")
        if p.name != "404.html"  # whose addresses begin at the server's root
        if (
            wrong := [
                x for x in Loads(p.read_text()).found if not x.startswith("data:") and not (p.parent / x).exists()
            ]
        )
    }
    assert missing == {}


def test_pages_show_what_they_are_made_of(site: Path) -> None:
    text = {n: re.sub(r"<[^>]+>", "", (site / n).read_text()) for n in ("spectral_norm.html", "notebook.html")}
    for framework in ("jax_sngan", "torch_ref"):
        code = source.definition(f"{framework}/nn/spectral_norm.py", "estimate_sigma").splitlines()[-1]
        assert code.strip() in text["spectral_norm.html"].replace("&quot;", '"')
    assert "by SVD" in text["notebook.html"]
    options = (site / "reference/options.html").read_text()
    names = [*flatten(TrainConfig()), *flatten(RunConfig())]
    assert [n for n in names if f"--{n.replace('_', '-')}</code>" not in options] == []
    told = (site / "reference/commands.html").read_text()
    assert [name for name in commands.commands() if f"sngan {name}<" not in told] == []


FOUND = """(() => {
  const found = [...document.querySelectorAll(".md-search-result__item > a, .md-search-result__more a")];
  return found.map(link => new URL(link.href).pathname.slice(1) + new URL(link.href).hash);
})()"""


def test_a_search_finds_the_task_before_the_source(site: Path, tmp_path: Path) -> None:
    program = chromium()
    if program is None:
        pytest.skip("needs Chromium")
    with served(site) as address, browser(program, tmp_path / "profile") as page:
        page.size(1280, 800)
        for words, wanted in (
            ("own images", ["recipes.html", "recipes.html#your-own-images-in-a-folder"]),
            ("resume", ["recipes.html#stop-resume-train-longer-more-steps", "resuming.html"]),
            ("Colab", ["recipes.html#in-jupyter-and-colab"]),
            ("--steps", ["recipes.html#stop-resume-train-longer-more-steps"]),
            ("eight GPUs", ["scaling.html#one-machine-with-eight-gpus"]),
        ):
            page.open(f"{address}index.html")
            # All scripts have run then, assets/search.js too, which takes an option's dashes off.
            page.until("document.readyState === 'complete'")
            page.run(f"""(() => {{
                const query = document.querySelector("[data-md-component=search-query]");
                query.focus();
                query.value = {json.dumps(words)};
                query.dispatchEvent(new KeyboardEvent("keyup", {{ bubbles: true }}));
            }})()""")
            found = page.until(f"((found) => found.length > 0 && found)({FOUND})", 60)
            before = [f for f in found if f.startswith(("source/", "reference/jax", "reference/torch"))]
            first = found.index(before[0]) if before else len(found)
            assert set(wanted) <= set(found[:first]), (words, found[:12])
            assert found[0].partition("#")[0] in {w.partition("#")[0] for w in wanted}, (words, found[:12])


def test_every_public_function_has_its_entry(site: Path) -> None:
    for path in [p for framework in reference.FRAMEWORKS for p in reference.modules(framework)]:
        page = (site / "reference" / f"{path}.html").read_text()
        names = re.findall(r"^(?:def|class) ([a-zA-Z]\w*)", (ROOT / path).read_text(), re.MULTILINE)
        assert [n for n in names if f'id="{reference.dotted(path)}.{n}"' not in page] == [], path


def test_the_interface_has_all_that_is_public(site: Path) -> None:
    text = (site / "interface.html").read_text()
    names = [f"{m.__name__}.{n}" for m in (jax_sngan, jax_sngan.metrics) for n in m.__all__ if n != "nn"]
    kit = next(n for n in ast.parse((ROOT / "parity_kit/__init__.py").read_text()).body if isinstance(n, ast.Assign))
    names += [f"parity_kit.{n}" for n in ast.literal_eval(kit.value)]
    # Two functions are called as their files are, and stand there by the names of both.
    assert [n for n in names if f'id="{n}"' not in text and f'id="{n}.{n.rpartition(".")[2]}"' not in text] == []
    signature = "".join(re.findall(r">([^<]*)", text[text.index('id="jax_sngan.load"') :]))
    assert 'step: str | int = "latest"' in re.sub(r"&quot;", '"', signature)


def test_a_name_that_is_gone_ends_the_build() -> None:
    with pytest.raises(KeyError, match="defines no no_such"):
        source.with_code("<!-- code: jax_sngan/core/losses.py no_such -->")


def test_a_method_is_taken_without_its_indent() -> None:
    assert source.definition("jax_sngan/nn/power_iteration.py", "PowerIteration.divisor").startswith("def divisor(self")


def test_links_to_source_files_lead_to_their_pages() -> None:
    text = "[a](../jax_sngan/core/losses.py) [b](parity.md#x) [c](../CHANGELOG.md) [d](https://a.b/c.py)"
    made = links.for_site(text, "docs/layout.md", "layout.md")
    assert made == "[a](source/jax_sngan/core/losses.py.md) [b](parity.md#x) [c](changelog.md) [d](https://a.b/c.py)"
    assert links.for_site("[x](docs/layout.md)", "CONTRIBUTING.md", "contributing.md") == "[x](layout.md)"


def test_docstrings_are_shown_as_they_are() -> None:
    module = griffe.Module("m")
    module.docstring = griffe.Docstring(
        "[n] of *it*, a_b < c, `x|y`.\nArgs:\n  x_y: [n] one\n    more.\nReturns:\n  [] all.",
        parser="google",
        parser_options={"warnings": False, "returns_named_value": False},
    )
    docstrings.Plain().on_package(pkg=module)
    text, arguments, results = (section.value for section in module.docstring.parsed)
    assert text == "\\[n\\] of \\*it\\*, a\\_b &lt; c, `x&#124;y`."
    assert [(a.name, a.description) for a in arguments] == [("x_y", "\\[n\\] one\nmore.")]
    assert [r.description for r in results] == ["\\[\\] all."]
