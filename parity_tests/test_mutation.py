"""The list of deliberate mistakes fits the sources of today, and the command tells a mistake from none."""

import ast
import json
import re

import pytest

from parity_tests import mutation
from parity_tests.mistakes import MISTAKES, Mistake

PACKAGE = mutation.ROOT / "jax_sngan"
MATHEMATICS = {
    *(f"nn/{name}.py" for name in ("spectral_norm", "operator_norm", "conv", "layers", "blocks", "resample")),
    *(f"nn/{name}.py" for name in ("batch_norm", "layer_norm", "activations", "dropout")),
    *(f"nn/{name}.py" for name in ("sums", "plain_conv", "resampled_conv", "batched_spectral_norm", "finer")),
    *(f"nn/{name}.py" for name in ("passes", "kernels", "power_iteration")),
    *(f"models/{name}.py" for name in ("network", "standard_cnn", "resnet", "mlp")),
    *(f"core/{name}.py" for name in ("losses", "penalties", "augment", "optim", "step", "inputs", "pixels", "state")),
    *(f"nn/cpu_kernels/{name}.py" for name in ("forms", "winograd")),
    *(f"core/{name}.py" for name in ("gan", "parts")),
    "nn/rng.py",
    "interop/torch_layout.py",
}


def test_every_mathematical_file_has_a_mistake():
    assert {m.file for m in MISTAKES} == MATHEMATICS


def test_each_mistake_has_its_own_name():
    assert len({m.name for m in MISTAKES}) == len(MISTAKES) >= 30


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_a_mistake_is_one_changed_line_that_still_parses(mistake):
    right = (PACKAGE / mistake.file).read_text()
    wrong, line = mutation.mistaken(right, mistake)
    changed = [i for i, (a, b) in enumerate(zip(right.split("\n"), wrong.split("\n"), strict=True), 1) if a != b]
    assert changed == [line]
    assert ast.dump(ast.parse(wrong)) != ast.dump(ast.parse(right))  # more than another spelling


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_the_test_that_a_mistake_names_is_there(mistake):
    file, _, test = mistake.test.partition("::")
    assert file in mutation.rungs(mutation.ROOT)
    assert f"def {test.partition('[')[0]}(" in (mutation.ROOT / "parity_tests" / file).read_text()


def test_the_page_has_every_mistake_as_the_command_found_it():
    rows = re.findall(r"^\| (.+?) \| `(\S+\.py)` \| (.+?) \| (\d) \| `.+` \|$", page(), re.MULTILINE)
    assert [(m.name, m.file, m.effect) for m in MISTAKES] == [row[:3] for row in rows]
    assert [mutation.rung_of(m.test) for m in MISTAKES] == [int(row[3]) for row in rows]


def page() -> str:
    return (mutation.ROOT / "docs" / "mistakes.md").read_text()


def test_real_mistakes_are_caught_and_the_tree_is_untouched(tmp_path, capsys):
    names = ["hinge sign", "momentum reversed", "every step sees the same images"]
    before = {name: (PACKAGE / name).read_bytes() for name in MATHEMATICS}
    assert mutation.main(["--quick", "--only", *names, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["mistakes"]
    assert [(m["name"], m["rung"]) for m in found] == list(zip(names, (4, 2, 5), strict=True))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("hinge sign: caught by rung 4: test_4_losses.py::test_loss_and_gradients[")
    assert printed[-1] == "3 of 3 mistakes caught"
    assert before == {name: (PACKAGE / name).read_bytes() for name in MATHEMATICS}


PIXELS = ("core/pixels.py", "/ 127.5 - 1")
UNCAUGHT = {
    # What computes the same passes every test; what does not run, or not import, has not been caught.
    "no mistake": (Mistake("", *PIXELS, "/ (127.5) - 1", "none", "test_1_ops.py::test_pixels_to_floats"), "ran test_1"),
    "no such name": (Mistake("", *PIXELS, "/ half - 1", "crash", "test_1_ops.py::test_pixels_to_floats"), "NameError"),
    "no Python": (Mistake("", *PIXELS, "/ - 1)", "crash", "test_1_ops.py::test_pixels_to_floats"), "exited with"),
}


@pytest.mark.parametrize("case", UNCAUGHT)
def test_what_no_assertion_caught_is_a_survivor(case, monkeypatch, capsys):
    mistake, why = UNCAUGHT[case]
    monkeypatch.setattr(mutation, "MISTAKES", [mistake._replace(name=case)])
    assert mutation.main(["--quick"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{case}: NOT CAUGHT (")
    assert why in printed[0]
    assert printed[1] == "0 of 1 mistakes caught"


def test_the_named_test_need_not_be_the_catcher_and_unreached_rungs_are_not_run(tmp_path, monkeypatch):
    # In the full form: the first rung does not reach the line, the test that is named does not fail, its rung does.
    mistake = Mistake(
        "", "core/losses.py", "relu(1 + fake)", "relu(1 - fake)", "", "test_4_losses.py::test_every_loss_has_its_twin"
    )
    line = mutation.mistaken((PACKAGE / "core/losses.py").read_text(), mistake)[1]
    lines = {"test_1_ops.py": {line + 1}, "test_4_losses.py": {line}}  # of core/losses.py
    trial = mutation.Trial(tmp_path / "scratch", tmp_path / "keep", 7, quick=False)
    monkeypatch.setattr(trial, "rungs", [f"parity_tests/{rung}" for rung in lines])
    monkeypatch.setattr(trial.reach, "lines", lambda rung, file: lines[rung.removeprefix("parity_tests/")])
    result = trial.judge(mistake)
    assert result.rung == 4
    assert "test_loss_and_gradients" in result.test


def test_a_statement_reaches_over_its_lines():
    source = "def f(x):\n    y = [\n        x,\n    ]\n    if (\n        x\n    ):\n        return y\n    return x\n"
    assert [list(mutation.statement(source, n)) for n in (3, 6, 8)] == [[2, 3, 4], [5, 6, 7], [8]]
    assert list(mutation.statement(source, 1)) == list(range(1, 10))  # a default: whoever runs the function


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit) as exit:
        mutation.main(["--only", "hinge sing"])
    assert exit.value.code == 2
    assert "no mistake 'hinge sing'" in capsys.readouterr().err
