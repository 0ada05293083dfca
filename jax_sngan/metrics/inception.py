"""The FID's Inception v3 with its published weights: of 2015-12-05 by TensorFlow, as a file of PyTorch's since."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_sngan.interop import torch_file
from jax_sngan.metrics.inception_network import LAYERS, Weights, network, resize, shapes
from jax_sngan.system import downloads
from jax_sngan.system.cache_folder import cache_folder
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import listed

__all__ = ["LAYERS", "Inception", "Weights", "from_torch", "load_inception", "network", "resize", "shapes"]

EPS = 1e-3  # of every batch normalisation
BATCH = 50
FILE = downloads.OfficialFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "",
    ("https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/",),
    # Its publishers put the first eight digits into its name; all of them as those who have the file record them
    # (docs/safety.md). torch-fidelity's weights-inception-2015-12-05-6726825d.pth is the same file.
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)


def from_torch(arrays: dict[str, np.ndarray]) -> Weights:
    """A state dict in the published file's names -> this network's weights; normalisations become scale and shift.

    Raises:
      UserError: names the missing, the extra and the misshapen arrays.
    """
    expected = shapes()
    own = {name: a for name, a in arrays.items() if not name.endswith("num_batches_tracked")}
    wrong = [f"no {n}" for n in expected if n not in own] + [f"an unknown {n}" for n in own if n not in expected]
    wrong += [f"{n} of shape {own[n].shape}, not {s}" for n, s in expected.items() if n in own and own[n].shape != s]
    if wrong:
        raise UserError(f"not the FID Inception's weights: {listed(wrong, 3)}")
    weights = {"fc.kernel": own["fc.weight"].T, "fc.bias": own["fc.bias"]}
    for name in (n.removesuffix(".conv.weight") for n in expected if n.endswith(".conv.weight")):
        scale, bias, mean, variance = (
            own[f"{name}.bn.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPS)
        weights[f"{name}.kernel"] = own[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
        weights[f"{name}.scale"], weights[f"{name}.shift"] = scale, bias - mean * scale
    dtype = own["fc.weight"].dtype
    return {name: np.ascontiguousarray(value, dtype) for name, value in weights.items()}


class Inception(NamedTuple):
    """The network with its weights."""

    weights: Weights
    checksum: str  # SHA-256 of the file that they came from

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, h, w, 1 or 3] -> features [n, 2048], probabilities [n, 1008] of the Inception Score."""
        if images.dtype != np.uint8:
            raise ValueError(f"images must be uint8, got {images.dtype}")
        return self._run(images)

    def unrounded_features(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [n, h, w, 1 or 3] in 0 to 255 -> features [n, 2048]."""
        return self._run(pixels)[0]

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, probabilities = [], []
        with jax.default_matmul_precision("float32"):  # a GPU would take TF32, and give other scores
            for start in range(0, len(images), BATCH):
                part = images[start : start + BATCH]
                padded = np.zeros((BATCH, *part.shape[1:3], 3), np.float32)
                padded[: len(part)] = part  # a grey image's channel three times
                f, p = _features(self.weights, padded)
                features.append(np.asarray(f)[: len(part)])
                probabilities.append(np.asarray(p)[: len(part)])
        return np.concatenate(features), np.concatenate(probabilities)


@jax.jit
def _features(weights: Weights, images: Array) -> tuple[Array, Array]:
    made = network(weights, images)
    return made["2048"], jax.nn.softmax(made["logits_unbiased"])


def load_inception(path: Path | None = None) -> Inception:
    """The published weights, from a path or downloaded once and kept in the package's cache.

    Args:
      path: the file; it must be the published one, by its SHA-256.
    Raises:
      UserError: it can't be had, or is another file.
    """
    if path is None:
        try:
            path = downloads.fetch(FILE, cache_folder() / "downloads" / "inception")
        except UserError as error:
            raise UserError(
                f"Inception's weights can't be had ({error}); give the file: --features PATH/{FILE.name}, "
                "or take --features classifier"
            ) from error
    if not path.is_file():
        raise UserError(f"no file {path}; it must be {FILE.name}, from {FILE.url}")
    try:
        checksum = downloads.digest_of(path, "sha256")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if checksum != FILE.sha256:
        raise UserError(f"{path} is not {FILE.name}: its SHA-256 is {checksum}, not {FILE.sha256}")
    weights = {name: jnp.asarray(value) for name, value in from_torch(torch_file.read(path)).items()}
    return Inception(weights, checksum)
