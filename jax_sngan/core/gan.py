"""GAN: all that decides what one training step computes, as one value; and the GAN that a config names.

The strings of a config are read here, and nowhere else in the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, get_args, get_type_hints

import optax
from flax import nnx
from jax import Array

from jax_sngan.config.schema import AugmentConfig, OptimizerConfig, PenaltyConfig, TrainConfig
from jax_sngan.core import penalties
from jax_sngan.core.augment import augment
from jax_sngan.core.losses import LOSSES, Loss
from jax_sngan.core.optim import adam
from jax_sngan.core.penalties import Penalty, Score
from jax_sngan.models.network import Configured, Make, Networks, check_dtype, network_of
from jax_sngan.system.errors import UserError

BATCH_SIZE, SEED = 64, 0  # of a training that says neither
_ADAM = adam(OptimizerConfig())


@dataclass(frozen=True)
class GAN:
    """All that decides what one training step computes. Batch size, number of steps and seed are the training's.

    Two GANs of equal fields are one GAN to the compiler: the step is compiled once for both. Functions are equal if
    they are the same object, so that a lambda made anew is another GAN.

    Attributes:
      generator: rngs -> nnx.Module: latents [n, latent_size] -> images [n, *image_shape] in [-1, 1].
      discriminator: rngs -> nnx.Module: images [n, *image_shape] -> scores [n]. What else a module's call may take, and
        what it may hold: models.network.Network.
      latent_size: numbers in one latent.
      image_shape: (h, w, c).
      loss: the game. penalty: a term of D's loss beside it.
      generator_optimizer, discriminator_optimizer: any optax.GradientTransformation; it is given the parameters, and
        the training step as `step=` where it takes more arguments. optax's schedules count updates, of which D has
        n_dis a step.
      num_classes: 0: unconditional; else each batch has labels, int in [0, num_classes).
      n_dis: D updates a step. passes, update_order, generator_batch_multiplier, accumulate, weight_clip, ema_decay,
        ema_warmup, precision: as the options of TrainConfig.
      augment: (images [n, h, w, c], key uint32 [2]) -> images, differentiable: of all that D sees.
      dequantize: real pixels get uniform noise of one grey level. flip: real images are mirrored with probability 1/2.
      real_dtype: uint8 in [0, 255], or float32 that the networks take as it is.
      dtype: of what the networks are given.

    Raises:
      UserError: a field that is not what it must be.
    """

    generator: Make
    discriminator: Make
    latent_size: int
    image_shape: tuple[int, int, int]
    loss: Loss = LOSSES["hinge"]
    penalty: Penalty | None = None
    generator_optimizer: optax.GradientTransformation = _ADAM
    discriminator_optimizer: optax.GradientTransformation = _ADAM
    num_classes: int = 0
    n_dis: int = 5
    generator_batch_multiplier: int = 1
    update_order: Literal["discriminator_first", "generator_first"] = "discriminator_first"
    passes: Literal["separate", "joint"] = "separate"
    accumulate: int = 1
    weight_clip: float = 0.0
    ema_decay: float = 0.999
    ema_warmup: bool = False
    augment: Callable[[Array, Array], Array] | None = None
    dequantize: bool = False
    flip: bool = False
    real_dtype: Literal["uint8", "float32"] = "uint8"
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["default", "high", "highest"] = "default"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(GAN).items():
            if (choices := get_args(hint)) and all(isinstance(c, str) for c in choices):
                if getattr(self, name) not in choices:
                    raise UserError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        for name, least in (("latent_size", 1), ("num_classes", 0), ("n_dis", 1), ("accumulate", 1)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise UserError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)!r}")
        if not self.weight_clip >= 0:
            raise UserError(f"weight_clip must be at least 0, got {self.weight_clip}")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if not isinstance(self.loss, Loss):
            raise UserError(f"loss must be a Loss(d, g), got {self.loss!r}")
        if self.penalty is not None and not isinstance(self.penalty, Penalty):
            raise UserError(f"penalty must be a Penalty or None, got {self.penalty!r}")
        for name in ("generator_optimizer", "discriminator_optimizer"):
            if not isinstance(getattr(self, name), optax.GradientTransformation):
                raise UserError(f"{name} must be an optax.GradientTransformation, got {getattr(self, name)!r}")
        for name in ("generator", "discriminator"):
            if isinstance(getattr(self, name), nnx.Module) or not callable(getattr(self, name)):
                kind = type(getattr(self, name)).__name__
                raise UserError(f"{name} must be a function rngs -> nnx.Module, got {kind}")
        sides = self.image_shape
        if not isinstance(sides, tuple) or len(sides) != 3 or not all(isinstance(n, int) and n > 0 for n in sides):
            raise UserError(f"image_shape must be (h, w, c), got {self.image_shape!r}")
        if self.real_dtype != "uint8" and (self.flip or self.dequantize or self.augment):
            raise UserError(f"flip, dequantize and augment are for images of uint8, got real_dtype={self.real_dtype}")
        try:
            hash(self)
        except TypeError as error:
            raise UserError(
                f"every field must be hashable, by which a compiled step is found again: {error}"
            ) from error

    @property
    def networks(self) -> Networks:
        """Both networks taken apart.

        Raises:
          ValueError: dtype is float64 and jax does not have it enabled (models.network.allow_dtype).
        """
        check_dtype(self, "dtype")
        return self._networks

    @property
    def _networks(self) -> Networks:
        return Networks(network_of(self.generator, "generator"), network_of(self.discriminator, "discriminator"))

    @property
    def needs_keys(self) -> bool:
        """Whether an update reads random numbers beside its latents (nn/rng.py)."""
        drawn = self.penalty is not None and bool(self.penalty.draws((1, *self.image_shape)))
        return bool(drawn or self.dequantize or self.augment or any(network.draws for network in self._networks))

    @property
    def images_apart(self) -> bool:
        """Whether D's gradient is the mean of those of the parts of a batch, each taken by itself."""
        alone = self.penalty is None or self.penalty.images_apart
        return self.loss.images_apart and alone and self._networks.discriminator.images_apart


