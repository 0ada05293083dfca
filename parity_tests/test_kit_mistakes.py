"""parity_kit on a stranger's ports: right ones pass, and of each mistake the layer and the kind are told."""

import re
from pathlib import Path

import pytest

from parity_tests.porting_mistakes import MISTAKES, PORTS, found, tried

PAGE = Path(__file__).resolve().parent.parent / "docs/porting.md"


pytestmark = pytest.mark.usefixtures("as_strangers_have_it")


@pytest.mark.parametrize("port", PORTS)
def test_a_right_port_passes(port):
    report = tried(port)
    assert report.passed, report
    assert report.first_difference is None
    assert report.worst < 1e-12


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_the_layer_and_the_kind_of_a_mistake_are_told(mistake):
    layer, kind = found(mistake)
    assert layer == mistake.layer
    assert mistake.kind in kind


def test_the_page_has_every_mistake():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([^|]+)` \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(m.port, m.name, m.layer) for m in MISTAKES] == [row[:3] for row in rows]
    assert all(m.kind in row[3] for m, row in zip(MISTAKES, rows, strict=True))
