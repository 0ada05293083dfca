"""Data parallelism by JAX's own sharding: batches are split over the mesh's `data` axis, every device has the state."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jax_sngan.config import TrainConfig
from jax_sngan.errors import UserError
from jax_sngan.inputs import Inputs


def make_mesh(text: str | None, config: TrainConfig) -> Mesh | None:
    """The mesh that `data=N` names, or None for one device.

    Raises:
      UserError: another form, more devices than there are, or a batch that does not divide by N.
    """
    if text is None:
        return None
    axis, _, count = text.partition("=")
    if axis != "data" or not count.isdigit() or int(count) < 1:
        raise UserError(f"mesh must be data=N with N at least 1, got {text!r}")
    n = int(count)
    if n > jax.device_count():
        raise UserError(f"mesh {text} needs {n} devices, there are {jax.device_count()} ({jax.default_backend()})")
    if config.batch_size % n:
        raise UserError(f"batch_size must be a multiple of the mesh's {n} devices, got {config.batch_size}")
    # Auto: jit propagates the shardings; make_mesh's default wants them in every type.
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """tree with every leaf whole on every device."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def split_inputs(mesh: Mesh | None, inputs: Inputs) -> Inputs:
    """inputs with each batch axis split; latents too, else every device would run the whole generator."""
    if mesh is None:
        return inputs
    whole, batch = PartitionSpec(), PartitionSpec("data")
    axes = {"g_latents": batch, "g_labels": batch, "d_keys": whole, "g_key": whole}  # the others: [n_dis, batch, ...]
    return Inputs(
        **{
            name: jax.device_put(x, NamedSharding(mesh, axes.get(name, PartitionSpec(None, "data"))))
            for name, x in inputs._asdict().items()
            if x is not None
        }
    )
