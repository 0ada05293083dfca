"""Named configs. Each one's docstring: the command, the hours, the score to expect and whose it is."""

from collections.abc import Callable
from typing import Any

from jax_sngan.config import other_names
from jax_sngan.config.schema import ModelConfig, OptimizerConfig, TrainConfig, replace
from jax_sngan.system.errors import UserError
from jax_sngan.system.nearest import nearest, suggestion


def fashion() -> TrainConfig:
    """Garments of 28 pixels, from the images that ship with the package: the default.

    python scripts/train_jax.py
    5 minutes on 2 cores of a Xeon. As `sngan`, with the batch, the rates, the width of G and the number of steps that
    a search in the same time found (docs/search.md has the scores of three seeds of each). `dcgan`, `wgan` and
    `wgan_gp` have its networks, data, batch, average and time; what differs is the loss, what bounds D, and the rates.
    """
    changes = {
        "name": "fashion",
        "steps": 10_000,
        "batch_size": 16,
        "generator_optimizer.learning_rate": 1.6e-3,
        "discriminator_optimizer.learning_rate": 8e-4,
        "model.generator_width": 24,
    }
    return replace(sngan(), changes)


def sngan() -> TrainConfig:
    """Spectral norm and the hinge loss (Miyato et al. 2018) on garments of 28 pixels, in batches of 64.

    python scripts/train_jax.py sngan
    5 minutes on 2 cores of a Xeon. What `fashion` was before its settings were searched for (docs/search.md).
    """
    optimizer = OptimizerConfig(learning_rate=4e-4, beta1=0.0, beta2=0.9, schedule="linear")
    return TrainConfig(
        name="sngan",
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


def dcgan() -> TrainConfig:
    """The standard GAN in DCGAN's form: batch normalisation in both networks, nothing that bounds D.

    python scripts/train_jax.py dcgan
    As long as `fashion`. The non-saturating loss of Goodfellow et al. 2014, Adam's betas of Radford et al. 2016; their
    rate is 2e-4 (docs/search.md has the scores of both). No score was published for garments.
    """
    changes = {"model.discriminator_norm": "batch"}
    return _relative("dcgan", "non_saturating", 1.6e-3, changes, steps=9200, beta1=0.5, beta2=0.999)


def wgan() -> TrainConfig:
    """WGAN: D's weights clipped to +-0.01, five D updates for one of G.

    python scripts/train_jax.py wgan
    As long as `fashion`. Arjovsky et al. 2017, Algorithm 1, with Adam without momentum for their RMSProp; their rate is
    5e-5 (docs/search.md has the scores of both). No score was published for garments.
    """
    changes = {"weight_clip": 0.01, "n_dis": 5, "model.discriminator_norm": "batch"}
    return _relative("wgan", "wasserstein", 8e-4, changes, steps=3150)


def wgan_gp() -> TrainConfig:
    """WGAN-GP: a penalty of 10 on D's gradient between real and generated images, five D updates for one of G.

    python scripts/train_jax.py wgan_gp
    As long as `fashion`. Gulrajani et al. 2017, Algorithm 1, layer normalisation in D as in their section 4; their rate
    is 1e-4 (docs/search.md has the scores of both). No score was published for garments; on CIFAR-10 torch-mimicry
    reports FID 22.29 (50,000 against 50,000).
    """
    changes = {"penalty.kind": "gradient_penalty", "n_dis": 5, "model.discriminator_norm": "layer"}
    return _relative("wgan_gp", "wasserstein", 1.6e-3, changes, steps=2000)


def _relative(
    name: str, loss: str, rate: float, changes: dict[str, Any], *, steps: int, beta1: float = 0.0, beta2: float = 0.9
) -> TrainConfig:
    """`fashion` with another loss, without spectral norm: the steps that take as long, the rate that a search found."""
    optimizer = OptimizerConfig(learning_rate=rate, beta1=beta1, beta2=beta2, schedule="linear")
    optimizers = {"generator_optimizer": optimizer, "discriminator_optimizer": optimizer}
    unbounded = {"name": name, "loss": loss, "steps": steps, "model.spectral_norm.networks": "none"}
    return replace(fashion(), unbounded | optimizers | changes)


def points() -> TrainConfig:
    """25 Gaussians in the plane by fully connected networks, spectral norm and the hinge loss: training in a minute.

    python scripts/train_jax.py points
    Another mixture: --data ring. The pictures are the generated points; scripts/compare_gans.py counts the modes.
    """
    adam = OptimizerConfig(learning_rate=1e-3, beta1=0.0, beta2=0.9)
    return TrainConfig(
        name="points",
        data="grid",
        steps=5000,
        batch_size=256,
        n_dis=1,
        ema_decay=0.99,
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        model=ModelConfig(
            architecture="mlp",
            image_size=1,
            channels=2,
            latent_size=2,
            generator_width=128,
            discriminator_width=128,
            output="identity",
            generator_norm="none",
        ),
    )


def cifar10_cnn() -> TrainConfig:
    """The standard CNN on CIFAR-10 (Miyato et al. 2018, Table 3, with the hinge loss; Adam as their setting C).

    python scripts/train_jax.py cifar10_cnn
    At least 26 hours on 2 cores (a step is 1.9 s of one core's time, measured); a GPU is what it is for.
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
    Not for 2 cores: a step is 22 s of one core's time (docs/performance.md), the run a week of both. A GPU is what it
    is for.
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


def cifar10_projection() -> TrainConfig:
    """Class-conditional CIFAR-10: conditional BatchNorm in G, projection in D (Miyato & Koyama 2018).

    python scripts/train_jax.py cifar10_projection
    A GPU is what it is for. Published at 50,000 against 50,000: FID 8.12 by mmgeneration, 10.84 by torch-mimicry, 13.25
    by StudioGAN. Not reproduced here yet.
    """
    return replace(
        cifar10_resnet(),
        {"name": "cifar10_projection", "steps": 100_000, "model.num_classes": 10, "model.score_bias": True},
    )


def cifar100_projection() -> TrainConfig:
    """The same on the hundred fine classes of CIFAR-100.

    python scripts/train_jax.py cifar100_projection
    A GPU is what it is for. torch-mimicry's unconditional network reaches FID 22.61 at 50,000 against 50,000; no
    conditional score is known to us.
    """
    return replace(cifar10_projection(), {"name": "cifar100_projection", "data": "cifar100", "model.num_classes": 100})


def stl10_resnet() -> TrainConfig:
    """STL-10 at 48 pixels: give its 100,000 unlabelled images as a folder, `--data stl10`.

    python scripts/train_jax.py stl10_resnet --data FOLDER
    A GPU is what it is for. torch-mimicry reports FID 39.56 at 50,000 against 50,000. Not reproduced here yet.
    """
    return _large("stl10_resnet", "stl10", 48, 512)


def celeba64() -> TrainConfig:
    """CelebA's faces at 64 pixels, from a folder of the aligned images.

    python scripts/train_jax.py celeba64 --data FOLDER
    A GPU is what it is for. torch-mimicry reports FID 5.71 at 50,000 against 50,000. Not reproduced here yet.
    """
    return _large("celeba64", "celeba", 64, 1024)


def lsun128() -> TrainConfig:
    """LSUN's bedrooms at 128 pixels, from a folder.

    python scripts/train_jax.py lsun128 --data FOLDER
    A large GPU is what it is for. torch-mimicry reports FID 25.87 at 50,000 against 50,000. Not reproduced here yet.
    """
    return _large("lsun128", "lsun_bedroom", 128, 1024)


def imagenet128_projection() -> TrainConfig:
    """ImageNet's thousand classes at 128 pixels (Miyato & Koyama 2018), from a folder with one folder a class.

    python scripts/train_jax.py imagenet128_projection --data FOLDER
    For several large GPUs or a TPU: batch 256, five D updates a step, 450,000 steps. mmgeneration reports inception
    score 30.1 and FID 33.5 for this network. Not reproduced here yet.
    """
    return replace(
        _large("imagenet128_projection", "imagenet", 128, 1024),
        {
            "steps": 450_000,
            "batch_size": 256,
            "generator_optimizer.decay_start": 400_000,
            "discriminator_optimizer.decay_start": 400_000,
            "model.num_classes": 1000,
        },
    )


def _large(name: str, data: str, image_size: int, generator_width: int) -> TrainConfig:
    """The networks of torch-mimicry and the authors for larger images, with torch-mimicry's settings."""
    return replace(
        cifar10_resnet(),
        {
            "name": name,
            "data": data,
            "steps": 100_000,
            "generator_batch_multiplier": 1,
            "model.image_size": image_size,
            "model.generator_width": generator_width,
            "model.discriminator_width": 1024,
            "model.score_bias": True,
        },
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    make.__name__: make
    for make in (
        *(fashion, sngan, dcgan, wgan, wgan_gp, points),
        *(cifar10_cnn, cifar10_resnet, cifar10_projection, cifar100_projection),
        *(stl10_resnet, celeba64, lsun128, imagenet128_projection),
    )
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
        near = suggestion(nearest(name, names(), other_names.PRESETS))
        raise UserError(f"unknown preset {name!r}; {near + ' ' if near else ''}there are: {', '.join(names())}")
    return PRESETS[name]()
