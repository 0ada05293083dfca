"""A notebook as a page: its text, its code, and the outputs that it was saved with."""

import base64
import json
from pathlib import Path
from typing import Any

from docs_build.source import fence


def read(path: Path) -> list[dict[str, Any]]:
    """The cells (nbformat 4)."""
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return cells


def page(path: Path, folder: str) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and the pictures that it shows.

    Args:
      folder: where the pictures will lie, seen from the notebook.
    Returns:
      (the text, file name -> PNG).
    """
    shown: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in read(path):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            shown.append(text)
            continue
        shown.append(fence(text))
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                shown.append(f"![What the cell above draws]({folder}/{name})")
            else:
                printed = "".join(output.get("text") or data["text/plain"]).rstrip()
                shown.append(f'<div class="output" markdown="1">\n\n{fence(printed, "text")}\n\n</div>')
    return "\n\n".join(shown) + "\n", pictures
