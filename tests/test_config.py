"""Every option has a type, a range and a place; what does not fit is refused by name."""

import json

import pytest

from jax_sngan.config import (
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    differences,
    flatten,
    from_dict,
    replace,
    to_dict,
)
from jax_sngan.errors import UserError
from jax_sngan.preset_configs import PRESETS, preset


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_dis": 0}, "n_dis must be at least 1, got 0"),
        ({"ema_decay": 1.0}, "ema_decay must be below 1.0, got 1.0"),
        ({"ema_decay": float("nan")}, "ema_decay must be at least 0.0, got nan"),
        ({"steps": 2.5}, "steps must be int, got 2.5"),
        ({"flip": 1}, "flip must be bool, got 1"),
        ({"steps": True}, "steps must be int, got True"),
        ({"loss": "hing"}, "loss must be one of hinge"),
        ({"model.image_size": 33}, "image_size must be one of 28, 32, 48, 64, 128 for standard_cnn, got 33"),
        ({"model.channels": 2}, "channels must be 1 or 3; 2 is for points"),
        ({"model.spectral_norm.iterations": 0}, "iterations must be at least 1, got 0"),
        ({"generator_optimizer.beta2": 1}, "beta2 must be below 1.0, got 1"),
        ({"model.deep": 3}, "unknown option 'deep'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, says: str) -> None:
    with pytest.raises(UserError) as error:
        replace(TrainConfig(), change)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_int_may_stand_for_a_float() -> None:
    assert OptimizerConfig(learning_rate=1).learning_rate == 1


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert config.name == name
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_from_dict_names_what_is_unknown_and_what_is_missing() -> None:
    values = to_dict(TrainConfig())
    values["model"]["colour"] = 1
    with pytest.raises(UserError, match=r"unknown model\.colour"):
        from_dict(TrainConfig, values)
    del values["model"]["colour"], values["seed"]
    with pytest.raises(UserError, match="missing seed"):
        from_dict(TrainConfig, values)
    with pytest.raises(UserError, match="model must be an object"):
        from_dict(TrainConfig, to_dict(TrainConfig()) | {"model": 3})


def test_differences_names_nested_options() -> None:
    other = replace(TrainConfig(), {"model.latent_size": 64, "seed": 3})
    assert differences(TrainConfig(), other) == ["seed: 0 -> 3", "model.latent_size: 128 -> 64"]


def test_every_option_has_a_help_text() -> None:
    def check(kind: type) -> None:
        import dataclasses

        for f in dataclasses.fields(kind):
            nested = dataclasses.is_dataclass(f.default_factory)
            assert nested or len(f.metadata["help"]) > 10, f.name

    for kind in (TrainConfig, RunConfig, ModelConfig, OptimizerConfig):
        check(kind)
    assert "model.spectral_norm.order" in flatten(TrainConfig())


def test_an_unknown_preset_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="unknown preset 'cifar'; there are: celeba64, cifar100_projection, "):
        preset("cifar")
