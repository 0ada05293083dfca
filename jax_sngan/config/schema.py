"""Every option once: its default, its meaning, its unit and its check. Imports neither jax nor torch."""

from dataclasses import dataclass, field
from typing import Literal

from jax_sngan.config import class_names
from jax_sngan.config.architectures import ARCHITECTURES
from jax_sngan.config.fields import Options, differences, flatten, from_dict, option, replace, to_dict
from jax_sngan.config.run_config import RunConfig
from jax_sngan.config.spectral_norm import SpectralNormConfig
from jax_sngan.system.errors import UserError

__all__ = [
    "AugmentConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PenaltyConfig",
    "RunConfig",
    "SpectralNormConfig",
    "TrainConfig",
    # what can be done with any of them (config/fields.py)
    "differences",
    "flatten",
    "from_dict",
    "replace",
    "to_dict",
]


@dataclass(frozen=True)
class ModelConfig(Options):
    """The two networks."""

    architecture: Literal["standard_cnn", "resnet", "mlp"] = option(
        "standard_cnn", "Miyato 2018: Table 3, or Table 4; or fully connected layers"
    )
    image_size: int = option(32, "pixels a side", minimum=1)
    channels: int = option(3, "1 (grey) or 3 (RGB); 2: points of the plane, one pixel each", minimum=1, below=4)
    latent_size: int = option(128, "numbers in one latent", minimum=1)
    num_classes: int = option(0, "0: unconditional; else conditional BatchNorm and projection", minimum=0)
    generator_width: int = option(
        64, "standard_cnn: channels at full resolution; resnet: in the first block; mlp: of every layer", minimum=1
    )
    discriminator_width: int = option(
        64, "standard_cnn: channels at full resolution; resnet: in the last block; mlp: of every layer", minimum=1
    )
    depth: int = option(3, "mlp: hidden layers of each network", minimum=1)
    output: Literal["tanh", "identity"] = option("tanh", "what the generator's last layer goes through")
    generator_norm: Literal["batch", "none"] = option("batch", "normalisation in the generator")
    discriminator_norm: Literal["none", "batch", "layer"] = option(
        "none", "normalisation in the discriminator: DCGAN has batch, WGAN-GP layer"
    )
    generator_dropout: float = option(0.0, "share of activations that a training pass drops", minimum=0.0, below=1.0)
    discriminator_dropout: float = option(
        0.0, "share of activations that a training pass drops", minimum=0.0, below=1.0
    )
    upsampling: Literal["nearest", "bilinear"] = option("nearest", "resnet: how a generator block doubles its map")
    score_bias: bool = option(True, "D's last linear layer has a bias")
    shortcut_input: Literal["raw", "activated"] = option(
        "raw", "resnet D: the shortcut sees the block's input, or its ReLU (mimicry's in-place ReLU)"
    )
    batch_norm_eps: float = option(1e-5, "added to the batch variance", minimum=0.0)
    batch_norm_momentum: float = option(
        0.1, "share of the batch in a running statistic (torch's convention)", minimum=0.0
    )
    spectral_norm: SpectralNormConfig = field(default_factory=SpectralNormConfig)
    dtype: Literal["float32", "float64"] = option("float32", "of parameters, sigma and batch statistics")
    compute_dtype: Literal["same", "bfloat16"] = option("same", "of the convolutions and matrix products")

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ARCHITECTURES[self.architecture]
        if known.image_sizes is not None and self.image_size not in known.image_sizes:
            sizes = ", ".join(map(str, known.image_sizes))
            raise UserError(f"image_size must be one of {sizes} for {self.architecture}, got {self.image_size}")
        widths = known.least_widths.get(self.image_size, (1, 1))
        for name, least in zip(("generator_width", "discriminator_width"), widths, strict=True):
            if getattr(self, name) < least:
                raise UserError(
                    f"{name} must be at least {least} for a {self.architecture} of {self.image_size} pixels, "
                    f"got {getattr(self, name)}"
                )
        if self.is_points and (known.points, self.image_size, self.output) != (True, 1, "identity"):
            raise UserError("channels must be 1 or 3; 2 is for points: architecture=mlp, image_size=1, output=identity")
        if self.num_classes and self.generator_norm == "none":
            raise UserError(
                f"generator_norm must be batch where there are classes, got none with num_classes={self.num_classes}: "
                "conditional BatchNorm is how the generator is told its class"
            )
        if self.num_classes and not known.classes:
            raise UserError(f"num_classes must be 0 for {self.architecture}, got {self.num_classes}")
        if self.compute_dtype == "bfloat16" and self.dtype == "float64":
            raise UserError("compute_dtype must be same with dtype=float64, got bfloat16")

    @property
    def is_points(self) -> bool:
        """Whether what is generated are points of the plane, float32 [n, 1, 1, 2], and no images."""
        return self.channels == 2

    def spectral_norm_of(self, network: str) -> SpectralNormConfig | None:
        """The spectral norm of "generator" or "discriminator", or None."""
        return self.spectral_norm if self.spectral_norm.networks in (network, "both") else None


@dataclass(frozen=True)
class OptimizerConfig(Options):
    """Adam (Kingma & Ba 2015). The defaults are the SN-GAN authors' settings."""

    learning_rate: float = option(2e-4, "of the first step", minimum=0.0)
    beta1: float = option(0.0, "decay of the first moment", minimum=0.0, below=1.0)
    beta2: float = option(0.9, "decay of the second moment", minimum=0.0, below=1.0)
    eps: float = option(1e-8, "added to the root of the second moment", minimum=0.0)
    eps_form: Literal["standard", "epsilon_hat"] = option(
        "standard",
        "eps beside the bias-corrected root (torch), or beside the raw one (Chainer; Kingma & Ba, section 2)",
    )
    schedule: Literal["constant", "linear", "cosine"] = option(
        "constant", "linear, cosine: falls from learning_rate to 0 over the run's steps"
    )
    decay_start: int = option(0, "linear, cosine: the step at which the fall begins", minimum=0)


