"""What README.md and docs/ tell a reader: every command line is one, every block runs, every link leads somewhere.

tests/pages.py says how a page marks what a test runs otherwise. The default run has the tour; `pytest -m long` all.
"""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pages
import pytest
from pages import PAGES, ROOT, blocks, commands, name, page_commands

import jax_sngan
from conftest import free_port
from docs_build.commands import parser_of
from jax_sngan.commands.cli import given
from jax_sngan.commands.sngan import COMMANDS
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import SCRIPTS

QUICK = ["docs/tour.md"]  # of these the default run leaves out what is marked as long
# Programs that a reader has; what follows them is checked where it names something of ours.
KNOWN_PROGRAMS = {
    "python", "python3", "pip", "pytest", "bash", ".", "source", "git", "cd", "tensorboard", "ruff", "mypy",
    "mkdocs", "mv", "sngan",
}  # fmt: skip
LINKED = (
    "scripts", "jax_sngan", "torch_ref", "parity_kit", "parity_tests", "tests", "docs", "docs_build", "examples",
    "mkdocs.yml",
    "pyproject.toml", "conftest.py",
)  # fmt: skip
SERVED_WITHIN = 120  # seconds; the site is built first
TAKE_A_PRESET = ("train", "torch")


def faults(command: list[str]) -> list[str]:
    """What a command names that does not exist, or that its script would refuse; empty where all is well."""
    program, *words = command
    if program not in KNOWN_PROGRAMS:
        return [f"unknown program {program}"]
    wrong = [f"no file {w}" for w in words if re.match(r"(scripts|\.ci)/", w) and not (ROOT / w).exists()]
    if program == "pytest":
        paths = [w.partition("::")[0] for w in words if "/" in w or w.endswith(".py")]
        wrong += [f"no file {p}" for p in paths if not (ROOT / p).exists()]
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = [e.strip() for w in words for part in re.findall(r"^\.\[(.*)\]$", w) for e in part.split(",")]
        wrong += [f"no extra {e}" for e in asked if e not in extras]
    if program.startswith("python") and words[:1] == ["-m"] and len(words) > 1:
        module = ROOT / words[1].replace(".", "/")
        ours = words[1].startswith(("parity_tests", "jax_sngan", "torch_ref"))
        wrong += [f"no module {words[1]}"] if ours and not module.with_suffix(".py").exists() else []
    if program.startswith("python") and words and words[0].startswith("scripts/") and not wrong:
        wrong += refusal(next(n for n, s in SCRIPTS.items() if s == words[0].removeprefix("scripts/")), words[1:])
    if program.startswith("python") and words[:2] == ["-m", "jax_sngan"]:
        program, words, wrong = "sngan", words[2:], []
    if program == "sngan" and words and words[0] not in ("--help", "--version"):
        wrong += refusal(words[0], words[1:]) if words[0] in COMMANDS else [f"no command sngan {words[0]}"]
    return wrong


def refusal(command: str, words: list[str]) -> list[str]:
    """What the line of a command does not take."""
    if "…" in words or "--help" in words:
        return []
    parser = parser_of(command)
    said: list[str] = []

    def exit(status: int = 0, message: str | None = None) -> None:
        raise UserError(message or "ended")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "exit", exit)
        try:
            arguments = parser.parse(words)
            if command in TAKE_A_PRESET:
                replace(jax_sngan.preset(arguments.preset), given(arguments, TrainConfig))
                replace(RunConfig(), given(arguments, RunConfig))
        except UserError as error:
            said.append(str(error).strip())
    return said


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_command_lines_are_taken(page: Path) -> None:
    assert {" ".join(c): f for c in page_commands(page) if (f := faults(c))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "python scripts/no_such.py",
        "python scripts/train_jax.py --no-such-option 3",
        "python scripts/train_jax.py --log 3",  # the beginning of one that exists
        "python scripts/train_jax.py --steps many",
        "python scripts/train_jax.py --loss=no_such_loss",
        "python scripts/train_jax.py --batch-size 0",
        "python scripts/train_jax.py no_such_preset",
        "python scripts/export.py runs/a --format web",  # --out is missing
        "python -m parity_tests.no_such",
        "pip install -e '.[no_such_extra]'",
        "pytest parity_tests/no_such.py",
        "trian_jax",
        "sngan smaple runs/a",
        "sngan train --steps many",
        "python -m jax_sngan train --batch-size 0",
    ],
)
def test_the_checks_can_fail(text: str) -> None:
    assert [f for c in commands(text) for f in faults(c)]


