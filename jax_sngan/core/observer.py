"""What is watched of the state that a step leaves: a program of its own, run after the steps that are logged.

It reads the state and changes nothing, so that the steps are the same program, however much is watched.
"""

from functools import partial
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from jax_sngan.core import watch
from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.precision import at_its_precision
from jax_sngan.core.state import TrainState
from jax_sngan.core.step import Logs, discriminator_update, generator_update, real_images
from jax_sngan.models.network import Network, Variables
from jax_sngan.nn.operator_norm import largest_singular_value
from jax_sngan.nn.passes import kernel_matrices, sigmas


@at_its_precision
def observe(
    gan: GAN,
    state: TrainState,
    inputs: Inputs | None = None,
    *,
    singular_values: bool = False,
    mesh: Mesh | None = None,
    split: bool = False,
) -> Logs:
    """The numbers of a state after a training step.

    Args:
      inputs: of the step that led to it, where all is watched: each layer's norms and D's scores are then told too.
      singular_values: whether the true largest singular values are told beside the sigmas.
      mesh: that the batch is split over; split: whether the optimisers' states are, too.
    Returns:
      g_average_distance, g_learning_rate and d_learning_rate (where the optimisers tell), d_sigma/LAYER and
      g_sigma/LAYER of the layers that are normalised by power iteration, d_singular_value/LAYER and
      g_singular_value/LAYER, each []; of inputs the norms of watch.norms by layer, each [], and d_real_scores and
      d_fake_scores [batch].
    """
    logs: Logs = {"g_average_distance": watch.average_distance(state.generator_ema, state.generator.params)}
    for letter, optimizer, own in (
        ("g", gan.generator_optimizer, state.generator_opt),
        ("d", gan.discriminator_optimizer, state.discriminator_opt),
    ):
        if (rate := watch.learning_rate(optimizer, own, state.step - 1)) is not None:
            logs[f"{letter}_learning_rate"] = rate
    logs |= _sigmas("g", gan.networks.generator, state.generator, singular_values)
    logs |= _sigmas("d", gan.networks.discriminator, state.discriminator, singular_values)
    return logs if inputs is None else logs | _all(gan, state, inputs, mesh, split)


def _sigmas(letter: str, network: Network, variables: Variables, singular_values: bool) -> Logs:
    """Those that the next training pass divides by, after its own power iterations."""
    if not jax.tree.leaves(variables.spectral):
        return {}
    module = network.module(network.iterate(variables))
    logs = {f"{letter}_sigma/{layer}": sigma for layer, sigma in sigmas(module).items()}
    if singular_values:
        true = {layer: largest_singular_value(matrix) for layer, matrix in kernel_matrices(module).items()}
        logs |= {f"{letter}_singular_value/{layer}": value for layer, value in true.items()}
    return logs


def _all(gan: GAN, state: TrainState, inputs: Inputs, mesh: Mesh | None, split: bool) -> Logs:
    """By layer, the norms of the updates that the step's last batches would lead to from here; and their scores."""
    rounds = ("real_images", "real_labels", "d_latents", "d_labels", "d_keys")
    last = inputs._replace(**{name: a[-1] for name in rounds if (a := getattr(inputs, name)) is not None})
    _, of_d = discriminator_update(gan, state, last, mesh=mesh, split=split, by_layer=True)
    _, of_g = generator_update(gan, state, last, mesh=mesh, split=split, by_layer=True)
    by_layer = {name: value for name, value in (of_d | of_g).items() if "/" in name}
    networks = gan.networks
    fake, _ = networks.generator.apply(state.generator, last.d_latents, last.d_labels, train=False)
    real = real_images(gan, last.real_images, last.d_keys)

    def scores(images: Array, labels: Any) -> Array:
        return networks.discriminator.apply(state.discriminator, images, labels, train=False)[0]

    return by_layer | {
        "d_real_scores": scores(real, last.real_labels),
        "d_fake_scores": scores(fake, last.d_labels),
    }


def observer(
    gan: GAN, *, singular_values: bool, mesh: Mesh | None, split: bool, options: dict[str, Any] | None = None
) -> Any:
    """observe, jitted: (state, inputs or None) -> numbers that every process has; options: XLA's compiler options."""
    whole = None if mesh is None else jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(
        partial(observe, gan, singular_values=singular_values, mesh=mesh, split=split),
        out_shardings=whole,
        compiler_options=options or None,
    )
