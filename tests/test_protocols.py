"""Protocols are options of the one trainer: they fit every preset, and say of both programs what tells them apart."""

import pytest

from jax_sngan.config.presets import names, preset
from jax_sngan.config.reference_programs import PROTOCOLS, with_protocol
from jax_sngan.config.schema import TrainConfig, flatten


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", names())
def test_a_protocol_changes_its_own_options_and_no_other(name, protocol):
    before, after = flatten(preset(name)), flatten(with_protocol(preset(name), protocol))
    options = PROTOCOLS[protocol]
    assert {n: after[n] for n in options} == options
    assert {n: v for n, v in after.items() if n not in options} == {n: v for n, v in before.items() if n not in options}


def test_both_say_the_same_options():
    assert PROTOCOLS["authors"].keys() == PROTOCOLS["mimicry"].keys()
    authors, mimicry = (with_protocol(TrainConfig(), name) for name in ("authors", "mimicry"))
    assert authors.update_order == "generator_first"
    assert mimicry.update_order == "discriminator_first"
    assert authors.generator_batch == 2 * mimicry.generator_batch