@dataclass(frozen=True)
class PenaltyConfig(Options):
    """A penalty on the norm of D's gradient, a term of D's loss (core/penalties.py)."""

    kind: Literal["none", "gradient_penalty", "r1", "dragan"] = option(
        "none", "where the norm is taken: between real and generated images (WGAN-GP), at real ones, around real ones"
    )
    weight: float = option(10.0, "of the penalty; r1: half of it, as in the paper", minimum=0.0)
    target: float = option(1.0, "gradient_penalty, dragan: the norm that costs nothing", minimum=0.0)
    sides: Literal["two", "one"] = option("two", "gradient_penalty, dragan: one leaves norms below the target alone")


@dataclass(frozen=True)
class AugmentConfig(Options):
    """Differentiable augmentation of all that D sees (Zhao et al. 2020, DiffAugment)."""

    colour: bool = option(False, "random brightness, saturation and contrast")
    translation: float = option(0.0, "largest shift, as a share of the image; the paper: 0.125", minimum=0.0, below=1.0)
    cutout: float = option(
        0.0, "side of the square set to grey, as a share of the image; the paper: 0.5", minimum=0.0, below=1.0
    )

    @property
    def any(self) -> bool:
        """Whether something is on."""
        return self != AugmentConfig()


@dataclass(frozen=True)
class TrainConfig(Options):
    """All that decides the numbers of a run. Where and how often results are written is RunConfig."""

    name: str = option("custom", "the preset's name")
    data: str = option(
        "fashion",
        "fashion, fashion_mnist, mnist, cifar10, cifar100, stacked_fashion, stacked_mnist, FILE.npz or FOLDER; "
        "points: grid, ring",
    )
    class_names: str = option(
        "",
        "names of the classes in the order of their numbers, as a,b,c or a JSON list; empty: as the data name them",
        before="",
    )
    flip: bool = option(False, "mirror each real image left to right with probability 1/2")
    steps: int = option(10_000, "training steps, each n_dis D updates and one G update", minimum=1)
    batch_size: int = option(64, "real images in one D update", minimum=1)
    seed: int = option(0, "of weights, latents and the order of images", minimum=0, below=2**32)
    dequantize: bool = option(False, "real pixels get uniform noise of one grey level")
    loss: Literal[
        "hinge",
        "minimax",
        "non_saturating",
        "non_saturating_eps",
        "wasserstein",
        "least_squares",
        "relativistic_hinge",
        "relativistic_non_saturating",
    ] = option("hinge", "the pair of losses (core/losses.py)")
    n_dis: int = option(5, "D updates a step", minimum=1)
    generator_batch_multiplier: int = option(1, "latents in a G update, in units of batch_size", minimum=1)
    update_order: Literal["discriminator_first", "generator_first"] = option(
        "discriminator_first", "what a training step does first"
    )
    passes: Literal["separate", "joint"] = option(
        "separate", "D sees real and generated images in two passes (two power iterations), or as one batch (one)"
    )
    precision: Literal["default", "high", "highest"] = option(
        "default",
        "how many bits of float32 factors a GPU or TPU multiplies (docs/precision.md); the power iteration always: all",
        before="default",
    )
    accumulate: int = option(1, "parts that a batch is computed in, one after another, to save memory", minimum=1)
    weight_clip: float = option(0.0, "D's parameters are clipped to +- this after its update; 0: not", minimum=0.0)
    ema_decay: float = option(0.999, "of the averaged generator; 0: it equals the generator", minimum=0.0, below=1.0)
    ema_warmup: bool = option(False, "step t (from 0) averages with min(ema_decay, (1 + t) / (10 + t))")
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        m = self.model
        if self.weight_clip and m.spectral_norm_of("discriminator"):
            raise UserError(
                f"weight_clip must be 0 with spectral norm in D, got {self.weight_clip}: clipping bounds kernels that "
                "are then divided by their norm; model.spectral_norm.networks=none clips alone"
            )
        if self.weight_clip and self.penalty.kind != "none":
            raise UserError(
                f"weight_clip must be 0 with penalty.kind={self.penalty.kind}, got {self.weight_clip}: "
                "both are there to bound D's gradient; take one"
            )
        if self.penalty.kind != "none" and m.discriminator_norm == "batch":
            raise UserError(
                f"model.discriminator_norm must be none or layer with penalty.kind={self.penalty.kind}, got batch: the "
                "penalty is on each image's own gradient, and batch normalisation ties the images together "
                "(Gulrajani et al. 2017, section 4)"
            )
        class_names.check(self.class_names, m.num_classes)
        if self.batch_size % self.accumulate:
            raise UserError(f"accumulate must divide batch_size {self.batch_size}, got {self.accumulate}")
        if m.is_points and (self.flip or self.dequantize or self.augment.any):
            raise UserError("flip, dequantize and augment are for images; model.channels=2 is points")

    @property
    def generator_batch(self) -> int:
        """Latents in one G update."""
        return self.batch_size * self.generator_batch_multiplier

    @property
    def needs_keys(self) -> bool:
        """Whether an update reads random numbers beside its latents (nn/rng.py)."""
        dropout = self.model.generator_dropout or self.model.discriminator_dropout
        random_points = self.penalty.kind in ("gradient_penalty", "dragan")
        return bool(dropout or random_points or self.dequantize or self.augment.any)