def test_chains_prompts_comments_settings_and_long_lines_are_read() -> None:
    text = "# a comment\n$ cd x && A_B=1 pip install . ; pytest \\\n  -k 'a b'  # another\n"
    assert commands(text) == [["cd", "x"], ["pip", "install", "."], ["pytest", "-k", "a b"]]


def test_marks_are_read() -> None:
    text = "<!-- before: a -->\n<!-- shorter: x.py --n 2 -->\n<!-- not run: why -->\n```bash\nb\n```\n"
    text += "\n```python\nc\n```\n"
    before, (first, second) = blocks(text)
    assert before == ["a"]
    assert (first.language, first.text, first.marks, first.line) == ("bash", "b\n", {"not run": "why"}, 4)
    assert (second.marks, second.shorter) == ({}, {"x.py": ["--n", "2"]})
    with pytest.raises(ValueError, match="no block follows"):
        blocks("<!-- long: why -->\n")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_have_a_known_language_and_comments_a_known_mark(page: Path) -> None:
    text = page.read_text()
    assert {b.language for b in blocks(text)[1]} <= set(pages.LANGUAGES)
    assert set(re.findall(r"^<!-- ([a-z ]+):", text, re.MULTILINE)) <= {*pages.MARKS, "from here to the next heading"}


def unknown_imports(code: str) -> list[str]:
    """What a program takes from this project's modules that they do not have."""
    taken = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if node.module.partition(".")[0] in ("jax_sngan", "torch_ref", "parity_kit")
    ]
    missing = []
    for module, attribute in taken:
        found = importlib.import_module(module)
        submodule = hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{attribute}")
        if not hasattr(found, attribute) and not submodule:
            missing.append(f"{module}.{attribute}")
    return missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_import_what_is_there(page: Path) -> None:
    """Of the long ones too, which the default run only reads."""
    codes = [b.text for b in blocks(page.read_text())[1] if b.language == "python"]
    assert [one for code in codes for one in unknown_imports(code)] == []


def test_an_import_of_what_has_moved_is_seen() -> None:
    code = "import jax\nfrom jax_sngan.nn.conv import conv, no_such_form\nfrom jax_sngan.nn import conv\n"
    assert unknown_imports(code) == ["jax_sngan.nn.conv.no_such_form"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_who_runs_a_block_is_there(page: Path) -> None:
    said = [b.marks["run by"].partition(",")[0] for b in blocks(page.read_text())[1] if "run by" in b.marks]
    assert [file for file in said if not (ROOT / file).is_file()] == []


def wrapper(folder: Path, shorter: dict[str, list[str]]) -> Path:
    """A folder for the PATH whose `python` and `pytest` are this one's, with the options behind a script's own."""
    this = sys.executable
    cases = "".join(f'  scripts/{script}) exec {this} "$@" {" ".join(o)};;\n' for script, o in shorter.items())
    folder.mkdir(exist_ok=True)
    for program in ("python", "python3"):
        (folder / program).write_text(f'#!/bin/bash\ncase "$1" in\n{cases}  *) exec {this} "$@";;\nesac\n')
        (folder / program).chmod(0o755)
    cases = "".join(
        f'  {name}) exec {this} -m jax_sngan "$@" {" ".join(shorter[script])};;\n'
        for name, script in SCRIPTS.items()
        if script in shorter
    )
    (folder / "sngan").write_text(f'#!/bin/bash\ncase "$1" in\n{cases}  *) exec {this} -m jax_sngan "$@";;\nesac\n')
    for program in ("pytest", "mkdocs"):
        (folder / program).write_text(f'#!/bin/bash\nexec {this} -m {program} "$@"\n')
    for program in ("pytest", "mkdocs", "sngan"):
        (folder / program).chmod(0o755)
    return folder


def served(block: pages.Block, folder: Path, environment: dict[str, str]) -> str:
    """What was wrong with a block that serves pages; nothing where its first page came."""
    port = free_port()
    command = [*shlex.split(block.text, comments=True), *block.marks["serves"].format(port=port).split()]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, env=environment, **quiet)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the caller's has this page
    fault = "no page came"
    for _ in range(SERVED_WITHIN * 5):
        try:
            with direct.open(f"http://127.0.0.1:{port}/", timeout=5) as page:
                fault = "" if b"<html" in page.read() else "the page is no page"
            break
        except urllib.error.HTTPError as error:
            fault = str(error)
            break
        except OSError:  # not there yet
            if process.poll() is not None:
                break
            time.sleep(0.2)
    process.terminate()  # Ctrl-C would not reach it where the tests run in the background
    said = process.communicate(timeout=30)[1]
    return fault and f"{fault}\n{said.decode()[-2000:]}"


