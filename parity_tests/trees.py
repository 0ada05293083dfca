"""Whole trees of the two frameworks: random ones to start from, and the worst entry where they should agree."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

from jax_sngan.config.schema import ModelConfig, TrainConfig
from jax_sngan.core.state import TrainState
from jax_sngan.interop import torch_layout
from jax_sngan.models.network import Variables
from jax_sngan.system.jax_internals import known
from parity_kit.rows import largest
from parity_kit.rows import worst as largest_errors
from parity_tests.compare import assert_within, to_numpy

# LLVM's optimiser takes ten times as long as all else in these small programs (24 s against 2 s for one network's
# passes) and changes no formula. What ships is compiled with it: one case of rung 5 is too, and all of rung 6.
QUICK_COMPILE = known({"xla_backend_optimization_level": 0})
_PARAMETRIZED = "parametrizations.weight.original"


def random_variables(config: ModelConfig, network: str, rng: np.random.Generator) -> Variables:
    """A network's variables as after some training: nothing is zero or one, u and v are near the singular vectors."""
    entries = torch_layout.network_entries(config, network)
    dtype = np.dtype(config.dtype)
    flat = {}
    for e in entries.params:
        fan_in = max(int(np.prod(e.shape[:-1])), 1)
        mean, std = {"kernel": (0, fan_in**-0.5), "scale": (1, 0.2), "bias": (0, 0.1)}[e.path[-1]]
        flat[e.path] = rng.normal(mean, std, e.shape)
    for e in entries.batch:
        flat[e.path] = rng.normal(0, 0.3, e.shape) if e.path[-1] == "mean" else rng.uniform(0.5, 1.5, e.shape)
    for e in entries.spectral:
        if e.path[-1] == "u":
            kernel = flat[*e.path[:-2], "kernel"]
            if e.path[0] == "embed":
                matrix = kernel
            elif e.path[0] == "deconvs":  # [k, k, out, in]
                matrix = kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)
            else:
                matrix = kernel.reshape(-1, kernel.shape[-1]).T
            u = rng.normal(size=e.shape)
            for _ in range(3):  # far enough that sigma is no difference of large terms, not so far that u stands still
                v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
                u = matrix @ v / np.linalg.norm(matrix @ v)
            flat[e.path], flat[*e.path[:-1], "v"] = u, v
    return Variables(*(_nested(tree, flat, dtype) for tree in entries))


def random_state(config: TrainConfig, seed: int = 0, *, fresh: bool = False) -> TrainState:
    """A state in the middle of training; fresh: of step 0, with Adam's moments zero and the average not yet moved."""
    rng = np.random.default_rng(seed)
    networks = [random_variables(config.model, network, rng) for network in torch_layout.NETWORKS]

    def like(params: Any, low: float, high: float) -> Any:
        return jax.tree.map(lambda p: rng.uniform(low, high, p.shape).astype(p.dtype), params)

    adams = [
        optax.ScaleByAdamState(np.int32(0), like(v.params, 0, 0), like(v.params, 0, 0))
        if fresh
        else optax.ScaleByAdamState(np.int32(7 + i), like(v.params, -0.01, 0.01), like(v.params, 1e-4, 2e-4))
        for i, v in enumerate(networks)
    ]
    g = networks[0].params
    average = g if fresh else jax.tree.map(lambda p, d: p + d, g, like(g, -0.01, 0.01))
    state = TrainState(np.int32(0 if fresh else 3), *networks, average, *adams)
    return jax.tree.map(jnp.asarray, state)


def _nested(entries: list[torch_layout.Entry], flat: Mapping[torch_layout.Path, np.ndarray], dtype: np.dtype) -> Any:
    tree: dict[str, Any] = {}
    for e in entries:
        branch = tree
        for name in e.path[:-1]:
            branch = branch.setdefault(name, {})
        branch[e.path[-1]] = jnp.asarray(flat[e.path].astype(dtype))
    return tree


def load_module(module: nn.Module, flat: Mapping[str, np.ndarray]) -> None:
    """Variables as torch_layout.variables_to_torch has them, into their twin."""
    module.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in flat.items()})


