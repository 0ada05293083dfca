"""Each example notebook runs from its first cell to its last, and was saved with outputs of its present cells."""

import asyncio
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient
from pages import ROOT

PICTURES = {"five_minutes": 2, "tour": 2, "own_images": 1, "own_networks": 1}  # cells that show one


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
    assert not [o for c in run.cells if c.cell_type == "code" for o in c.outputs if "Warning" in o.get("text", "")]
    assert path.stat().st_size < 200_000


TRAINS = """
import jax_sngan as sn
small = {"model.generator_width": 4, "model.discriminator_width": 4, "batch_size": 4, "n_dis": 1}
run = sn.train("fashion", steps=100_000, log_every=5, sample_every=5, **small)
"""


def test_the_stop_button_leaves_a_usable_run(
    programs: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    kernel = KernelManager(kernel_name="python3")
    kernel.start_kernel(env=programs | {"IPYTHONDIR": str(tmp_path)})
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        shown: list[dict[str, Any]] = []

        def heard(message: dict[str, Any]) -> None:
            shown.append(message)
            redrawn = sum(m["msg_type"] == "update_display_data" for m in shown)
            if message["msg_type"] == "update_display_data" and redrawn == 2:
                kernel.interrupt_kernel()

        reply = client.execute_interactive(TRAINS, timeout=240, output_hook=heard)
        assert reply["content"]["status"] == "ok", reply["content"]
        drawn = [m["content"] for m in shown if "image/png" in m["content"].get("data", {})]
        assert {of["transient"]["display_id"] for of in drawn} == {"jax_sngan"}  # one place, drawn again
        told = "".join(m["content"].get("text", "") for m in shown)
        assert "/100000" in told  # the bar
        assert "stopped at step" in told
        found: list[str] = []
        after = "(10 <= run.step < 100_000, run.sample(2).shape, run.score(run.sample(2)).shape)"
        client.execute_interactive(
            after, timeout=120, output_hook=lambda m: found.append(m["content"].get("data", {}).get("text/plain", ""))
        )
        assert "(True, (2, 28, 28, 1), (2,))" in found
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
