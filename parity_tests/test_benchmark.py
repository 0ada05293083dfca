"""The benchmark's two sides start from one state and do the same step, whatever form torch's is in."""

import pytest

from jax_sngan.benchmark import workloads
from jax_sngan.benchmark.runner import Plan, measure

SMALL = {"batch_size": 2, "model.generator_width": 2, "model.discriminator_width": 2, "model.latent_size": 4}


@pytest.mark.parametrize(
    ("arithmetic", "kinds", "apart"),
    [
        ("float32", ("eager", "channels_last"), 1e-4),  # one step's losses: rung 5 allows 4e-5 of float32
        (
            "bfloat16",
            ("eager", "autocast"),
            0.1,
        ),  # 8 bits, at other places: twice rung 5's
    ],
)
def test_both_sides_do_the_same_step(arithmetic, kinds, apart):
    plan = Plan(1, 100.0, (*kinds, "graphs"), arithmetic, "cpu", SMALL)
    row = measure(workloads.workloads()["fashion"], plan)
    assert row["arithmetic"] == arithmetic
    assert list(row["failed"]) == ["graphs"]  # a kind that can't be had here does not stop the others
    assert set(row["seconds"]) == set(row["losses"]) == {"jax", *kinds}
    for kind in kinds:
        assert set(row["losses"][kind]) == set(row["losses"]["jax"])
        for name, expected in row["losses"]["jax"].items():
            assert row["losses"][kind][name] == pytest.approx(expected, abs=apart), (kind, name)