def as_gan(what: GAN | TrainConfig) -> GAN:
    """A GAN as it is; a config's."""
    return what if isinstance(what, GAN) else gan(what)


@lru_cache(maxsize=64)
def gan(config: TrainConfig) -> GAN:
    """The GAN that a config names. Its batch size, seed and data are not in it; its steps are, where a rate falls."""
    m = config.model
    return GAN(
        generator=Configured(m, "generator"),
        discriminator=Configured(m, "discriminator"),
        latent_size=m.latent_size,
        image_shape=(m.image_size, m.image_size, m.channels),
        loss=LOSSES[config.loss],
        penalty=_penalty(config.penalty),
        generator_optimizer=_adam(config.generator_optimizer, config.steps),
        discriminator_optimizer=_adam(config.discriminator_optimizer, config.steps),
        num_classes=m.num_classes,
        n_dis=config.n_dis,
        generator_batch_multiplier=config.generator_batch_multiplier,
        update_order=config.update_order,
        passes=config.passes,
        accumulate=config.accumulate,
        weight_clip=config.weight_clip,
        ema_decay=config.ema_decay,
        ema_warmup=config.ema_warmup,
        augment=_augment(config.augment),
        dequantize=config.dequantize,
        flip=config.flip,
        real_dtype="float32" if m.is_points else "uint8",
        dtype=m.dtype,
        precision=config.precision,
    )


# One object for each value, so that GANs of equal configs are equal.


def _adam(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return adam(config, None if config.schedule == "constant" else steps)


@lru_cache(maxsize=64)
def _augment(config: AugmentConfig) -> Callable[[Array, Array], Array] | None:
    return partial(augment, config) if config.any else None


@lru_cache(maxsize=64)
def _penalty(config: PenaltyConfig) -> Penalty | None:
    def r1(score: Score, real: Array, fake: Array, drawn: dict[str, Array]) -> Array:
        del fake, drawn
        return config.weight * penalties.r1(score, real)

    def gradient_penalty(score: Score, real: Array, fake: Array, drawn: dict[str, Array]) -> Array:
        return config.weight * penalties.gradient_penalty(score, real, fake, drawn["mix"], config.target, config.sides)

    def dragan(score: Score, real: Array, fake: Array, drawn: dict[str, Array]) -> Array:
        del fake
        around, mix = drawn["around"], drawn["mix"]
        return config.weight * penalties.dragan(score, real, around, mix, config.target, config.sides)

    return {
        "none": None,
        "r1": Penalty(r1, images_apart=True),
        "gradient_penalty": Penalty(gradient_penalty, lambda shape: {"mix": shape[:1]}, images_apart=True),
        # Not apart: it reads the batch's standard deviation.
        "dragan": Penalty(dragan, lambda shape: {"mix": shape[:1], "around": shape}),
    }[config.kind]
