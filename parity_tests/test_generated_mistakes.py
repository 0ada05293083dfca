"""The program that makes mistakes: each is one line that still parses, of every kind, the same for the same seed."""

import ast
import re

import pytest

from parity_tests import generated, mutation

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


def test_the_interval():
    low, high = generated.interval(285, 300)
    assert (low, high) == (pytest.approx(0.9189, abs=1e-3), pytest.approx(0.9695, abs=1e-3))
    assert generated.interval(0, 10)[0] == pytest.approx(0, abs=1e-9)
