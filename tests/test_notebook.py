"""Each example notebook runs from its first cell to its last, and was saved with outputs of its present cells."""

import asyncio
from itertools import groupby
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pages import ROOT

PICTURES = {"tour": 2, "own_images": 1, "own_networks": 1}  # cells that show one


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell gave: output types, pictures apart; what it printed counts once, in however many pieces it came."""
    found = ["picture" if "image/png" in o.get("data", {}) else o.output_type for o in cell.outputs]
    return [kind for kind, _ in groupby(found)]


def test_each_notebook_is_known() -> None:
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.ipynb")) == sorted(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_notebook_runs(name: str, programs: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = ROOT / "examples" / f"{name}.ipynb"
    for variable, value in programs.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    saved = nbformat.read(path, as_version=4)
    run = nbformat.from_dict(saved)
    asyncio.run(NotebookClient(run, timeout=300, kernel_name="python3").async_execute())  # raises what a cell raises
    code = [c for c in saved.cells if c.cell_type == "code"]
    assert [kinds(c) for c in code] == [kinds(c) for c in run.cells if c.cell_type == "code"]
    assert sum("picture" in kinds(c) for c in code) == PICTURES[name]
    assert path.stat().st_size < 200_000
