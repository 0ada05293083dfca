"""The report: what it says of a case that fails, what it refuses, and that its page is whole."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from parity_kit.climb import Climb
from parity_tests import compare, report, report_page, tolerances

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts/parity_report.py"
TOY = """
from parity_tests.compare import Tolerance, assert_close, assert_within
import numpy as np
import pytest

ROOM = Tolerance(1e-3, "room for a toy")

def test_good():
    assert_close(np.float32([1.0, 2.0]), np.float32([1.0, 2.0002]), ROOM, "small")
    assert_within(5e-4, ROOM, "larger")

def test_too_far():
    assert_within(2e-3, ROOM, "moved")

def test_not_a_number():
    assert_within(float("nan"), ROOM, "lost")

def test_dies():
    raise RuntimeError("no number at all")

def test_check():
    pass

def test_skipped():
    pytest.skip("nothing here")
"""


def plugin_lines(folder: Path, source: str) -> list[report.Line]:
    (folder / "test_toy.py").write_text(source)
    lines = folder / "lines"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "parity_tests.report_plugin", f"--report-lines={lines}", folder],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        timeout=100,
    )
    return [json.loads(line) for line in lines.read_text().splitlines()]


def gathered(lines: list[report.Line]) -> Climb:
    return report.gather({1: lines}, [], "", quick=False, rungs=[1], command="python x", seconds=1.0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> list[report.Line]:
    return plugin_lines(tmp_path_factory.mktemp("toy"), TOY)


def test_a_failing_case_is_told(toy):
    found = gathered(toy).as_json()
    assert not found["passed"]
    cases = {case["case"]: case for case in found["cases"]}
    assert {name: case["passed"] for name, case in cases.items()} == {
        "test_good": True,
        "test_too_far": False,
        "test_not_a_number": False,
        "test_dies": False,
    }
    assert cases["test_good"]["quantity"] == "larger"  # the worse of two
    assert cases["test_good"]["comparisons"] == 2
    assert (cases["test_too_far"]["error"], cases["test_too_far"]["tolerance"]) == (2e-3, 1e-3)
    assert cases["test_too_far"]["reason"] == "room for a toy"
    assert cases["test_not_a_number"]["error"] is None
    assert cases["test_dies"]["message"] == "RuntimeError: no number at all"
    assert [check["case"] for check in found["checks"]] == ["test_check"]
    assert [case["reason"] for case in found["skipped"]] == ["Skipped: nothing here"]
    json.dumps(found, allow_nan=False)


def test_a_file_that_cannot_be_imported_fails(tmp_path):
    found = gathered(plugin_lines(tmp_path, "import no_such_module")).as_json()
    assert not found["passed"]
    assert "no_such_module" in found["cases"][0]["message"]


def test_what_a_dead_process_owes_fails():
    lines = [{"collected": ["a", "b"], "left_out": []}, {"case": "a", "outcome": "passed"}]
    assert [line["case"] for line in report.ended_early("file", lines, -11, "")] == ["b"]
    assert [line["case"] for line in report.ended_early("file", [], 4, "")] == ["file"]
    assert report.ended_early("file", [*lines, {"case": "b", "outcome": "passed"}], 0, "") == []


class Balanced(HTMLParser):
    """Fails where an end tag does not close the last one that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(toy):
    found = gathered(toy)
    found.rows[0] = dataclasses.replace(found.rows[0], what="<script>&")
    plot = {"title": "t < 1", "x": [1, 2, 3], "lines": {"a & b": [1e-3, 0.0, 1e-9]}, "y_label": "error"}
    text = report_page.page(dataclasses.replace(found, curves=[plot]))
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "<script" not in text
    assert "http" not in text
    assert "3 of 4 cases failed" in text
    assert "room for a toy" in text
    assert "a &amp; b" in text


def run_script(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(end.value.code or 0)


def test_the_script_fails_and_still_writes(monkeypatch, tmp_path, toy, capsys):
    monkeypatch.setattr(report.Ladder, "run", lambda self, files, growth: ({1: toy}, [], ""))
    assert run_script(monkeypatch, "--rungs=1", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html") == 1
    assert "FAIL: 3 of 4 cases failed" in capsys.readouterr().out
    assert not json.loads((tmp_path / "r.json").read_text())["passed"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.html", "r.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --json FILE, --html FILE or both"),
        (["--rungs=1,9", "--json=x"], "--rungs: there is no rung '9'; there are 1, 2, 3"),
        (["--json=/proc/no/r.json"], "cannot write /proc/no"),
        (["--html=."], "cannot write .: it is a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(report.Ladder, "run", lambda *_, **__: pytest.fail("it began to work"))
    assert run_script(monkeypatch, *arguments) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_a_rung_from_the_command_line(tmp_path):
    result = subprocess.run(
        [sys.executable, SCRIPT, "--rungs", "4", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "rung 4, losses: " in result.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert len(found["cases"]) > 50
    for case in found["cases"]:
        assert case["rung"] == 4
        assert case["passed"]
        assert case["dtype"] in ("float32", "float64")
        assert 0 <= case["error"] <= case["tolerance"]
        assert case["reason"]
    assert found["versions"].keys() >= {"jax", "torch", "python"}
    assert found["machine"]["matmul_precision"] == "highest"
    assert found["date"]
    assert "all within their tolerances" in (tmp_path / "r.html").read_text()


def test_every_tolerance_has_its_reason():
    constants = {name: value for name, value in vars(tolerances).items() if name.isupper()}
    assert {"OPS_F64", "UPDATE_F32"} <= constants.keys()
    for name, value in constants.items():
        assert isinstance(value, compare.Tolerance), name
        assert value.reason, name


def test_what_quick_leaves_out_exists():
    files = {prefix.partition("::")[0] for prefix in report.LEFT_OUT_OF_QUICK}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    names = result.stdout.splitlines()
    assert [p for p in report.LEFT_OUT_OF_QUICK if not any(name.startswith(p) for name in names)] == []
