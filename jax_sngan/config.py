"""Every option once: its default, its meaning, its unit and its check. Imports neither jax nor torch."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jax_sngan.errors import UserError


def option(default: Any, help: str, *, minimum: float | None = None, below: float | None = None) -> Any:
    """A dataclass field that carries its help text and its range, minimum <= value < below."""
    return field(default=default, metadata={"help": help, "minimum": minimum, "below": below})


class Options:
    """Base of the dataclasses below: checks every field when one is made.

    Raises:
      UserError: a value is of another type, out of its range, or not among its choices.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            _check(f.name, getattr(self, f.name), hints[f.name], f.metadata)


def _check(name: str, value: Any, hint: Any, metadata: Any) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise UserError(f"{name} must be one of {', '.join(map(str, get_args(hint)))}; got {value!r}")
        return
    kinds = get_args(hint) or (hint,)  # `str | None` has two
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        if not (float in kinds and isinstance(value, int) and not isinstance(value, bool)):
            expected = " or ".join("none" if k is type(None) else k.__name__ for k in kinds)
            raise UserError(f"{name} must be {expected}, got {value!r}")
    minimum, below = metadata.get("minimum"), metadata.get("below")
    if minimum is not None and not value >= minimum:  # `not >=` also refuses NaN
        raise UserError(f"{name} must be at least {minimum}, got {value}")
    if below is not None and not value < below:
        raise UserError(f"{name} must be below {below}, got {value}")


@dataclass(frozen=True)
class SpectralNormConfig(Options):
    """How sigma is estimated (Miyato et al. 2018, Algorithm 1). The default computes what
    torch.nn.utils.spectral_norm does; order=u_first with warmup=15 is torch's parametrizations.spectral_norm (whose
    layers made in training mode start with one iteration more)."""

    iterations: int = option(1, "power iterations a training pass", minimum=1)
    order: Literal["v_first", "u_first"] = option("v_first", "which vector one iteration renews first")
    eps: float = option(1e-12, "guards the division of a vector by its norm", minimum=0.0)
    eps_form: Literal["max", "add"] = option("max", "divide by max(norm, eps) as torch, or by norm + eps as Chainer")
    init: Literal["unit", "normal"] = option("unit", "u and v start as unit vectors, or as raw N(0, 1)")
    warmup: int = option(0, "power iterations when a layer is made", minimum=0)
    evaluation: Literal["stored", "iterate"] = option(
        "stored", "evaluation uses u and v as they are, or after one more iteration that is not kept"
    )