def run_page(page: Path, folder: Path, programs: dict[str, str], *, long: bool) -> list[str]:
    """Runs a page's blocks in order in a folder, each as a process.

    Returns:
      what failed, one text a block.
    """
    for part in LINKED:
        (folder / part).symlink_to(ROOT / part)
    before, found = blocks(page.read_text())
    todo = [pages.Block("bash", "\n".join(before), 0, shorter=found[-1].shorter)] if before else []
    failed = []
    for block in todo + found:
        marks = block.marks
        if block.language not in pages.RUN or {"not run", "run by"} & marks.keys() or ("long" in marks and not long):
            continue
        if "needs" in marks and importlib.util.find_spec(marks["needs"]) is None:
            continue
        environment: dict[str, str] = {
            **programs,
            "PATH": f"{wrapper(folder / '.bin', block.shorter)}:{os.environ['PATH']}",
            **dict(setting.split("=", 1) for setting in shlex.split(marks.get("with", ""))),
        }
        if "serves" in marks:
            if fault := served(block, folder, environment):
                failed.append(f"{name(page)}:{block.line}\n{block.text}\n{fault}")
            continue
        shell = ["bash", "-euo", "pipefail", "-c", block.text]
        result = subprocess.run(
            shell if block.language == "bash" else [sys.executable, "-c", block.text],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        if result.returncode:
            failed.append(f"{name(page)}:{block.line}\n{block.text}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}")
    return failed


@pytest.mark.parametrize("page", [ROOT / p for p in QUICK], ids=name)
def test_blocks_run(page: Path, tmp_path: Path, programs: dict[str, str]) -> None:
    assert "\n".join(run_page(page, tmp_path, programs, long=False)) == ""


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_all_blocks_run(page: Path, tmp_path: Path, programs: dict[str, str]) -> None:
    # Downloads and classifiers that the user's cache has are not made again.
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jax_sngan"
    own = Path(programs["XDG_CACHE_HOME"]) / "jax_sngan"
    own.mkdir(exist_ok=True)
    for kept in (*cache.glob("classifiers"), *cache.glob("onnxruntime-web-*.tgz")):
        if not (own / kept.name).exists():
            (shutil.copytree if kept.is_dir() else shutil.copy)(kept, own / kept.name)
    assert "\n".join(run_page(page, tmp_path, programs, long=True)) == ""


@pytest.mark.parametrize(
    "fails",
    [
        "```bash\nfalse\necho no\n```\n",
        "```bash\npytest --no-such-option\n```\n",
        "<!-- with: A=1 -->\n```python\nimport os\nassert os.environ['A'] == '2'\n```\n",
        "<!-- serves: {port} -->\n```bash\npython -c 'raise SystemExit(1)'\n```\n",
        "<!-- serves: --directory no_such_folder {port} -->\n```bash\npython -m http.server\n```\n",
    ],
    ids=["a command", "a test", "an environment", "a server that ends", "a server without pages"],
)
def test_a_block_that_fails_is_named(fails: str, tmp_path: Path) -> None:
    page = ROOT / "README.md"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda self: f"```bash\ntrue\n```\n{fails}")
        failed = run_page(page, tmp_path, dict(os.environ), long=False)
    assert [f.splitlines()[0] for f in failed] == [f"README.md:{4 + fails.startswith('<!--')}"]


def test_the_first_screen_has_the_two_commands() -> None:
    # .ci/run finds them by their endings and runs them as they stand.
    text = (ROOT / "README.md").read_text().splitlines()
    assert len(text) <= 120
    lines = text[:27]
    assert [x for x in lines if x.startswith("python3 -m venv ") and x.endswith("&& python scripts/train_jax.py")]
    assert [x for x in lines if x.startswith("python3 -m venv ") and x.endswith("&& pytest -n auto --dist worksteal")]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = pages.BLOCK.sub("", page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue  # another site
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in {slug(h) for h in re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)}, target


@pytest.mark.parametrize(
    "preset", re.findall(r"^\| `(\w+)` \| .*(?:CNN|ResNet)", (ROOT / "docs/train.md").read_text(), re.MULTILINE)
)
def test_presets_of_the_table_exist(preset: str) -> None:
    assert preset in jax_sngan.presets()
