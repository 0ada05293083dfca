"""Data parallelism by JAX's own sharding: batches are split over the mesh's `data` axis, every device has the state.

The mesh's devices may be those of several processes (system/processes.py): each reads its own devices' images, and what
is drawn is drawn in parts, where it is used.

With --shard-state each device keeps only its part of what an update alone reads: the optimisers' states (Adam's
moments) and the averaged generator (Rajbhandari et al. 2020, ZeRO stage 1).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jax_sngan.config.schema import TrainConfig
from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import Drawing, Images, Inputs, draw, drawing, input_shapes, real_batch
from jax_sngan.system import processes
from jax_sngan.system.errors import UserError


def mesh_size(text: str | None, batch_size: int, devices: int, count: int, backend: str) -> int | None:
    """How many devices `data=N` names; by default all where there are several processes, else None.

    Args:
      devices: that there are.
      count: of processes.
      backend: whose devices they are.
    Raises:
      UserError: another form, more devices than there are, fewer than those of several processes, or a batch that does
        not divide by N.
    """
    if text is None:
        if count == 1:
            return None
        text = f"data={devices}"
    axis, _, number = text.partition("=")
    if axis != "data" or not number.isdigit() or int(number) < 1:
        raise UserError(f"mesh must be data=N with N at least 1, got {text!r}")
    n = int(number)
    if n > devices:
        raise UserError(f"mesh {text} needs {n} devices, there are {devices} ({backend})")
    if count > 1 and n != devices:
        raise UserError(f"mesh must be data={devices}, all devices of the {count} processes, got {text}")
    if batch_size % n:
        raise UserError(f"batch_size must be a multiple of the mesh's {n} devices, got {batch_size}")
    return n


def make_mesh(text: str | None, what: GAN | TrainConfig | Drawing) -> Mesh | None:
    """The mesh of mesh_size on this program's devices, or None.

    Raises:
      UserError: as mesh_size.
    """
    n = mesh_size(text, drawing(what).batch_size, jax.device_count(), processes.count(), jax.default_backend())
    if n is None:
        return None
    # Auto: jit propagates the shardings; make_mesh's default wants them in every type.
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


SPLIT = ("generator_ema", "generator_opt", "discriminator_opt")  # of TrainState


def split_spec(mesh: Mesh, shape: tuple[int, ...]) -> PartitionSpec:
    """Along the longest axis that divides by the number of devices; whole where there is none."""
    axes = [i for i, length in enumerate(shape) if length and length % mesh.size == 0]
    if not axes:
        return PartitionSpec()
    longest = max(axes, key=lambda i: shape[i])
    return PartitionSpec(*[None] * longest, "data")


def state_shardings(mesh: Mesh, state: Any, split: bool) -> Any:
    """A sharding for each array of a TrainState: split_spec's for those of SPLIT; all are whole without split."""

    def of(path: Any, leaf: Any) -> NamedSharding:
        apart = split and path[0].name in SPLIT
        return NamedSharding(mesh, split_spec(mesh, leaf.shape) if apart else PartitionSpec())

    return jax.tree_util.tree_map_with_path(of, state)


