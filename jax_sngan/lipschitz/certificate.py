"""How steep a discriminator is: its Lipschitz constant in the Euclidean norm of images, from above and from below.

Above (lipschitz/upper.py): the product of the layers' norms. Below (lipschitz/lower.py): the largest gradient norm
found. Everything is of evaluation mode, with u and v as stored, and is computed in float64 whatever the network's type.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike, NDArray

from jax_sngan.config.schema import ModelConfig
from jax_sngan.lipschitz.lower import ascend, evaluator, lengths
from jax_sngan.lipschitz.upper import Float64s, LayerCertificate, upper_bound, zero_padded_operator_norm
from jax_sngan.models.network import Variables, build

__all__ = ["Certificate", "LayerCertificate", "certificate", "certify", "zero_padded_operator_norm"]

CELLS = 20  # of the histogram
_ROUNDING = 1 + 1e-9  # SVDs, transforms and gradients in float64 are off by less than 1e-12 of their size


@dataclass(frozen=True)
class Certificate:
    """lower <= Lipschitz constant <= upper, and what they come from."""

    upper: float  # a bound, from each layer's operator_bound / sigma
    upper_estimate: float  # the same from operator_norm / sigma: not certain, but what upper would be at its tightest
    nominal: float  # the same from reshaped_sigma / sigma, the norm that spectral norm controls: no bound
    lower: float  # the largest gradient norm found
    layers: list[LayerCertificate]
    box: tuple[float, float] | None  # the pixels among which the ascent looked; None: all numbers
    mean: dict[str, float]  # mean gradient norm at real, generated and interpolated images
    largest: dict[str, float]  # the largest, likewise; also of the ascent
    edges: list[float]  # of the histogram's cells
    counts: dict[str, list[int]]  # images in each cell, likewise

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def certificate(
    config: ModelConfig,
    variables: Variables,
    real: ArrayLike,
    fake: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    seed: int = 0,
    steps: int = 50,
    starts: int = 16,
    box: tuple[float, float] | None = (-1.0, 1.0),
) -> Certificate:
    """`certify` of the discriminator of a config, whose variables may be of any float type."""
    with jax.enable_x64(True):
        network = build(dataclasses.replace(config, dtype="float64", compute_dtype="same")).discriminator
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), variables)
        return certify(network.module(wide), real, fake, labels=labels, seed=seed, steps=steps, starts=starts, box=box)


def certify(
    module: nnx.Module,
    real: ArrayLike,
    fake: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    seed: int = 0,
    steps: int = 50,
    starts: int = 16,
    box: tuple[float, float] | None = (-1.0, 1.0),
) -> Certificate:
    """Bounds on how steep a discriminator is, for a fixed class where it has classes.

    Args:
      module: a discriminator in float64 that has `slope` (models/architecture.py).
      real: float [n, h, w, c], as the discriminator sees them.
      fake: likewise, as many; the interpolated images are at a random point between each two (Gulrajani et al. 2017).
      labels: int [n], the class of row i of real, fake and interpolated; None: the score without a class. With labels
        the upper bound holds for every class.
      seed: of the points between.
      steps: of the ascent, which begins at the steepest images; 0: none.
      starts: images that it begins at; gradients are computed for twice as many at a time.
      box: least and greatest pixel of the ascent; None: it may leave the space of images.
    Raises:
      ValueError: a shape, type or range is not as above, or no bound is known for the module.
    """
    x, y, classes = _checked(module, real, fake, labels, box)
    for name, value, least in (("steps", steps, 0), ("starts", starts, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    factors, layers = upper_bound(module, x.shape[1:], conditional=classes is not None)
    evaluate = evaluator(module, batch=2 * starts)

    t = np.random.default_rng(seed).uniform(size=(len(x), 1, 1, 1))
    sets = {"real": x, "fake": y, "interpolated": t * x + (1 - t) * y}
    norms = {name: lengths(evaluate(images, classes)[1]) for name, images in sets.items()}
    largest = {name: float(n.max()) for name, n in norms.items()}
    if steps:
        images, steepness = np.concatenate([*sets.values()]), np.concatenate([*norms.values()])
        rows = np.argsort(-steepness, kind="stable")[:starts]
        own = None if classes is None else np.tile(classes, 3)[rows]
        largest["ascent"] = ascend(evaluate, images[rows], own, steps, box)
    lower = max(largest.values())
    edges = np.linspace(0, max(n.max() for n in norms.values()) or 1.0, CELLS + 1)
    return Certificate(
        upper=float(factors[2]) * _ROUNDING,
        upper_estimate=float(factors[1]),
        nominal=float(factors[0]),
        lower=lower,
        layers=layers,
        box=box,
        mean={name: float(n.mean()) for name, n in norms.items()},
        largest=largest,
        edges=edges.tolist(),
        counts={name: np.histogram(n, edges)[0].tolist() for name, n in norms.items()},
    )


def _checked(
    module: nnx.Module, real: ArrayLike, fake: ArrayLike, labels: ArrayLike | None, box: tuple[float, float] | None
) -> tuple[Float64s, Float64s, NDArray[np.int32] | None]:
    x, y = np.asarray(real), np.asarray(fake)
    for name, images in (("real", x), ("fake", y)):
        if images.ndim != 4 or not images.size or images.dtype.kind != "f":
            raise ValueError(f"{name} must be floats [n, h, w, c], got {images.dtype} {list(images.shape)}")
        if not np.isfinite(images).all():
            raise ValueError(f"{name} holds NaN or infinity")
    if x.shape != y.shape:
        raise ValueError(f"real and fake must have one shape, got {list(x.shape)} and {list(y.shape)}")
    if box is not None and not box[0] < box[1]:
        raise ValueError(f"box must be (least, greatest), got {box}")
    if labels is None:
        return x.astype(np.float64), y.astype(np.float64), None
    embed = getattr(module, "embed", None)
    if embed is None:
        raise ValueError("labels were given for a discriminator without classes")
    classes, count = np.asarray(labels), embed.kernel.shape[0]
    if classes.dtype.kind not in "iu" or classes.shape != x.shape[:1]:
        raise ValueError(f"labels must be {len(x)} integers, got {classes.dtype} {list(classes.shape)}")
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"labels must be in [0, {count}), got {classes.min()} to {classes.max()}")
    return x.astype(np.float64), y.astype(np.float64), classes.astype(np.int32)
