"""What the study runs: the family, the data, the remedies, and how much of each; every run has a name and a key."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from jax_sngan.config.presets import preset
from jax_sngan.config.schema import TrainConfig, from_dict, replace, to_dict
from jax_sngan.system.errors import UserError

VERSION = 2  # part of every key: raise it with any change to what a run computes
IMAGE_N_DIS = 1  # D updates for each of G on images, of every GAN alike; in the plane a size says
POINTS = ("ring", "grid")
IMAGES = ("fashion", "stacked_fashion")


class Gan(NamedTuple):
    """One member of the family: how a person calls it, and what of a TrainConfig makes it."""

    title: str
    changes: dict[str, Any]


# All have the same networks, without normalisation in D, and the same optimiser, batches and number of updates. What
# differs is the loss, and what bounds D. Of bounds 0.01, 0.1 and 0.3 and of weights 0.1, 1 and 10, those below covered
# most modes of the grid (seed 0, 3,000 steps of the quick form, one D update each).
GANS = {
    "standard": Gan("Standard GAN", {"loss": "minimax"}),
    "non_saturating": Gan("Non-saturating GAN", {"loss": "non_saturating"}),
    "wgan": Gan("WGAN (clipped weights)", {"loss": "wasserstein", "weight_clip": 0.1}),
    "wgan_gp": Gan("WGAN-GP", {"loss": "wasserstein", "penalty.kind": "gradient_penalty", "penalty.weight": 0.1}),
    "sngan_hinge": Gan("SN-GAN (hinge)", {"loss": "hinge", "model.spectral_norm.networks": "discriminator"}),
    "sngan_non_saturating": Gan(
        "SN-GAN (non-saturating)", {"loss": "non_saturating", "model.spectral_norm.networks": "discriminator"}
    ),
}
SPECTRAL = tuple(name for name in GANS if name.startswith("sngan"))
# On images, D has more inputs than two: the papers' own bound and weight.
_ON_IMAGES = {"wgan": {"weight_clip": 0.01}, "wgan_gp": {"penalty.weight": 10.0}}


class Remedy(NamedTuple):
    """One change against mode collapse, made to one GAN of the family alone (Size.remedy_base)."""

    title: str
    changes: dict[str, Any]
    share: float = 1.0  # of the data that is trained on


REMEDIES = {
    "tenth_of_data": Remedy("a tenth of the data", {}, 0.1),
    "one_d_update": Remedy("one D update for each of G", {"n_dis": 1}),
    "dropout": Remedy("dropout 0.2 in D", {"model.discriminator_dropout": 0.2}),
    "batch_norm": Remedy(
        "batch normalisation in both", {"model.generator_norm": "batch", "model.discriminator_norm": "batch"}
    ),
    "low_rate": Remedy("a fifth of the learning rate", {"rate": 0.2}),
    "high_rate": Remedy("five times the learning rate", {"rate": 5.0}),
    "loss": Remedy("least-squares loss", {"loss": "least_squares"}),
    "spectral_norm": Remedy("spectral normalisation of D", {"model.spectral_norm.networks": "discriminator"}),
}


class Critic(NamedTuple):
    """A discriminator trained to its optimum on two known distributions."""

    title: str
    loss: str
    bound: Literal["none", "penalty", "spectral", "clip"]
    of: Literal["jsd", "wasserstein"]  # what its loss estimates


CRITICS = {
    "standard": Critic("Standard GAN's D", "non_saturating", "none", "jsd"),
    "wgan": Critic("WGAN's critic, clipped", "wasserstein", "clip", "wasserstein"),
    "wgan_gp": Critic("WGAN-GP's critic", "wasserstein", "penalty", "wasserstein"),
    "sngan": Critic("Critic with spectral norm", "wasserstein", "spectral", "wasserstein"),
}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    name: str
    seeds: int
    data: tuple[str, ...]
    point_rate: float  # learning rate of both networks in the plane
    point_beta1: float  # Adam's momentum of both
    point_n_dis: int  # D updates for each of G, of every GAN alike
    point_steps: int  # G updates of a run in the plane
    point_width: int
    point_batch: int
    remedy_base: str  # the GAN that remedies are tried on
    remedy_seeds: int
    remedies: dict[str, tuple[str, ...]]  # by the data that they are tried on
    image_steps: int  # G updates of a run on images
    image_width: int
    image_samples: int
    image_seeds: int
    stacked_seeds: int
    critic_steps: int
    critic_width: int
    distances: tuple[float, ...] = field(default=(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0))  # in standard deviations


# A high rate, momentum (0.5 as in DCGAN, Radford et al. 2016) and a D that is trained more than G: the three that tell
# GANs apart in Miyato et al. (2018, section 4.1, settings A to F). In trials the standard GAN covered all 8 modes with
# one D update for each of G and no momentum; with five few of its points were good ones, which is no collapse.
QUICK = Size(
    name="quick",
    seeds=5,
    data=("ring",),
    point_rate=3e-3,
    point_beta1=0.5,
    point_n_dis=3,
    point_steps=2000,
    point_width=64,
    point_batch=64,
    remedy_base="standard",
    remedy_seeds=3,
    remedies={"ring": ("one_d_update", "dropout", "batch_norm", "low_rate", "loss", "spectral_norm")},
    image_steps=0,
    image_width=0,
    image_samples=0,
    image_seeds=0,
    stacked_seeds=0,
    critic_steps=400,
    critic_width=32,
)
FULL = Size(
    name="full",
    seeds=3,
    data=(*POINTS, *IMAGES),
    point_rate=1e-3,
    point_beta1=0.0,
    point_n_dis=5,
    point_steps=4000,
    point_width=128,
    point_batch=256,
    remedy_base="non_saturating",  # with spectral norm it is of the family itself
    remedy_seeds=2,
    remedies={
        "grid": tuple(r for r in REMEDIES if r != "spectral_norm"),
        "fashion": ("tenth_of_data", "dropout", "batch_norm"),
    },
    image_steps=1000,
    image_width=16,
    image_samples=10_000,
    image_seeds=2,
    stacked_seeds=1,
    critic_steps=1500,
    critic_width=64,
)


@dataclass(frozen=True)
class Run:
    """One training, or one critic over all distances."""

    name: str  # of its files
    kind: Literal["points", "images", "critic"]
    gan: str
    data: str
    seed: int
    remedy: str | None
    spec: dict[str, Any]  # all else that decides its numbers, as plain values

    @property
    def key(self) -> str:
        """A hash of all that decides its numbers."""
        text = json.dumps([VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def runs(size: Size) -> list[Run]:
    """Every run of a size, the first page of results first."""
    found = [_critic(name, size) for name in CRITICS]
    for data in size.data:
        seeds = size.seeds if data in POINTS else size.image_seeds if data == "fashion" else size.stacked_seeds
        found += [_training(gan, data, seed, None, size) for seed in range(seeds) for gan in GANS]
    for data, remedies in size.remedies.items():
        if data in size.data:
            count = min(size.remedy_seeds, size.seeds if data in POINTS else 1)
            found += [_training(size.remedy_base, data, s, r, size) for s in range(count) for r in remedies]
    return found


def resized(size: Size, *, seeds: int | None, steps: int | None, data: str | None) -> Size:
    """A size with some of it changed by options.

    Raises:
      UserError: a value is below 1, or a source is not of the study.
    """
    changes: dict[str, Any] = {}
    for name, value in (("--seeds", seeds), ("--steps", steps)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    if seeds is not None:
        changes |= dict.fromkeys(("seeds", "remedy_seeds", "image_seeds", "stacked_seeds"), seeds)
    if steps is not None:
        changes |= {"point_steps": steps, "critic_steps": steps, "image_steps": steps}
    if data is not None:
        chosen = tuple(data.split(","))
        wrong = [d for d in chosen if d not in POINTS + IMAGES]
        if wrong:
            raise UserError(f"--data: {wrong[0]!r} is not of the study; it has {', '.join(POINTS + IMAGES)}")
        if size.image_steps == 0 and set(chosen) & set(IMAGES):
            raise UserError(f"--data: --quick has no runs on {', '.join(IMAGES)}; leave --quick out")
        changes["data"] = tuple(dict.fromkeys(chosen))
    return Size(**{**{k: getattr(size, k) for k in asdict(size)}, **changes})


def train_config(run: Run) -> TrainConfig:
    """The options of a training run."""
    config: TrainConfig = from_dict(TrainConfig, run.spec["config"])
    return config


def _training(gan: str, data: str, seed: int, remedy: str | None, size: Size) -> Run:
    points = data in POINTS
    spec: dict[str, Any] = {
        "steps": size.point_steps if points else size.image_steps,
        "width": size.point_width if points else size.image_width,
        "batch": size.point_batch if points else 64,
    }
    if not points:
        spec["samples"] = size.image_samples
    # As plain values, so that the key knows every default too.
    spec["config"] = to_dict(_configured(gan, data, seed, remedy, spec, size))
    parts = [data, gan, *([remedy] if remedy else []), f"seed{seed}"]
    return Run("-".join(parts), "points" if points else "images", gan, data, seed, remedy, spec)


def _critic(name: str, size: Size) -> Run:
    spec = {"steps": size.critic_steps, "width": size.critic_width, "distances": list(size.distances)}
    return Run(f"critic-{name}", "critic", name, "two_gaussians", 0, None, spec)


def _configured(gan: str, data: str, seed: int, remedy: str | None, spec: dict[str, Any], size: Size) -> TrainConfig:
    points = data in POINTS
    rate = size.point_rate if points else 2e-4
    changes = dict(GANS[gan].changes)
    if points:
        base = preset("points")
    else:
        base = preset("sngan")
        changes |= _ON_IMAGES.get(gan, {})
        changes["model.channels"] = 3 if data == "stacked_fashion" else 1
    if remedy:
        changes |= REMEDIES[remedy].changes
        rate *= changes.pop("rate", 1.0)
    common: dict[str, Any] = {
        "name": gan,
        "data": data,
        "seed": seed,
        "steps": spec["steps"],
        "batch_size": spec["batch"],
        "n_dis": size.point_n_dis if points else IMAGE_N_DIS,
        "ema_decay": 0.0 if points else 0.99,
        "model.spectral_norm.networks": "none",
        "model.generator_width": spec["width"],
        "model.discriminator_width": spec["width"],
    }
    for network in ("generator", "discriminator"):
        common |= {
            f"{network}_optimizer.learning_rate": rate,
            f"{network}_optimizer.beta1": size.point_beta1 if points else 0.5,
            f"{network}_optimizer.beta2": 0.9 if points else 0.999,
            f"{network}_optimizer.schedule": "linear",
        }
    return replace(base, common | changes)