def check_split(mesh: Mesh, state: Any) -> None:
    """Whether a split state is smaller, from its shapes alone.

    An array of which a device keeps a part is computed in parts: its gradient's and its new value's are there for a
    moment, two parts of one parameter for the two or three numbers that are kept of it.

    Raises:
      UserError: it would save nothing.
    """
    saved = added = 0
    for name in SPLIT:
        for leaf in jax.tree.leaves(getattr(state, name)):
            if "data" in split_spec(mesh, leaf.shape):
                size = leaf.dtype.itemsize * math.prod(leaf.shape)
                saved += size - size // mesh.size
    for network in (state.generator, state.discriminator):
        parts = [x for x in jax.tree.leaves(network.params) if "data" in split_spec(mesh, x.shape)]
        added = max(added, sum(2 * x.dtype.itemsize * math.prod(x.shape) // mesh.size for x in parts))
    if saved <= added:
        raise UserError(
            f"shard_state must be false here: on {mesh.size} devices it would save {saved} bytes of the state on each"
            f" and take {added} to update it"
        )


def place(mesh: Mesh | None, state: Any, split: bool = False) -> Any:
    """A TrainState on the mesh's devices, as state_shardings says."""
    if mesh is None:
        return state

    def put(leaf: Any, sharding: NamedSharding) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # an optimiser's
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)  # each process has it: none needs to be told
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(put, state, state_shardings(mesh, state, split))


def placed_shapes(mesh: Mesh | None, shapes: Any, split: bool = False) -> Any:
    """Shapes and types of a TrainState with the shardings of place: what a checkpoint is restored into.

    mesh: None: one device, this process's first.
    """
    if mesh is None:
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.tree.map(lambda a: placed_shape(a, one), shapes)
    return jax.tree.map(placed_shape, shapes, state_shardings(mesh, shapes, split))


def placed_shape(a: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """The shape and type of an array, or of a shape and type, with a sharding."""
    return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)


def on_this_process(mesh: Mesh | None, tree: Any) -> Any:
    """Arrays that this process can compute with alone; where others have parts of them, all take part in the call."""
    if mesh is None or processes.count() == 1:
        return tree
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), whole)


