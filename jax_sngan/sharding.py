"""Data parallelism by JAX's own sharding: batches are split over the mesh's `data` axis, every device has the state.

With --shard-state each device keeps only its part of what an update alone reads: Adam's moments and the averaged
generator (Rajbhandari et al. 2020, ZeRO stage 1).
"""

from collections.abc import Callable
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


SPLIT = ("generator_ema", "generator_opt", "discriminator_opt")  # of TrainState


def state_shardings(mesh: Mesh, state: Any, split: bool) -> Any:
    """A sharding for each array of a TrainState.

    split: those of SPLIT lie in parts on the devices, along their longest axis that divides by the number of devices;
    an array without such an axis is whole everywhere, as all are without split.
    """

    def of(path: Any, leaf: Any) -> NamedSharding:
        spec = PartitionSpec()
        if split and path[0].name in SPLIT:
            axes = [i for i, length in enumerate(leaf.shape) if length and length % mesh.size == 0]
            if axes:
                longest = max(axes, key=lambda i: leaf.shape[i])
                spec = PartitionSpec(*[None] * longest, "data")
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(of, state)


def place(mesh: Mesh | None, state: Any, split: bool = False) -> Any:
    """A TrainState on the mesh's devices, as state_shardings says."""
    return state if mesh is None else jax.device_put(state, state_shardings(mesh, state, split))


def sharded_step(mesh: Mesh, step: Callable[..., Any], state: Any, split: bool) -> Callable[..., Any]:
    """step(state, inputs) -> (state, logs), jitted; the state comes back as it lay. The state given is donated."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(step, donate_argnums=0, out_shardings=(state_shardings(mesh, state, split), whole))


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
