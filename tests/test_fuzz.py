"""Every reader of files from elsewhere, over files that were changed by what knows their formats (fuzz.py).

Each gives what it promises or one line, within its limits of memory and time; the process is made to see both. The long
form: `pytest -m long -s tests/test_fuzz.py`; atheris takes part in it where it is installed.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from mutations import CHANGES, mutate, sound
from readers import READERS, ROOT

LONG = pytest.mark.long
SHORT = {"checkpoint": 20}  # what Orbax takes for one is a hundred times more
LEAST = {
    "recording": 0.3,
    "checkpoint": 0.1,
}  # share that is refused: most of their bytes are numbers, as good as others


def run(script: str, *arguments: str) -> dict[str, float]:
    """The counts that a fuzzer prints."""
    command = [sys.executable, str(ROOT / "tests" / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}: {done.stderr[-4000:]}"
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{told}")
    return told


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=LONG)], ids=["short", "long"])
def test_changed_files_give_what_is_promised_or_one_line(reader: str, long: bool) -> None:
    examples = 10_000 if long else SHORT.get(reader, 300)
    told = run("fuzz.py", reader, str(examples))
    refused, read = told.get("refused", 0), told.get("read", 0)
    assert refused + read >= examples
    assert refused >= LEAST.get(reader, 0.5) * examples
    assert read > 0  # else the changes are so coarse that nothing behind the first bytes is met


@LONG
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris, which is on PyPI for Linux")
@pytest.mark.parametrize("reader", ["archive", "image", "npz", "idx", "cifar", "torch"])
def test_files_made_by_coverage_give_what_is_promised_or_one_line(reader: str) -> None:
    assert run("fuzz_coverage.py", reader, "10000").get("refused", 0) > 0


@pytest.mark.parametrize("reader", ["archive", "image", "npz", "idx", "cifar", "torch"])
def test_every_kind_of_change_changes_something(reader: str) -> None:
    files = [contents for _, contents in sound(reader)]
    for what in range(len(CHANGES)):
        changed = [
            mutate(contents, [(what, where, value)], tuple(files)) != contents
            for contents in files
            for where, value in ((3, 5), (700, 77), (5000, 4096))
        ]
        assert any(changed) or CHANGES[what].__name__ == "_right_sums", CHANGES[what].__name__