def sharded_step(
    mesh: Mesh, step: Callable[..., Any], state: Any, split: bool, compiler_options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """step(state, inputs, mesh=mesh, split=split) -> (state, logs), jitted; the state comes back as it lay.

    The state given is donated. state: its arrays or their shapes. compiler_options: XLA's.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(
        partial(step, mesh=mesh, split=split),
        donate_argnums=0,
        out_shardings=(state_shardings(mesh, state, split), whole),
        compiler_options=compiler_options or None,
    )


def mean_of_devices(mesh: Mesh, function: Callable[[Any, Any], Any], whole: Any, batch: Any) -> Any:
    """function(whole, batch) of each device's part of batch, and the mean of what the devices find, in one reduction.

    Left to itself XLA sums over the devices wherever a batch axis is contracted: once a pass of a network, and only
    then adds the passes. Here a device adds its own first.

    Args:
      function: what it is given and gives are trees of arrays.
      whole: every device has it.
      batch: split along the first axis, by as many as there are devices.
    """

    def part(whole: Any, batch: Any) -> Any:
        own = lax.pcast(whole, "data", to="varying")  # or a gradient in it would be summed where it is used
        return lax.pmean(function(own, batch), "data")

    return jax.shard_map(part, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("data")), out_specs=PartitionSpec())(
        whole, batch
    )


def update_in_parts(
    mesh: Mesh | None,
    function: Callable[[Any, Any, Any], Any],
    params: Any,
    others: Any,
    kept: Any,
    *,
    number_by_number: bool = True,
) -> Any:
    """function(params, others, kept) -> (params, kept), each device computing its part; without a mesh just that.

    Left to itself XLA splits what an update reads as well, back through the networks' gradients, and gathers maps
    instead of parameters. Here the update is given whole gradients and gives whole parameters.

    Args:
      function: its results have the shapes of its arguments.
      params, others: every device has them.
      kept: lies in parts, as split_spec says, and stays so.
      number_by_number: a number of the results depends on that one of the arguments alone. Where it does not (a clip by
        a norm, a mean of rows) XLA computes the whole, from whole gradients and to whole parameters.
    """
    if mesh is None:
        return function(params, others, kept)
    if not number_by_number:
        whole = NamedSharding(mesh, PartitionSpec())
        params, others = lax.with_sharding_constraint((params, others), whole)
        params, kept = function(params, others, kept)
        parts = jax.tree.map(lambda leaf: NamedSharding(mesh, split_spec(mesh, leaf.shape)), kept)
        return lax.with_sharding_constraint(params, whole), lax.with_sharding_constraint(kept, parts)

    def own(leaf: Any) -> Any:
        spec = split_spec(mesh, leaf.shape)
        if "data" not in spec:
            return leaf
        axis = len(spec) - 1
        length = leaf.shape[axis] // mesh.size
        return lax.dynamic_slice_in_dim(leaf, lax.axis_index("data") * length, length, axis)

    def part(params: Any, others: Any, kept: Any) -> Any:
        return function(jax.tree.map(own, params), jax.tree.map(own, others), kept)

    def specs(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: split_spec(mesh, leaf.shape), tree)

    everywhere = PartitionSpec()
    in_parts = jax.shard_map(
        part, mesh=mesh, in_specs=(everywhere, everywhere, specs(kept)), out_specs=(specs(params), specs(kept))
    )
    params, kept = in_parts(params, others, kept)
    return lax.with_sharding_constraint(params, NamedSharding(mesh, everywhere)), kept


def placed_inputs(mesh: Mesh | None, what: GAN | TrainConfig | Drawing) -> Inputs:
    """The shapes and types of a step's inputs, on a mesh with input_shardings."""
    inputs = input_shapes(what)
    return inputs if mesh is None else jax.tree.map(placed_shape, inputs, input_shardings(mesh, inputs))


def stacked_inputs(inputs: Inputs, steps: int) -> Inputs:
    """The shapes and types of the inputs of several steps, an axis of steps in front, from those of one."""

    def stacked(a: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        there: Any = a.sharding
        split = there and NamedSharding(there.mesh, PartitionSpec(None, *there.spec))
        return jax.ShapeDtypeStruct((steps, *a.shape), a.dtype, sharding=split)

    return jax.tree.map(stacked, inputs)


def input_shardings(mesh: Mesh, inputs: Inputs) -> Any:
    """Inputs of shardings: batch axes are split, latents' too, else every device would run the whole generator.

    None where inputs (arrays or their shapes) has none.
    """
    whole, batch = PartitionSpec(), PartitionSpec("data")
    axes = {"g_latents": batch, "g_labels": batch, "d_keys": whole, "g_key": whole}  # the others: [n_dis, batch, ...]
    of: Any = {
        name: None if x is None else NamedSharding(mesh, axes.get(name, PartitionSpec(None, "data")))
        for name, x in inputs._asdict().items()
    }
    return Inputs(**of)


def own_columns(mesh: Mesh | None, what: GAN | TrainConfig | Drawing) -> np.ndarray | slice:
    """Which images of a batch lie on this process's devices: row numbers; a slice of all where there is no mesh."""
    if mesh is None:
        return slice(None)
    batch_size = drawing(what).batch_size
    parts = NamedSharding(mesh, PartitionSpec("data")).addressable_devices_indices_map((batch_size,))
    return np.unique(np.concatenate([np.arange(batch_size)[i] for i in parts.values() if i is not None]))


def sharded_inputs(mesh: Mesh, what: GAN | TrainConfig | Drawing) -> Callable[[Images, int, int], Inputs]:
    """inputs.draw_inputs, as (data, step, rollbacks) -> inputs on the mesh's devices.

    Each process reads its own devices' columns of a batch; latents and labels are drawn in parts, on the devices.
    """
    whole = drawing(what)
    split, own = NamedSharding(mesh, PartitionSpec(None, "data")), own_columns(mesh, whole)
    on_devices = jax.jit(draw, static_argnums=0, out_shardings=input_shardings(mesh, input_shapes(whole)))

    def across(part: np.ndarray | None) -> jax.Array | None:
        if part is None:
            return None
        shape = (whole.n_dis, whole.batch_size, *part.shape[2:])
        return jax.make_array_from_process_local_data(split, part, shape)

    def inputs(data: Images, step: int, rollbacks: int) -> Inputs:
        images, labels = real_batch(whole, data, step, rollbacks, own)
        return on_devices(whole, across(images), across(labels), np.uint32(step), np.uint32(rollbacks))

    return inputs
