"""What is watched of the state that a step leaves, after the steps that are logged. It reads the state and keeps it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from jax_sngan.config.schema import TrainConfig
from torch_ref.core import watch
from torch_ref.core.inputs import Inputs
from torch_ref.core.optim import learning_rate
from torch_ref.core.state import TrainState, create_state, dump, load_state
from torch_ref.core.step import Logs, discriminator_update, generator_update, real_images
from torch_ref.nn.spectral_norm import estimate_sigma, power_iteration


@torch.no_grad()
def observe(
    config: TrainConfig, state: TrainState, inputs: Inputs | None = None, *, singular_values: bool = False
) -> Logs:
    """The numbers of a state after a training step.

    Args:
      inputs: of the step that led to it, where all is watched: each layer's norms and D's scores are then told too.
      singular_values: whether the true largest singular values are told beside the sigmas.
    Returns:
      g_average_distance, g_learning_rate and d_learning_rate, d_sigma/LAYER and g_sigma/LAYER of the layers that are
      normalised by power iteration, d_singular_value/LAYER and g_singular_value/LAYER, each []; of inputs the norms of
      watch.norms by layer, each [], and d_real_scores and d_fake_scores [batch].
    """
    logs = {"g_average_distance": watch.average_distance(state.generator_ema, state.generator)}
    for letter, optimizer in (("g", config.generator_optimizer), ("d", config.discriminator_optimizer)):
        rate = learning_rate(optimizer, state.step - 1, config.steps)
        logs[f"{letter}_learning_rate"] = torch.tensor(rate, dtype=torch.float64)
    logs |= _sigmas("g", state.generator, singular_values)
    logs |= _sigmas("d", state.discriminator, singular_values)
    return logs if inputs is None else logs | _all(config, state, inputs)


def _sigmas(letter: str, network: nn.Module, singular_values: bool) -> Logs:
    """Those that the next training pass divides by, after its own power iterations."""
    logs = {}
    for layer, (matrix, u, v, options) in _spectral_norms(network).items():
        sigma = estimate_sigma(matrix, *power_iteration(matrix, u, v, **options))
        logs[f"{letter}_sigma/{layer}"] = sigma
        if singular_values:
            logs[f"{letter}_singular_value/{layer}"] = torch.linalg.svdvals(matrix)[0]
    return logs


def _spectral_norms(network: nn.Module) -> dict[str, tuple[Tensor, Tensor, Tensor, dict[str, Any]]]:
    """Matrix [out, rest], u [out], v [rest] and how power_iteration is called, by the layer's place."""
    found: dict[str, tuple[Tensor, Tensor, Tensor, dict[str, Any]]] = {}
    for place, layer in network.named_modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                matrix = hook.reshape_weight_to_matrix(layer.weight_orig.detach())
                options = {"iterations": hook.n_power_iterations, "order": "v_first", "eps": hook.eps}
                found[place] = (matrix, layer.weight_u, layer.weight_v, options)
        parametrized = getattr(layer, "parametrizations", {})
        if "weight" in parametrized and isinstance(norm := parametrized["weight"][0], _SpectralNorm):
            matrix = norm._reshape_weight_to_matrix(parametrized["weight"].original.detach())
            options = {"iterations": norm.n_power_iterations, "order": "u_first", "eps": norm.eps}
            found[place] = (matrix, norm._u, norm._v, options)
    return found


def _all(config: TrainConfig, state: TrainState, inputs: Inputs) -> Logs:
    """By layer, the norms of the updates that the step's last batches would lead to from here; and their scores."""
    rounds = ("real_images", "real_labels", "d_latents", "d_labels", "d_keys")
    last = inputs._replace(**{name: a[-1] for name in rounds if (a := getattr(inputs, name)) is not None})
    by_layer: Logs = {}
    for update in (discriminator_update, generator_update):
        copy = create_state(config, device=last.d_latents.device)  # an update changes its state in place
        load_state(copy, dump(state))
        with torch.enable_grad():
            _, logs = update(config, copy, last, by_layer=True)
        by_layer |= {name: value for name, value in logs.items() if "/" in name}
    state.generator.eval()
    state.discriminator.eval()
    fake = state.generator(last.d_latents, last.d_labels)
    real = real_images(config, last.real_images, last.d_keys)
    scores = {
        "d_real_scores": state.discriminator(real, last.real_labels),
        "d_fake_scores": state.discriminator(fake, last.d_labels),
    }
    state.generator.train()
    state.discriminator.train()
    return by_layer | scores
