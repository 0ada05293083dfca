"""Every option has a type, a range and a place; what does not fit is refused by name."""

import json
from typing import get_args, get_type_hints

import pytest

from jax_sngan.config.architectures import ARCHITECTURES
from jax_sngan.config.presets import PRESETS, preset
from jax_sngan.config.schema import (
    AugmentConfig,
    ModelConfig,
    OptimizerConfig,
    PenaltyConfig,
    RunConfig,
    SpectralNormConfig,
    TrainConfig,
    differences,
    flatten,
    from_dict,
    replace,
    to_dict,
)
from jax_sngan.system.errors import UserError


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
        ({"model.dept": 3}, "unknown option 'dept'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, says: str) -> None:
    with pytest.raises(UserError) as error:
        replace(TrainConfig(), change)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


CLIPPED = {"weight_clip": 0.01, "model.spectral_norm.networks": "none"}
POINTS = {
    "model.architecture": "mlp",
    "model.image_size": 1,
    "model.channels": 2,
    "model.output": "identity",
    "model.generator_norm": "none",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.spectral_norm.target": 0.0}, ("spectral_norm.target must be above 0, got 0",)),
        ({"model.spectral_norm.target": -1.0}, ("target must be at least 0.0, got -1.0",)),
        *(
            (
                {"model.spectral_norm.form": "operator", f"model.spectral_norm.{name}": value},
                (f"spectral_norm.{name}", "power iteration", "form=operator", f"got {value}"),
            )
            for name, value in (
                ("iterations", 2),
                ("order", "u_first"),
                ("eps", 1e-8),
                ("eps_form", "add"),
                ("init", "normal"),
                ("warmup", 15),
                ("evaluation", "iterate"),
            )
        ),
        ({**POINTS, "model.architecture": "standard_cnn"}, ("image_size must be one of 28", "for standard_cnn, got 1")),
        ({**POINTS, "model.image_size": 2}, ("channels must be 1 or 3; 2 is for points", "image_size=1")),
        ({**POINTS, "model.output": "tanh"}, ("channels must be 1 or 3; 2 is for points", "output=identity")),
        ({"model.channels": 4}, ("channels must be below 4, got 4",)),
        (
            {"model.num_classes": 10, "model.generator_norm": "none"},
            ("generator_norm must be batch", "num_classes=10", "told its class"),
        ),
        ({"model.num_classes": 10, "model.architecture": "mlp"}, ("num_classes must be 0 for mlp, got 10",)),
        (
            {"model.compute_dtype": "bfloat16", "model.dtype": "float64"},
            ("compute_dtype must be same", "dtype=float64", "got bfloat16"),
        ),
        ({"weight_clip": 0.01}, ("weight_clip must be 0 with spectral norm", "got 0.01", "networks=none")),
        (
            {"weight_clip": 0.01, "model.spectral_norm.networks": "both"},
            ("weight_clip must be 0 with spectral norm", "got 0.01"),
        ),
        *(
            (
                {**CLIPPED, "penalty.kind": kind},
                ("weight_clip must be 0", f"penalty.kind={kind}", "got 0.01", "take one"),
            )
            for kind in ("gradient_penalty", "r1", "dragan")
        ),
        *(
            (
                {"model.discriminator_norm": "batch", "penalty.kind": kind},
                ("model.discriminator_norm must be none or layer", f"penalty.kind={kind}", "got batch", "ties"),
            )
            for kind in ("gradient_penalty", "r1", "dragan")
        ),
        *(
            (
                {"model.architecture": "resnet", "model.image_size": size, f"model.{network}_width": least - 1},
                (f"{network}_width must be at least {least}", f"{size} pixels", f"got {least - 1}"),
            )
            for size, network, least in ((48, "generator", 8), (48, "discriminator", 16), (128, "generator", 16))
        ),
        ({"batch_size": 6, "accumulate": 4}, ("accumulate must divide batch_size 6, got 4",)),
        ({**POINTS, "flip": True}, ("flip, dequantize and augment are for images", "channels=2 is points")),
        ({**POINTS, "dequantize": True}, ("are for images",)),
        ({**POINTS, "augment.cutout": 0.5}, ("are for images",)),
    ],
)
def test_options_that_exclude_each_other(change: dict, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        replace(TrainConfig(), change)
    assert "\n" not in str(error.value)
    for part in words:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"model.spectral_norm.form": "operator", "model.spectral_norm.target": 2.0},
        POINTS,
        {"model.num_classes": 10, "model.discriminator_norm": "batch"},
        {"model.compute_dtype": "bfloat16"},
        CLIPPED,
        {"model.discriminator_norm": "layer", "penalty.kind": "r1"},
        {"batch_size": 6, "accumulate": 3},
        {"flip": True, "dequantize": True, "augment.cutout": 0.5},
        {
            "model.architecture": "resnet",
            "model.image_size": 48,
            "model.generator_width": 8,
            "model.discriminator_width": 16,
        },
    ],
    ids=lambda change: ", ".join(change),
)
def test_their_neighbours_are_allowed(change: dict) -> None:
    assert from_dict(TrainConfig, to_dict(replace(TrainConfig(), change))) == replace(TrainConfig(), change)


def test_what_is_known_of_architectures_is_of_those_that_there_are() -> None:
    from jax_sngan.models import network

    allowed = get_args(get_type_hints(ModelConfig)["architecture"])
    assert list(ARCHITECTURES) == list(network.ARCHITECTURES) == list(allowed)
    assert ARCHITECTURES["resnet"].least_widths == {28: (1, 1), 32: (1, 1), 48: (8, 16), 64: (16, 16), 128: (16, 16)}


def test_what_needs_keys() -> None:
    for change, needs in (
        ({}, False),
        ({"penalty.kind": "r1"}, False),
        ({"penalty.kind": "gradient_penalty"}, True),
        ({"penalty.kind": "dragan"}, True),
        ({"dequantize": True}, True),
        ({"augment.colour": True}, True),
        ({"augment.translation": 0.1}, True),
        ({"model.generator_dropout": 0.1}, True),
        ({"model.discriminator_dropout": 0.1}, True),
    ):
        assert replace(TrainConfig(), change).needs_keys is needs, change


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

    for kind in (
        TrainConfig,
        RunConfig,
        ModelConfig,
        SpectralNormConfig,
        OptimizerConfig,
        PenaltyConfig,
        AugmentConfig,
    ):
        check(kind)
    assert "model.spectral_norm.order" in flatten(TrainConfig())


def test_an_unknown_preset_lists_what_there_is() -> None:
    with pytest.raises(
        UserError, match=r"unknown preset 'cifar'; did you mean cifar10_cnn, .*\? there are: celeba64, "
    ):
        preset("cifar")
