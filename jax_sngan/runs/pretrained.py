"""Trained generators that ship with the package: a preset's averaged weights and its card, as a Run."""

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import TrainConfig, from_dict
from jax_sngan.core.gan import GAN, as_gan
from jax_sngan.core.state import TrainState, create_state
from jax_sngan.models.network import Variables, allow_dtype
from jax_sngan.runs.run import Record, Run
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import read_json
from jax_sngan.system.nearest import nearest, suggestion
from jax_sngan.system.npz import read_whole_npz

FOLDER = Path(__file__).parents[1] / "weights"  # NAME.npz, arrays by their path; NAME.json, the card


class Pretrained(Run):
    """A generator that ships with the package: a Run without discriminator, optimisers and log.

    Attributes:
      card: what it was trained on and how, its licence and its scores.
    """

    def __init__(self, config: TrainConfig, gan: GAN, generator: Variables, card: Mapping[str, Any]):
        super().__init__(
            config,
            gan,
            card["step"],
            generator,
            partial(_no_discriminator, card["name"]),
            partial(_state, config, gan, card["step"], generator),
            partial(_record, card),
        )
        self.card = dict(card)

    def save(self, workdir: str | Path) -> None:
        """Writes a workdir that samples, evaluates and exports as this does, and says what of it is not trained.

        Raises:
          UserError: as Run.save.
        """
        super().save(workdir)
        print(f"{workdir}: the generator alone is trained; the package holds no discriminator, so that one is fresh")

    def __repr__(self) -> str:
        return f"{super().__repr__().removesuffix(')')}; pretrained, no discriminator)"


def names() -> list[str]:
    """Which generators there are, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def pretrained(name: str) -> Pretrained:
    """A trained generator that ships with the package; nothing is trained or downloaded.

    Args:
      name: the preset's, as "fashion".
    Returns:
      A Run: sample, latents, images, interpolate, save and the rest. It has no discriminator, and `card` says where it
      comes from.
    Raises:
      UserError: there is none of that name, or its files are damaged.
    """
    if name not in names():
        near = suggestion(nearest(str(name), names()))
        raise UserError(f"no pretrained {name!r}; {near + ' ' if near else ''}there are: {', '.join(names())}")
    path = FOLDER / f"{name}.npz"
    card = read_json(FOLDER / f"{name}.json")
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
        raise UserError(f"{path} is not the file that its card names: install the package again")
    config = from_dict(TrainConfig, card["config"])
    gan = as_gan(config)
    allow_dtype(gan)
    return Pretrained(config, gan, unpacked(read_whole_npz(path), gan), card)


def key_of(path: tuple[Any, ...]) -> str:
    """The name in the file of an array of Variables: params/project/kernel."""
    return "/".join(str(getattr(entry, "name", getattr(entry, "key", entry))) for entry in path)


def packed(generator: Variables, dtype: str) -> dict[str, np.ndarray]:
    """The arrays of a generator's file by key_of their paths: in dtype, but for u and v."""
    return {
        key_of(at): np.asarray(leaf, dtype if at[0].name in ("params", "batch") else None)
        for at, leaf in jax.tree.leaves_with_path(generator)
    }


def unpacked(arrays: Mapping[str, np.ndarray], gan: GAN) -> Variables:
    """The inverse of packed, in the GAN's types.

    Raises:
      UserError: the arrays are not those of its generator.
    """
    like = jax.eval_shape(lambda: gan.networks.generator.init(jax.random.key(0)))
    wanted = {key_of(at): leaf for at, leaf in jax.tree.leaves_with_path(like)}
    if {name: a.shape for name, a in arrays.items()} != {name: leaf.shape for name, leaf in wanted.items()}:
        raise UserError("the arrays are not those of the generator that the card's config names")
    made: Variables = jax.tree.map_with_path(lambda at, leaf: arrays[key_of(at)].astype(leaf.dtype), like)
    return made


def _no_discriminator(name: str) -> Variables:
    raise UserError(f"the pretrained {name} has no discriminator: the package ships the generator alone")


def _state(config: TrainConfig, gan: GAN, step: int, generator: Variables) -> TrainState:
    """A state around the generator: all else is as before the first step."""
    fresh = create_state(gan, config.seed)
    return fresh._replace(step=jnp.asarray(step, fresh.step.dtype), generator=generator, generator_ema=generator.params)


def _record(card: Mapping[str, Any]) -> Record:
    return Record({}, [], 0, card["origin"], None, "", {})
