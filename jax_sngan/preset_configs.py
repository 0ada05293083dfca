"""Named configs. Each one's docstring: the command, the hours, the score to expect and whose it is."""

from collections.abc import Callable

from jax_sngan.config import ModelConfig, OptimizerConfig, TrainConfig
from jax_sngan.errors import UserError


def fashion() -> TrainConfig:
    """Garments of 28 pixels, from the images that ship with the package: the default.

    python scripts/train_jax.py
    7 minutes on 2 cores (3,500 steps). Of 5,000 samples each of the ten classes has 6 % or more, by a classifier of
    another program; docs/results.md has the distances and how to get them again.
    """
    optimizer = OptimizerConfig(learning_rate=4e-4, beta1=0.0, beta2=0.9, schedule="linear")
    return TrainConfig(
        name="fashion",
        data="fashion",
        steps=3500,
        batch_size=64,
        n_dis=1,
        loss="hinge",
        ema_decay=0.998,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        model=ModelConfig(
            architecture="standard_cnn", image_size=28, channels=1, generator_width=16, discriminator_width=16
        ),
    )


def cifar10_cnn() -> TrainConfig:
    """The standard CNN on CIFAR-10 (Miyato et al. 2018, Table 3, with the hinge loss; Adam as their setting C).

    python scripts/train_jax.py cifar10_cnn
    84 hours on 2 cores (3.0 s a step, measured); a GPU is what it is for.
    Published by Miyato et al. 2018, Table 2: inception score 7.58, FID 25.5 with the hinge loss (7.42 and 29.3
    without), of 5,000 images against 10,000. Not reproduced here yet.
    """
    optimizer = OptimizerConfig(learning_rate=2e-4, beta1=0.5, beta2=0.999)
    return TrainConfig(
        name="cifar10_cnn",
        data="cifar10",
        flip=True,
        steps=100_000,
        batch_size=64,
        n_dis=1,
        loss="hinge",
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        model=ModelConfig(architecture="standard_cnn", image_size=32, generator_width=64, discriminator_width=64),
    )


def cifar10_resnet() -> TrainConfig:
    """The authors' ResNet on CIFAR-10 (Miyato et al. 2018, Table 4): widths 256 and 128, five D updates a step.

    python scripts/train_jax.py cifar10_resnet
    Not for 2 cores: a step there takes over a minute, the run over a month. A GPU is what it is for.
    Published by Miyato et al. 2018, Table 2: inception score 8.22, FID 21.7, of 5,000 images against 10,000; by
    pytorch-gan-collections 8.31 and 14.32, of 50,000 against 50,000. Not reproduced here yet.
    """
    optimizer = OptimizerConfig(learning_rate=2e-4, beta1=0.0, beta2=0.9, schedule="linear")
    return TrainConfig(
        name="cifar10_resnet",
        data="cifar10",
        flip=True,
        steps=50_000,
        batch_size=64,
        generator_batch_multiplier=2,
        n_dis=5,
        loss="hinge",
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        model=ModelConfig(
            architecture="resnet", image_size=32, generator_width=256, discriminator_width=128, score_bias=False
        ),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "fashion": fashion,
    "cifar10_cnn": cifar10_cnn,
    "cifar10_resnet": cifar10_resnet,
}


def names() -> list[str]:
    """The presets' names, sorted."""
    return sorted(PRESETS)


def preset(name: str) -> TrainConfig:
    """The config of a preset.

    Raises:
      UserError: there is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; there are: {', '.join(names())}")
    return PRESETS[name]()
