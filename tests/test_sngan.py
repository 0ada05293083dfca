"""`sngan`, `python -m jax_sngan` and scripts/: the same commands, which name themselves as they were typed."""

import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import ROOT, TINY_OPTIONS, Outcome
from jax_sngan.commands import sngan
from jax_sngan.system import invocation
from jax_sngan.system.invocation import SCRIPTS

ENTRIES = {"sngan": "/usr/bin/sngan", "python -m jax_sngan": f"{ROOT}/jax_sngan/__main__.py"}  # as Python sets argv[0]


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], entry: str, *words: object) -> Outcome:
    """A command in this process, as if started so."""
    monkeypatch.setattr(sys, "argv", [ENTRIES[entry], *map(str, words)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        sngan.main()
    out, err = capfd.readouterr()
    return Outcome(int(end.value.code or 0), out, err)


def test_the_three_ways_have_the_same_commands() -> None:
    assert list(SCRIPTS) == list(sngan.COMMANDS)
    assert sorted(SCRIPTS.values()) == sorted(p.name for p in (ROOT / "scripts").glob("*.py"))
    assert max(len((ROOT / "scripts" / s).read_text().splitlines()) for s in SCRIPTS.values()) <= 11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"sngan": "jax_sngan.commands.sngan:main"}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_each_command_has_help_and_refuses_in_one_line(
    name: str, entry: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = call(monkeypatch, capfd, entry, name, "--help")
    assert (told.code, told.err) == (0, ""), told
    assert told.out.startswith(f"usage: {entry} {name} ")
    wrong = call(monkeypatch, capfd, entry, name, "--no-such-option")
    assert wrong.is_one_line(f"{entry} {name}: "), wrong


def test_without_a_command_there_is_a_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = call(monkeypatch, capfd, "sngan")
    assert (told.code, told.err) == (0, "")
    assert [line.split()[0] for line in told.out.splitlines()[2:]] == list(SCRIPTS)
    assert call(monkeypatch, capfd, "sngan", "smaple").is_one_line(
        "sngan: unknown command smaple; did you mean sample?"
    )
    assert call(monkeypatch, capfd, "sngan", "x\x1b[2J").is_one_line("x\\x1b[2J; there are: train, torch")


def test_a_process_of_its_own_lists_them_and_loads_no_jax(programs: dict[str, str], tmp_path: Path) -> None:
    found = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_module('jax_sngan', run_name='__main__')\n"
    found += "finally: print('jax' in sys.modules, file=sys.stderr)"
    for command in ([sys.executable, "-m", "jax_sngan"], [sys.executable, "-c", found, "-m"]):
        done = subprocess.run(command, cwd=tmp_path, env=programs, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "\n  sample " in done.stdout
    assert done.stderr == "False\n"


@pytest.mark.parametrize("entry", ENTRIES)
def test_messages_and_the_readme_name_what_was_typed(
    entry: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = [*TINY_OPTIONS, "--steps=1", "--workdir=a run"]
    assert call(monkeypatch, capfd, entry, "train", "fashion", *options).code == 0
    text = (tmp_path / "a run/README.txt").read_text()
    assert f"  {entry} sample 'a run' --grid grid.png\n" in text
    typed = next(line for line in text.splitlines() if line.startswith("To go on"))
    assert shlex.split(typed.partition(": ")[2]) == [*entry.split(), "train", "fashion", *options]
    assert call(monkeypatch, capfd, entry, "sample", "nowhere").is_one_line(f"{entry} sample: no workdir nowhere")
    done = call(monkeypatch, capfd, entry, "convert", "a run", "converted", "--format=authors", "--raw", "--step=7")
    assert done.is_one_line(f"{entry} convert: no checkpoint of step 7"), done


@pytest.mark.parametrize(
    ("argv0", "sampling", "name"),
    [
        ("scripts/train_jax.py", "python scripts/sample.py x", "train_torch.py"),
        ("../a b/scripts/train_jax.py", "python '../a b/scripts/sample.py' x", "train_torch.py"),
        ("/usr/local/bin/sngan", "sngan sample x", "sngan torch"),
        ("C/Scripts/sngan.exe", "sngan sample x", "sngan torch"),
        ("/site-packages/jax_sngan/__main__.py", "python -m jax_sngan sample x", "python -m jax_sngan torch"),
        ("/usr/lib/ipykernel_launcher.py", "sngan sample x", "sngan torch"),
        ("my/sample.py", "sngan sample x", "sngan torch"),  # a program of the user's own
        ("", "sngan sample x", "sngan torch"),
    ],
)
def test_other_commands_are_named_as_this_one_was_typed(
    argv0: str, sampling: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [argv0])
    assert invocation.own_command("sample", "x") == sampling
    assert invocation.called("torch") == name


def test_an_extra_is_named_as_it_can_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert invocation.install_command("parity") == 'pip install -e ".[parity]"'
    monkeypatch.setattr(invocation, "_PACKAGE", tmp_path / "site-packages/jax_sngan")
    assert invocation.install_command("parity") == 'pip install "jax-sngan[parity]"'


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [("torch", "torch_ref", "pip install"), ("parity", "parity_tests", "in the source and not in the wheel")],
)
def test_what_is_not_installed_is_one_line(
    name: str, module: str, words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sngan, "checkout", lambda: None)
    for loaded in [m for m in sys.modules if m.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    finders = [_Without(module), *sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    assert call(monkeypatch, capfd, "sngan", name, "--help").is_one_line(f"sngan {name}: this needs {module}", words)


def test_what_a_command_lacks_when_its_line_is_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name=missing)

    monkeypatch.setattr(sngan, "load", lambda name: SimpleNamespace(main=main))
    missing = "torch"
    assert call(monkeypatch, capfd, "sngan", "torch").is_one_line("sngan torch: this needs torch: pip install")
    missing = "something_else"  # a mistake of the program's own: the traceback is its author's to see
    with pytest.raises(ModuleNotFoundError):
        call(monkeypatch, capfd, "sngan", "torch")


class _Without:
    """As if a package were not installed."""

    def __init__(self, module: str):
        self.module = module

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_script_that_is_imported_starts_nothing() -> None:
    for script in SCRIPTS.values():  # as a worker process imports the one that started it
        runpy.run_path(str(ROOT / "scripts" / script), run_name="__mp_main__")
