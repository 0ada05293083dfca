"""The narrow networks and the short runs that the rungs share: small enough to compile in seconds."""

from typing import Any

from jax_sngan.config.schema import ModelConfig, TrainConfig, replace

BASE = replace(
    TrainConfig(),
    {
        "precision": "highest",
        "batch_size": 4,
        "n_dis": 1,
        "steps": 8,
        "model.image_size": 28,
        "model.channels": 1,
        "model.latent_size": 8,
        "model.generator_width": 4,
        "model.discriminator_width": 4,
        "model.dtype": "float64",
    },
)
# Changes of BASE.
RESNET = {"model.architecture": "resnet", "model.image_size": 32, "model.channels": 3, "model.num_classes": 10}
EPSILON_HAT = {"generator_optimizer.eps_form": "epsilon_hat", "discriminator_optimizer.eps_form": "epsilon_hat"}
U_FIRST = {"model.spectral_norm.order": "u_first", "model.spectral_norm.warmup": 15}


def model(architecture: str, image_size: int, channels: int, num_classes: int, **options: Any) -> ModelConfig:
    """A narrow network in float64; options by their names in ModelConfig.

    The ResNet's plans for 48 pixels and more divide the width by up to 16, and a kernel of a single number over its
    norm is a constant: its gradient is zero, and only rounding would be compared.
    """
    width = 32 if architecture == "resnet" and image_size > 32 else 4
    return ModelConfig(
        architecture=architecture,
        image_size=image_size,
        channels=channels,
        num_classes=num_classes,
        latent_size=8,
        generator_width=width,
        discriminator_width=width,
        dtype="float64",
        **options,
    )
