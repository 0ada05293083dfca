"""The program that makes mistakes: each is one line that still parses, of every kind, the same for the same seed."""

import ast
import importlib
import re
import shutil
import sys

import pytest

from parity_tests import forks, generated, mutation, reach

ALL = generated.mistakes(mutation.ROOT)


def test_there_are_many_of_every_kind_in_every_file():
    assert len(ALL) > 800
    for kind in (
        "Add for Sub",
        "Mult for Div",
        "for GtE",
        "left out",
        "arguments of .* swapped",
        "True for False|False for True",
    ):
        assert sum(bool(re.search(kind, m.effect)) for m in ALL) >= 3, kind
    files = {m.file for m in ALL}
    assert {"core/losses.py", "core/step.py", "core/penalties.py", "nn/spectral_norm.py", "nn/batch_norm.py"} <= files


def test_each_is_one_changed_line_that_still_parses():
    for m in generated.mistakes(mutation.ROOT, 200, seed=3):
        right = (mutation.ROOT / "jax_sngan" / m.file).read_text()
        wrong, line = mutation.mistaken(right, m)
        changed = [i for i, (a, b) in enumerate(zip(right.split("\n"), wrong.split("\n"), strict=True), 1) if a != b]
        assert changed == [line], m.name
        assert ast.dump(ast.parse(wrong)) != ast.dump(ast.parse(right)), m.name


def test_a_sample_is_seeded():
    assert generated.mistakes(mutation.ROOT, 30, 1) == generated.mistakes(mutation.ROOT, 30, 1)
    assert generated.mistakes(mutation.ROOT, 30, 1) != generated.mistakes(mutation.ROOT, 30, 2)


def test_of_a_small_file():
    source = "def f(x, y):\n    return g(x, y) - 2.0 if x > 0 else -y\n"
    found = {m.effect: m.new.strip() for m in generated.of_file("nn/f.py", source)}
    assert found["Sub for Add"] == "return (g(x, y) + 2.0) if x > 0 else -y"
    assert found["arguments of g swapped"] == "return g(y, x) - 2.0 if x > 0 else -y"
    assert found["g left out"] == "return (x) - 2.0 if x > 0 else -y"
    assert found["Gt for GtE"] == "return g(x, y) - 2.0 if (x >= 0) else -y"
    assert found["USub left out"] == "return g(x, y) - 2.0 if x > 0 else (y)"
    assert found["3.0 for 2.0"] == "return g(x, y) - 3.0 if x > 0 else -y"


def test_an_edit_leaves_the_rest_of_a_sample_as_it_was(tmp_path):
    """What is taken depends on what it is: a list that is shuffled would be another one after every commit."""
    shutil.copytree(mutation.ROOT / "jax_sngan", tmp_path / "jax_sngan")
    edited = tmp_path / "jax_sngan" / "core" / "losses.py"
    edited.write_text('"""Edited."""\n\nBETWEEN = 1 + 2\n' + edited.read_text())
    before, after = (
        [(m.file, m.old, m.new) for m in generated.mistakes(root, 100, 5)] for root in (mutation.ROOT, tmp_path)
    )
    assert len(set(before) - set(after)) <= 2


SOURCE = """
LIMIT = 3
def plain(x, y=2):
    return x + y
def maker(step):
    def made(x):
        return x + step
    return made
class Counter:
    start = 1
    def count(self, x):
        return [a + self.start for a in x]
ADD = maker(5)
"""
MADE = {  # of the changed line, what plain(1), ADD(1), maker(5)(1) and Counter().count([1]) give then
    "return x + y": ("return x - y", [-1, 6, 6, [2]]),
    "return x + step": ("return x * step", [3, 5, 5, [2]]),
    "[a + self.start": ("[a - self.start", [3, 6, 6, [0]]),
    # None of a function's own code: made in a copy of the repository.
    "LIMIT = 3": ("LIMIT = 4", None),
    "start = 1": ("start = 2", None),
    "y=2": ("y=3", None),
    "maker(5)": ("maker(6)", None),
    "x + step": ("x + 7", None),  # closes over nothing any more
}


@pytest.mark.parametrize("old", MADE)
def test_a_mistake_is_made_in_the_functions_that_are_there(old, tmp_path, monkeypatch):
    new, expected = MADE[old]
    path = tmp_path / "small_module.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "small_module", raising=False)
    module = importlib.import_module("small_module")
    assert forks.make(path, SOURCE.replace(old, new)) == (expected is not None)
    if expected is not None:
        found = [module.plain(1), module.ADD(1), module.maker(5)(1), module.Counter().count([1])]
        assert found == expected


def test_a_process_that_forks_tells_a_mistake_from_none(tmp_path):
    source = reach.copy_repository(mutation.ROOT, tmp_path / "source")
    server = reach.Server(source, tmp_path / "compiled", ["parity_tests/test_4_losses.py"])
    right = (source / "jax_sngan/core/losses.py").read_text()
    test = "parity_tests/test_4_losses.py::test_values_known_in_closed_form[hinge]"
    old, new = "relu(1 - real)", "relu(2 - real)"
    try:
        found = server.run("core/losses.py", right.replace(old, new), [test], 60)
        assert found["failure"]["test"] == test
        assert server.run("core/losses.py", right.replace(old, "relu(1.0 - real)"), [test], 60)["failure"] is None
        assert server.run("core/losses.py", right + "\nMORE = 1\n", [test], 60) is None
        with pytest.raises(reach.BrokenRun, match="did not reach its assertion: NameError"):
            server.run("core/losses.py", right.replace(old, "relu(one - real)"), [test], 60)
        first = "    return jnp.mean(jax.nn.relu(1 - real)"
        endless = right.replace(first, f"    while True: pass\n{first}")
        with pytest.raises(reach.BrokenRun, match="SIGXCPU"):
            server.run("core/losses.py", endless, [test], 2)
    finally:
        server.close()


def test_the_quick_form_tries_what_is_stored(monkeypatch, capsys):
    """A mistake that an edit has made new fails nothing."""
    caught, same, new = generated.mistakes(mutation.ROOT, 3, seed=2)
    monkeypatch.setattr(mutation, "stored", lambda: {mutation.key(caught): "parity_tests/test_1_ops.py::test_clip"})
    monkeypatch.setattr(mutation, "reason", lambda key: "why" if key == mutation.key(same) else None)
    assert mutation.quick_part([caught, same, new]) == [caught]
    assert capsys.readouterr().out.startswith("1 of 3 by the test that caught each; 1 change no result")
    with pytest.raises(ValueError, match=r"caught\.json has none of these"):
        mutation.quick_part([new])


def test_what_is_stored_is_there():
    files = [test.partition("::")[0] for test in mutation.stored().values()]
    assert files
    assert not [file for file in files if not (mutation.ROOT / file).is_file()]
    of_all = {mutation.key(m) for m in ALL}
    assert len(of_all & mutation.stored().keys()) >= 0.8 * len(files), "an edit has changed them: --store anew"


def test_the_interval():
    low, high = generated.interval(285, 300)
    assert (low, high) == (pytest.approx(0.9189, abs=1e-3), pytest.approx(0.9695, abs=1e-3))
    assert generated.interval(0, 10)[0] == pytest.approx(0, abs=1e-9)
