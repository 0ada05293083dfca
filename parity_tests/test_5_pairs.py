"""Rung 5, options that meet: one step in float64 of every config of a covering array, so that each two choices meet."""

import pytest

from jax_sngan.config.schema import TrainConfig, replace
from parity_tests import covering
from parity_tests.configs import BASE, U_FIRST
from parity_tests.test_5_update import both_steps, quick_step
from parity_tests.tolerances import UPDATE_F64
from parity_tests.trees import assert_agree, biases_before_batch_norm


def check(row: covering.Row) -> None:
    first = row.get("model.spectral_norm.order") == "u_first"
    config: TrainConfig = replace(BASE, row | (U_FIRST if first else {}))  # torch's has its warm-up
    ours, theirs, _ = both_steps(config, quick_step(config))
    # A relativistic loss is of differences of scores, from which the last bias is gone.
    also = [r"discriminator.*\bscore"] if config.loss.startswith("relativistic") else []
    assert_agree(ours, theirs, UPDATE_F64, biases_before_batch_norm(config.model, ours, also))


@pytest.mark.parametrize("number", range(len(covering.stored())))
def test_one_step_of_each_config(number):
    row = covering.stored()[number]
    print(row)
    check(row)


def test_every_two_choices_that_the_config_allows_meet():
    """An option or choice that is new fails here: `python -m parity_tests.covering` makes the array anew."""
    missing = covering.required(2)
    for row in covering.stored():
        assert covering.allowed(row), row
        missing -= covering.held(row, 2)
    assert not missing, f"{len(missing)} pairs meet nowhere, for example {sorted(missing, key=repr)[:3]}"


def test_no_option_is_forgotten():
    assert covering.left_unnamed() == []


@pytest.mark.long
def test_every_three_choices_that_the_config_allows():
    """A few hundred configs; those of the pairs' array are not repeated."""
    failed = []
    for row in covering.rows(3):
        try:
            check(row)
        except AssertionError as error:
            failed.append((row, str(error)))
    assert not failed, f"{len(failed)} configs: {failed[:5]}"
