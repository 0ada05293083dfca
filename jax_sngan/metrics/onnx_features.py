"""A feature extractor out of an ONNX file, run by onnxruntime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.errors import UserError

BATCH = 64


def load(path: Path) -> Callable[[np.ndarray], Any]:
    """The network as a function of images.

    It has one input of four axes, [n, h, w, c] or [n, c, h, w] (where its fixed sizes leave a choice, the first), uint8
    or float32, in 0 to 255 either way: a network that wants other numbers brings the scaling with it. Its first output
    is the features [n, d] (or [n, d, 1, 1]); a second one, if there is one, class probabilities [n, k].

    Returns:
      uint8 [n, h, w, c] -> features, or (features, probabilities).
    Raises:
      UserError: onnxruntime is not installed, there is no such file, or it is no such network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"features from {path} need onnxruntime: pip install 'jax-sngan[export]'") from error
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each fault
        raise UserError(f"{path} is no network that onnxruntime reads: {_first_line(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in kinds or len(outputs) > 2:
        found = "; ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise UserError(f"{path} must have one input, uint8 or float32 of 4 axes, and 1 or 2 outputs; it has {found}")
    shape, kind = inputs[0].shape, kinds[inputs[0].type]

    def run(images: np.ndarray) -> Any:
        layouts = {"nhwc": images.shape[1:], "nchw": (images.shape[3], *images.shape[1:3])}
        fitting = [k for k, sizes in layouts.items() if _fits(shape[1:], sizes)]
        if not fitting:
            raise UserError(f"{path} takes images {shape}, not {list(images.shape[1:])} nor with its channels first")
        parts: list[list[np.ndarray]] = [[] for _ in outputs]
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH].astype(kind)
            batch = batch if fitting[0] == "nhwc" else batch.transpose(0, 3, 1, 2)
            for part, made in zip(parts, _run(session, inputs[0].name, np.ascontiguousarray(batch), path), strict=True):
                part.append(np.asarray(made).reshape(len(batch), -1))
        whole = [np.concatenate(p) for p in parts]
        return tuple(whole) if len(whole) == 2 else whole[0]

    return run


def _fits(wanted: list[Any], sizes: tuple[int, ...]) -> bool:
    """Whether sizes are those of a shape whose free axes are names or None."""
    return all(not isinstance(w, int) or w == s for w, s in zip(wanted, sizes, strict=True))


def _run(session: Any, name: str, batch: np.ndarray, path: Path) -> list[Any]:
    try:
        made: list[Any] = session.run(None, {name: batch})
        return made
    except Exception as error:  # as above
        raise UserError(f"{path} cannot be run on images {list(batch.shape)}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
