"""The model of step time: its limits, its table, and its bytes against those of a compiled step."""

import json
from collections.abc import Callable

import pytest

from conftest import TINY, Outcome
from jax_sngan.scaling import Machine, Work, step_time, work

MACHINE = Machine(peak_flops=1e12, reached=0.5, bandwidth=1e9, latency=1e-6, images_a_second=1e9)


def test_the_model_by_hand() -> None:
    of = Work(flop=1e12, gradient_bytes=1e9, sums=10, images=100)
    one, four = step_time(of, MACHINE, 1), step_time(of, MACHINE, 4)
    assert (one.compute, one.communication, one.step) == (2.0, 0.0, 2.0)
    assert four.compute == 0.5
    assert four.communication == pytest.approx(1.5 + 30e-6)  # 2 * 3 / 4 of a second, and 10 sums past 3 neighbours
    assert four.step == four.compute + four.communication
    slow = Machine(1e12, 0.5, 1e9, 1e-6, images_a_second=10)
    assert step_time(of, slow, 4).step == 10.0  # as fast as the images come
    with pytest.raises(ValueError, match="at least 1"):
        step_time(of, MACHINE, 0)


def test_a_steps_work() -> None:
    of = work(TINY, gflop=2.0, g_params=10, d_params=100)
    assert (of.flop, of.gradient_bytes, of.images) == (2e9, 4 * (2 * 100 + 10), 8)


def test_the_command_prints_its_table(script: Callable[..., Outcome]) -> None:
    outcome = script("scaling_model.py", "fashion", "--devices=1,8", "--json=-")
    assert outcome.code == 0, outcome
    rows = json.loads(outcome.out)["rows"]
    assert [row["devices"] for row in rows] == [1, 8]
    assert rows[1]["compute"] == pytest.approx(rows[0]["compute"] / 8)
    for options, word in ((["--devices=0"], "devices"), (["--reached=0"], "reached"), (["nothing"], "preset")):
        assert script("scaling_model.py", *options).is_one_line("scaling_model.py", word)
