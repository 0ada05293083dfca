"""Where features come from: the package's classifier, Inception, an ONNX file, or a function of the caller's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_sngan.metrics import classifier, inception, onnx_features
from jax_sngan.system.errors import UserError

Outputs = tuple[np.ndarray, np.ndarray | None]  # features [n, d], and class probabilities [n, k] where it has them


class Extractor(NamedTuple):
    """Images in, features out."""

    name: str  # classifier, inception, or its own: it decides what scores are called (scores.py)
    checksum: str  # two scores can be compared only where it is the same; "" where it is not known
    extract: Callable[[Any], Outputs]  # of uint8 [n, h, w, c]
    facts: dict[str, Any] | None = None  # what else is reported with figures
    unrounded: Callable[[np.ndarray], np.ndarray] | None = None  # features of float32 [n, h, w, c] in 0 to 255

    def describe(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "checksum": self.checksum, **(self.facts or {})}


def of_function(function: Callable[[np.ndarray], Any], name: str, checksum: str = "") -> Extractor:
    """An extractor from a function.

    Args:
      function: uint8 [n, h, w, c] -> features [n, d], or (features, class probabilities [n, k]).
      name: of the extractor, in the scores' names; not classifier or inception.
      checksum: names the function's very numbers; without one the real images' features are not kept on disk.
    """
    if name in ("classifier", "inception"):
        raise ValueError(f"name must not be {name!r}: that is an extractor of the package's, and scores are called so")

    def extract(images: np.ndarray) -> Outputs:
        made = function(images)
        features, probabilities = made if isinstance(made, tuple) else (made, None)
        return np.asarray(features), None if probabilities is None else np.asarray(probabilities)

    return Extractor(name, checksum, extract)


def of_classifier(net: classifier.Classifier) -> Extractor:
    """The package's own classifier."""
    facts = {"source": net.source, "accuracy": net.accuracy}
    return Extractor("classifier", net.checksum, net.__call__, facts, net.unrounded_features)


def of_inception(weights: Path | None = None) -> Extractor:
    """The FID Inception v3: 2,048 features, and the probabilities of the Inception Score.

    Raises:
      UserError: its weights can't be had, or are not those that were published.
    """
    net = inception.load_inception(weights)
    return Extractor("inception", net.checksum, net.__call__, None, net.unrounded_features)


def of_onnx(path: Path) -> Extractor:
    """A network of the user's (onnx_features.py says what it takes); named as the file is.

    Raises:
      UserError: onnxruntime is not installed, or the file is no such network.
    """
    return of_function(onnx_features.load_onnx(path), path.stem, onnx_features.checksum(path))


def open_extractor(name: str, train_classifier: Callable[[], classifier.Classifier]) -> Extractor:
    """The extractor that an option names.

    Args:
      name: classifier, inception, FILE.pth (Inception's weights at a path) or FILE.onnx.
      train_classifier: makes or loads the classifier; called only where it is asked for.
    Raises:
      UserError: another name, or one of the above cannot be had.
    """
    if name == "classifier":
        return of_classifier(train_classifier())
    if name == "inception":
        return of_inception()
    if name.endswith((".pth", ".pt")):
        return of_inception(Path(name))
    if name.endswith(".onnx"):
        return of_onnx(Path(name))
    raise UserError(f"features must be classifier, inception, FILE.pth or FILE.onnx, got {name!r}")