def worst(
    actual: Mapping[str, Any], expected: Mapping[str, Any], scales: Mapping[str, str] | None = None
) -> tuple[float, str]:
    """The largest relative error of two flat trees and its name: max|a - b| / max|b|, array by array.

    Args:
      scales: name -> name of the array whose largest entry stands in for its own.
    """
    a, b = as_arrays(actual, expected)
    scales = scales or {}
    return largest_errors(a, b, lambda name: largest(b[scales.get(name, name)]))[""]


def as_arrays(*two: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Two flat trees of either framework as numpy's; fails unless they have the same names, types and shapes."""
    a, b = found = [{name: to_numpy(array) for name, array in tree.items()} for tree in two]
    assert sorted(a) == sorted(b)
    for name in a:
        ours, theirs = (f"{tree[name].dtype} {tree[name].shape}" for tree in found)
        assert ours == theirs, f"{name}: {ours} against {theirs}"
    return found


def assert_agree(
    actual: Mapping[str, Any],
    expected: Mapping[str, Any],
    tolerance: float,
    scales: Mapping[str, str] | None = None,
) -> None:
    """Fails unless the worst entry is within the tolerance."""
    error, name = worst(actual, expected, scales)
    assert_within(error, tolerance, name, str(to_numpy(expected[name]).dtype))


def assert_same(actual: Any, expected: Any) -> None:
    """Fails unless two trees are equal to the bit."""
    a, b = jax.tree.leaves_with_path(actual), jax.tree.leaves_with_path(expected)
    assert [path for path, _ in a] == [path for path, _ in b]
    changed = [
        jax.tree_util.keystr(path)
        for (path, x), (_, y) in zip(a, b, strict=True)
        if np.asarray(x).dtype != np.asarray(y).dtype or np.asarray(x).tobytes() != np.asarray(y).tobytes()
    ]
    assert not changed, f"changed: {', '.join(changed)}"


def biases_before_batch_norm(config: ModelConfig, names: Iterable[str], also: Iterable[str] = ()) -> dict[str, str]:
    """Biases that BatchNorm cancels in training -> the kernel of the same layer; also: patterns of other such layers.

    Their true gradient is zero. What either computes is the rounding of terms as large as the kernel's gradient,
    and Adam divides it by nearly itself. So the kernel gives the scale. In the ResNet's generator a constant added to
    a block's result passes the later shortcuts as a constant, down to the last BatchNorm; so it does in a discriminator
    whose shortcuts begin behind the BatchNorm of their block, but for the last block's.
    """
    names = list(names)
    g, d = {
        "standard_cnn": (r"deconvs\.\d+", r"convs\.[1-9]\d*"),
        "mlp": (r"hidden\.\d+", r"hidden\.[1-9]\d*"),
        "resnet": (r"blocks\.\d+\.(conv1|conv2|shortcut)", r"blocks\.\d+\.conv1"),
    }[config.architecture]
    if config.architecture == "resnet" and config.shortcut_input == "activated":
        blocks = [int(i) for name in names for i in re.findall(r"discriminator.*\bblocks\.(\d+)\.", name)]
        last = max(blocks, default=0)
        d = rf"{d}|blocks\.(?!{last}\.)\d+\.(conv2|shortcut)"
    layers = [rf"generator.*\b{g}"] if config.generator_norm == "batch" else []
    layers += [rf"discriminator.*\b({d})"] if config.discriminator_norm == "batch" else []
    layers += also
    found = {}
    for name in names:
        if any(re.fullmatch(rf"{layer}\.bias", name) for layer in layers):
            normed = config.spectral_norm_of("discriminator" if "discriminator" in name else "generator")
            estimated = normed is not None and normed.form == "reshaped"
            names_of = {"v_first": "weight_orig", "u_first": _PARAMETRIZED}
            weight = names_of[normed.order] if normed is not None and estimated else "weight"
            found[name] = name.removesuffix("bias") + weight
    return found
