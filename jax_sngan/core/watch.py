"""The numbers that a training step tells of itself beside its losses (docs/watching.md has their names).

What is here is a part of the step, and costs little. What costs more core/observer.py computes of the state that a
step leaves, after the steps that are logged.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_sngan.core.losses import Loss

Logs = dict[str, Array]


def of_scores(loss: Loss, real: Array, fake: Array) -> Logs:
    """Of D's scores, real [n] and fake [m], what may be averaged over parts of a batch: d_real and d_fake, their means.

    Also the two moments that spreads() makes a standard deviation of; and, where the loss has a boundary, the shares of
    either kind that lie on their side of it: d_accuracy_real, d_accuracy_fake.
    """
    logs: Logs = {}
    for name, scores in (("d_real", real), ("d_fake", fake)):
        mean = jnp.mean(scores)
        within = jnp.mean(jnp.square(scores - mean))
        logs |= {name: mean, f"{name}_within": within, f"{name}_square": jnp.square(mean)}
    if loss.boundary is not None:
        logs["d_accuracy_real"] = jnp.mean(real > loss.boundary, dtype=real.dtype)
        logs["d_accuracy_fake"] = jnp.mean(fake < loss.boundary, dtype=fake.dtype)
    return lax.stop_gradient(logs)


def spreads(logs: Logs) -> Logs:
    """of_scores' means over all parts, with d_real_std and d_fake_std of the whole batch in the place of their moments.

    The variance of a batch is the mean of its parts' variances and the variance of its parts' means.
    """
    logs = dict(logs)
    for name in ("d_real", "d_fake"):
        between = logs.pop(f"{name}_square") - jnp.square(logs[name])
        logs[f"{name}_std"] = jnp.sqrt(logs.pop(f"{name}_within") + jnp.maximum(between, 0))
    return logs


def norms(letter: str, gradients: Any, before: Any, after: Any, *, by_layer: bool = False) -> Logs:
    """Euclidean norms of an update: of the gradient of all parameters, and of their change (clipping included).

    Args:
      letter: of the network, g or d.
      gradients, before, after: trees of one structure, the latter two of parameters.
      by_layer: the norms of each layer too, a layer being what holds its own kernel and bias.
    Returns:
      {"g_grad_norm": [], "g_update_norm": []}, and with by_layer g_grad_norm/LAYER, g_update_norm/LAYER.
    """
    change = jax.tree.map(jnp.subtract, after, before)
    # Written by the kernel that updates, while `before` is at hand: what read it later would have it copied first. On a
    # TPU nothing is gained (docs/performance.md).
    change = lax.platform_dependent(change, cuda=lax.optimization_barrier, default=lambda change: change)
    logs = {}
    for name, tree in (("grad_norm", gradients), ("update_norm", change)):
        logs[f"{letter}_{name}"] = norm(tree)
        if by_layer:
            logs |= {f"{letter}_{name}/{layer}": norm(leaves) for layer, leaves in layers(tree).items()}
    return logs


def norm(tree: Any) -> Array:
    """[] Euclidean norm of all numbers of a tree of floats, summed in float32 or better."""
    leaves = [jnp.abs(leaf) for leaf in jax.tree.leaves(tree) if leaf.size]
    if not leaves:
        return jnp.zeros(())
    leaves = at_one_precision(leaves)
    return jnp.sqrt(lax.platform_dependent(leaves, cuda=_joined_square_sum, default=_square_sum))


def at_one_precision(arrays: list[Array]) -> list[Array]:
    """Arrays of floats in the finest of their types, or in float32 where that is finer."""
    types = [jnp.dtype(jnp.float32), *(a.dtype for a in arrays)]
    finest = max(types, key=lambda dtype: jnp.finfo(dtype).bits)
    return [a.astype(finest) for a in arrays]


def _square_sum(leaves: list[Array]) -> Array:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in leaves), start=jnp.zeros((), leaves[0].dtype))


def _joined_square_sum(leaves: list[Array]) -> Array:
    """As one array, for CUDA, which launches a kernel for each sum; others would pay for the copy.

    Kernels of convolutions begin with the channels out, as cuDNN leaves their gradients: the order of a sum is free.
    """
    leaves = [jnp.moveaxis(leaf, -1, 0) if leaf.ndim == 4 else leaf for leaf in leaves]
    return jnp.sum(jnp.square(jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])))


def layers(tree: Any) -> dict[str, list[Array]]:
    """The leaves of a tree of parameters by the layer that holds them, its names joined by dots."""
    found: dict[str, list[Array]] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path[:-1], simple=True, separator=".")
        found.setdefault(name or jax.tree_util.keystr(path, simple=True), []).append(leaf)
    return found


def average_distance(average: Any, params: Any) -> Array:
    """[] how far the averaged generator is from the raw one: the norm of their difference over the raw one's."""
    return norm(jax.tree.map(jnp.subtract, average, params)) / norm(params)


def learning_rate(optimizer: Any, state: Any, step: Array) -> Array | None:
    """[] the rate of training step `step`, or None where the optimiser does not tell.

    Those of a config know theirs (core/optim.py); optax.inject_hyperparams keeps its own in the state.
    """
    if (rate := getattr(optimizer, "rate", None)) is not None:
        return jnp.asarray(rate(step))
    found = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(state)
        if jax.tree_util.keystr(path[-1:], simple=True) == "learning_rate" and jnp.ndim(leaf) == 0
    ]
    return found[0] if len(found) == 1 else None