@dataclass(frozen=True)
class ModelConfig(Options):
    """The two networks."""

    architecture: Literal["standard_cnn", "resnet"] = option("standard_cnn", "Miyato 2018: Table 3, or Table 4")
    image_size: int = option(32, "pixels a side", minimum=1)
    channels: int = option(3, "1 (grey) or 3 (RGB)", minimum=1, below=4)
    latent_size: int = option(128, "numbers in one latent", minimum=1)
    num_classes: int = option(0, "0: unconditional; else conditional BatchNorm and projection", minimum=0)
    generator_width: int = option(
        64, "standard_cnn: channels at full resolution; resnet: in the first block", minimum=1
    )
    discriminator_width: int = option(
        64, "standard_cnn: channels at full resolution; resnet: in the last block", minimum=1
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
    dtype: Literal["float32", "float64"] = option("float32", "of parameters and computation")

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {"standard_cnn": (28, 32, 48, 64), "resnet": (32, 48, 64, 128)}[self.architecture]
        if self.image_size not in sizes:
            raise UserError(
                f"image_size must be one of {', '.join(map(str, sizes))} for {self.architecture}, got {self.image_size}"
            )
        if self.channels == 2:
            raise UserError("channels must be 1 or 3, got 2")


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
    schedule: Literal["constant", "linear"] = option(
        "constant", "linear: falls from learning_rate to 0 over the run's steps"
    )
    decay_start: int = option(0, "linear: the step at which the fall begins", minimum=0)


@dataclass(frozen=True)
class TrainConfig(Options):
    """All that decides the numbers of a run. Where and how often results are written is RunConfig."""

    name: str = option("custom", "the preset's name")
    data: str = option("fashion", "images: fashion, fashion_mnist, mnist, cifar10, cifar100, FILE.npz or FOLDER")
    flip: bool = option(False, "mirror each real image left to right with probability 1/2")
    steps: int = option(10_000, "training steps, each n_dis D updates and one G update", minimum=1)
    batch_size: int = option(64, "real images in one D update", minimum=1)
    seed: int = option(0, "of weights, latents and the order of images", minimum=0, below=2**32)
    loss: Literal["hinge", "non_saturating", "non_saturating_eps", "wasserstein"] = option(
        "hinge", "the pair of losses (losses.py)"
    )
    n_dis: int = option(5, "D updates a step", minimum=1)
    generator_batch_multiplier: int = option(1, "latents in a G update, in units of batch_size", minimum=1)
    update_order: Literal["discriminator_first", "generator_first"] = option(
        "discriminator_first", "what a training step does first"
    )
    passes: Literal["separate", "joint"] = option(
        "separate", "D sees real and generated images in two passes (two power iterations), or as one batch (one)"
    )
    ema_decay: float = option(0.999, "of the averaged generator; 0: it equals the generator", minimum=0.0, below=1.0)
    model: ModelConfig = field(default_factory=ModelConfig)
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    @property
    def generator_batch(self) -> int:
        """Latents in one G update."""
        return self.batch_size * self.generator_batch_multiplier


@dataclass(frozen=True)
class RunConfig(Options):
    """Where a run is kept and how often it writes. Nothing here changes what is computed."""

    workdir: str | None = option(None, "folder of the run; default: runs/PRESET")
    data_dir: str | None = option(
        None, "folder that holds the data set's original files; default: looked for, then downloaded"
    )
    log_every: int = option(50, "steps between two lines of metrics.jsonl", minimum=1)
    sample_every: int = option(500, "steps between two sample grids; 0: none", minimum=0)
    checkpoint_every: int = option(500, "steps between two checkpoints; 0: only the last", minimum=0)
    keep_checkpoints: int = option(2, "how many of the latest checkpoints stay", minimum=1)
    resume: Literal["auto", "never", "must"] = option(
        "auto",
        "auto: go on where there is a checkpoint; never: refuse a workdir that has one; must: refuse one without",
    )
    mesh: str | None = option(None, "devices to share each batch, as data=N; default: one device")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, as config.json holds it."""
    return dataclasses.asdict(config)


def from_dict(kind: type, values: Any, where: str = "") -> Any:
    """The inverse of to_dict.

    Raises:
      UserError: an unknown or missing entry, or a value that the option does not allow.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where.removesuffix('.') or 'config'} must be an object, got {type(values).__name__}")
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    for wrong, what in ((sorted(set(values) - set(names)), "unknown"), (sorted(set(names) - set(values)), "missing")):
        if wrong:
            raise UserError(f"config: {what} {', '.join(where + str(w) for w in wrong)}")
    return kind(
        **{
            n: from_dict(hints[n], values[n], f"{where}{n}.") if dataclasses.is_dataclass(hints[n]) else values[n]
            for n in names
        }
    )


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted option name -> value, nested dataclasses opened."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat


def replace(config: Any, changes: dict[str, Any]) -> Any:
    """config with dotted options changed: {"steps": 100, "model.latent_size": 64}.

    Raises:
      UserError: an unknown option, or a value that it does not allow.
    """
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if not any(f.name == head for f in dataclasses.fields(config)):
            raise UserError(f"unknown option {name!r}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    return dataclasses.replace(config, **own, **{h: replace(getattr(config, h), c) for h, c in nested.items()})


def differences(old: Any, new: Any) -> list[str]:
    """`option: old -> new` for every option in which two configs of a kind differ."""
    a, b = flatten(old), flatten(new)
    return [f"{name}: {a[name]} -> {b[name]}" for name in a if a[name] != b[name]]
