"""A feature extractor out of an ONNX file, run by onnxruntime."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jax_sngan.system.errors import UserError

BATCH = 64


def load_onnx(path: Path) -> Callable[[np.ndarray], Any]:
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


def checksum(path: Path) -> str:
    """SHA-256 in hexadecimal of all that decides a network's numbers: its file, and those that hold weights of it.

    A network without such files has its file's own.

    Raises:
      UserError: one can't be read, stands outside the network's folder, or the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"features from {path} need onnx: pip install 'jax-sngan[export]'") from error
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content)
        names = sorted(_external(onnx.load_model_from_string(content)))
        home = Path(os.path.realpath(path.parent))
        for name in names:
            weights = Path(os.path.realpath(path.parent / name))
            if not weights.is_relative_to(home) or not weights.is_file():
                raise UserError(f"{path} keeps weights in {name}, which is no file below its own folder")
            with weights.open("rb") as file:
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    except UserError:
        raise
    except Exception as error:  # protobuf has a class of its own for each fault
        raise UserError(f"{path} is no network that onnx reads: {_first_line(error)}") from error
    return digest.hexdigest()


def _external(model: Any) -> set[str]:
    """The names of files that tensors of a model have their numbers in."""
    tensors, nodes = [], [node for function in model.functions for node in function.node]
    graphs = [model.graph]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes.extend(graph.node)
            tensors += [*graph.initializer, *(t for s in graph.sparse_initializer for t in (s.values, s.indices))]
        else:
            for a in nodes.pop().attribute:
                graphs += [*([a.g] if a.HasField("g") else []), *a.graphs]
                sparse = [a.sparse_tensor, *a.sparse_tensors]
                tensors += [a.t, *a.tensors, *(t for s in sparse for t in (s.values, s.indices))]
    outside = [t for t in tensors if t.data_location == t.EXTERNAL]
    return {entry.value for t in outside for entry in t.external_data if entry.key == "location"}


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
