"""Rung 5, one whole training step on real images: all that it writes, from a state in the middle of training."""

import dataclasses
import math
import types
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np
import pytest
import torch

import torch_ref.core.inputs
import torch_ref.core.state
import torch_ref.core.step
from jax_sngan.config.schema import TrainConfig, flatten, replace
from jax_sngan.core import parts
from jax_sngan.core import step as update
from jax_sngan.core.inputs import draw_inputs
from jax_sngan.core.losses import LOSSES
from jax_sngan.core.state import create_state
from jax_sngan.data import datasets
from jax_sngan.interop import torch_layout
from parity_tests.accelerators import accelerator_forms
from parity_tests.compare import relative_error
from parity_tests.configs import BASE, EPSILON_HAT, RESNET, U_FIRST
from parity_tests.tolerances import UPDATE_BF16, UPDATE_F32, UPDATE_F64
from parity_tests.trees import QUICK_COMPILE, assert_agree, biases_before_batch_norm, random_state

# A relativistic loss is of differences of scores: D's last bias has a true gradient of zero, and Adam would make steps
# of its rounding.
UNBIASED = {"model.score_bias": False}
NO_NORM = {"model.spectral_norm.networks": "none"}
CASES = {
    # Every loss on the plainest step.
    **{name: {"loss": name, **(UNBIASED if game.g_sees_real else {})} for name, game in LOSSES.items()},
    # The presets' shape: several D updates, momentum, a falling rate.
    "two D updates": {
        "n_dis": 2,
        "ema_decay": 0.9,
        "generator_optimizer.beta1": 0.5,
        "generator_optimizer.beta2": 0.999,
        "discriminator_optimizer.schedule": "linear",
        "generator_optimizer.schedule": "linear",
        "generator_optimizer.decay_start": 2,
    },
    "generator first": {
        "update_order": "generator_first",
        "passes": "joint",
        "loss": "non_saturating",
        "generator_batch_multiplier": 2,
        "model.num_classes": 10,
        "model.score_bias": False,
        "ema_decay": 0.0,
        **EPSILON_HAT,
    },
    "resnet": {**RESNET, "n_dis": 2, "passes": "joint", "model.batch_norm_eps": 2e-5},
    # What differs in torch-mimicry's and the authors' programs.
    "resnet, their options": {
        **RESNET,
        "model.num_classes": 0,
        "update_order": "generator_first",
        "generator_batch_multiplier": 2,
        "model.upsampling": "bilinear",
        "model.shortcut_input": "activated",
        "model.score_bias": False,
        "discriminator_optimizer.beta1": 0.5,
        "discriminator_optimizer.learning_rate": 1e-3,
        **EPSILON_HAT,
    },
    # The relatives: what bounds D, if anything does.
    "no constraint": NO_NORM,
    "spectral norm in both, to norm 2": {"model.spectral_norm.networks": "both", "model.spectral_norm.target": 2.0},
    "weight clipping": {**NO_NORM, "weight_clip": 0.05, "loss": "wasserstein"},
    "gradient penalty": {**NO_NORM, "penalty.kind": "gradient_penalty", "loss": "wasserstein", "n_dis": 2},
    "one-sided gradient penalty": {
        **NO_NORM,
        "penalty.kind": "gradient_penalty",
        "penalty.sides": "one",
        "penalty.target": 0.01,  # below the norms of these networks, so that there is something to punish
        "model.discriminator_norm": "layer",
    },
    "r1": {"penalty.kind": "r1", "penalty.weight": 100.0, "passes": "joint", "model.num_classes": 10},
    "dragan": {**NO_NORM, "penalty.kind": "dragan", "loss": "non_saturating"},
    # What else a GAN is made of.
    "batch norm in D alone": {
        **NO_NORM,
        "model.discriminator_norm": "batch",
        "model.generator_norm": "none",
        "loss": "minimax",
    },
    "dropout, noise and augmentation": {
        "model.generator_dropout": 0.3,
        "model.discriminator_dropout": 0.2,
        "dequantize": True,
        "augment.colour": True,
        "augment.translation": 0.125,
        "augment.cutout": 0.5,
        "n_dis": 2,
    },
    "a batch in parts": {
        "accumulate": 2,
        "model.generator_dropout": 0.3,
        "penalty.kind": "gradient_penalty",
        "generator_batch_multiplier": 2,
        "model.spectral_norm.networks": "both",
    },
    "u first, in parts": {**U_FIRST, "accumulate": 4, "passes": "joint"},
    "the exact operator norm, in both": {
        "model.spectral_norm.form": "operator",
        "model.spectral_norm.networks": "both",
        "model.spectral_norm.target": 1.5,
    },
    "cosine, the average warmed up": {
        "generator_optimizer.schedule": "cosine",
        "discriminator_optimizer.schedule": "cosine",
        "discriminator_optimizer.decay_start": 2,
        "ema_warmup": True,
    },
    "resnet of 28 pixels, normalised and dropped": {
        **RESNET,
        "model.image_size": 28,
        "model.channels": 1,
        "model.discriminator_norm": "batch",
        "model.generator_dropout": 0.1,
        "model.discriminator_dropout": 0.1,
        "model.spectral_norm.networks": "both",
    },
    "mlp": {
        "model.architecture": "mlp",
        "model.discriminator_norm": "layer",
        "model.discriminator_dropout": 0.1,
        "model.output": "identity",
    },
    # G's update scores real images too: in a pass of their own, and in one batch with the generated.
    "relativistic, in parts": {
        "loss": "relativistic_hinge",
        **UNBIASED,
        "n_dis": 2,
        "accumulate": 2,
        "generator_batch_multiplier": 2,
        "model.num_classes": 10,
        "model.discriminator_dropout": 0.2,
        "dequantize": True,
        "augment.colour": True,
    },
    "relativistic, joint, generator first": {
        "loss": "relativistic_non_saturating",
        **UNBIASED,
        "passes": "joint",
        "update_order": "generator_first",
        "model.num_classes": 10,
        **NO_NORM,
        "model.discriminator_norm": "batch",
    },
    # The one case with classes in which D sees real and generated images, and so their labels, in two passes.
    "parametrizations.spectral_norm": {**U_FIRST, "n_dis": 2, "loss": "non_saturating", "model.num_classes": 10},
}
NO_TORCH_TWIN = {  # PyTorch's spectral norms have no such option; rung 2 holds these against the formulas
    ("model.spectral_norm.eps_form", "add"),
    ("model.spectral_norm.init", "normal"),
    ("model.spectral_norm.evaluation", "iterate"),
}


@cache
def images(image_size: int, channels: int) -> datasets.Dataset:
    return datasets.load_data("fashion", image_size=image_size, channels=channels)


def both_steps(config: TrainConfig, step: Any, *, fresh: bool = False) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """State and logs under torch_ref's names after a step of ours and after a step of the reference, and its state."""
    state = random_state(config, fresh=fresh)
    reference = torch_ref.core.state.create_state(config)
    torch_ref.core.state.load_state(reference, torch_layout.to_torch(config, state))
    inputs = draw_inputs(drawing(config), images(config.model.image_size, config.model.channels), step=int(state.step))
    torch_inputs = torch_ref.core.inputs.from_numpy(torch_layout.inputs_to_torch(inputs))

    state, logs = step(state, inputs)
    reference, reference_logs = torch_ref.core.step.training_step(config, reference, torch_inputs)
    ours = torch_layout.to_torch(config, state) | {f"logs.{k}": v for k, v in logs.items()}
    theirs = torch_ref.core.state.dump(reference) | {f"logs.{k}": v for k, v in reference_logs.items()}
    return ours, theirs, reference


def drawing(config: TrainConfig) -> TrainConfig:
    """What drawing reads of a config, so that cases share one compilation of it."""
    read = ("n_dis", "generator_batch_multiplier", "model.image_size", "model.channels", "model.num_classes")
    options = flatten(config)
    # The smallest resnet sizes are sizes of the standard CNN too.
    return replace(BASE, {name: options[name] for name in (*read, "model.dtype")} | {"dequantize": config.needs_keys})


def quick_step(config: TrainConfig) -> Any:
    return jax.jit(partial(update.training_step, config), compiler_options=QUICK_COMPILE)


@pytest.mark.parametrize("case", CASES)
def test_one_step_in_float64(case):
    config = replace(BASE, CASES[case])
    ours, theirs, reference = both_steps(config, quick_step(config))
    scales = biases_before_batch_norm(config.model, ours)
    assert_agree(ours, theirs, UPDATE_F64, scales)

    # Without momentum Adam's first moment is the gradient: the one that the reference's backward pass left.
    for network in torch_layout.NETWORKS:
        if getattr(config, f"{network}_optimizer").beta1 == 0:
            prefix = f"{network}_opt.exp_avg."
            gradients = {prefix + n: p.grad for n, p in getattr(reference, network).named_parameters()}
            own_scales = {name: scale for name, scale in scales.items() if name in gradients}
            assert_agree({name: ours[name] for name in gradients}, gradients, UPDATE_F64, own_scales)


# Where accelerators compute a step otherwise: stacks of matrices of one network and of both, in each order; images of
# several D updates at once, with classes, dropout and running statistics; convolutions beside a change of size.
ELSEWHERE = [
    "two D updates",
    "resnet",
    "resnet, their options",
    "spectral norm in both, to norm 2",
    "dropout, noise and augmentation",
    "parametrizations.spectral_norm",
]


@pytest.mark.parametrize("case", ELSEWHERE)
def test_one_step_as_an_accelerator_computes_it(case):
    config = replace(BASE, CASES[case])
    with accelerator_forms():
        ours, theirs, _ = both_steps(config, quick_step(config))
    assert_agree(ours, theirs, UPDATE_F64, biases_before_batch_norm(config.model, ours))


# A large batch of D's, part by part: passes apart and joint, classes, a penalty and what it draws, no constraint.
MANY_IMAGES = ["two D updates", "gradient penalty", "r1", "weight clipping"]


@pytest.mark.parametrize("case", MANY_IMAGES)
def test_one_step_as_a_cpu_computes_it_of_many_images(case, monkeypatch):
    monkeypatch.setattr(parts, "MANY", 1)
    monkeypatch.setattr(parts, "PARTS", 2)
    config = replace(BASE, CASES[case])
    assert config.batch_size % parts.PARTS == 0
    ours, theirs, _ = both_steps(config, quick_step(config))
    assert_agree(ours, theirs, UPDATE_F64, biases_before_batch_norm(config.model, ours))


def test_the_first_step_of_a_run():
    """Adam divides by the square root of nothing but this step's gradient."""
    config = replace(BASE, {"n_dis": 2})
    ours, theirs, _ = both_steps(config, quick_step(config), fresh=True)
    assert_agree(ours, theirs, UPDATE_F64, biases_before_batch_norm(config.model, ours))


def test_one_step_in_float32_as_it_ships():
    config = replace(BASE, CASES["two D updates"] | {"model.dtype": "float32"})
    ours, theirs, _ = both_steps(config, update.train_step(config))
    assert_agree(ours, theirs, UPDATE_F32, biases_before_batch_norm(config.model, ours))


@pytest.mark.parametrize("case", ["generator first", "resnet"])
def test_one_step_in_float32(case):
    config = replace(BASE, CASES[case] | {"model.dtype": "float32"})
    ours, theirs, _ = both_steps(config, quick_step(config))
    assert_agree(ours, theirs, UPDATE_F32, biases_before_batch_norm(config.model, ours))


LAST_LAYERS = {  # every kind of last layer: pixels and scores by convolution and product, projections of both widths
    "standard_cnn": {"n_dis": 2},
    "standard_cnn, classes": {"model.num_classes": 10, "loss": "non_saturating"},  # no loss of scores that cancel
    "resnet, classes": {**RESNET, "loss": "non_saturating"},
    "mlp": {"model.architecture": "mlp"},
}


@pytest.mark.parametrize("case", LAST_LAYERS)
def test_one_step_computed_in_bfloat16(case):
    """Sigma, weights, statistics and scores stay float32; each product's factors have eight bits in both frameworks."""
    config = replace(BASE, {"model.dtype": "float32", "model.compute_dtype": "bfloat16", **LAST_LAYERS[case]})
    ours, theirs, _ = both_steps(config, quick_step(config))
    exact, _, _ = both_steps(replace(config, {"model.compute_dtype": "same"}), quick_step(config))
    assert {str(np.asarray(a).dtype) for a in ours.values()} == {"float32", "int32"}
    for name in ("logs.d_loss", "logs.d_real", "logs.d_fake", "logs.g_loss"):
        apart, lost = (relative_error(ours[name], other[name]) for other in (theirs, exact))
        assert apart <= UPDATE_BF16, f"{name}: {apart:.1e}"
        assert lost <= UPDATE_BF16, f"{name}: {lost:.1e} from float32"


def test_a_generator_update_leaves_no_gradient_in_the_discriminator():
    config = replace(BASE, {"model.dtype": "float32"})
    state = torch_ref.core.state.create_state(config)
    latents = torch.randn(4, config.model.latent_size)
    inputs = torch_ref.core.inputs.Inputs(torch.empty(0), torch.empty(0), latents)
    torch_ref.core.step.generator_update(config, state, inputs)
    assert all(p.grad is None and p.requires_grad for p in state.discriminator.parameters())
    assert all(p.grad is not None for p in state.generator.parameters())


# What a step starts from and consumes: both frameworks are given the same, so it is held against what it should be. ---


@pytest.mark.parametrize("changes", [{}, RESNET], ids=["standard_cnn", "resnet"])
def test_a_fresh_state_is_torch_refs(changes):
    widths = {"model.generator_width": 32, "model.discriminator_width": 32}
    config = replace(BASE, changes | widths)
    ours = {name: np.asarray(a) for name, a in torch_layout.to_torch(config, create_state(config)).items()}
    theirs = {
        name: np.asarray(a) for name, a in torch_ref.core.state.dump(torch_ref.core.state.create_state(config)).items()
    }
    assert sorted(ours) == sorted(theirs)
    drawn = [n for n, a in theirs.items() if np.ptp(a) > 0 or n.endswith(("weight_u", "weight_v"))]
    for name, expected in theirs.items():
        if name not in drawn:
            np.testing.assert_array_equal(ours[name], expected, err_msg=name)
    # The frameworks draw apart; the root mean squares of n numbers each differ by 1 / sqrt(n), seldom by six times it.
    for name in drawn:
        a, b = (math.sqrt(np.mean(np.square(framework[name]))) for framework in (ours, theirs))
        assert abs(a / b - 1) < 6 / math.sqrt(ours[name].size), name
    for name in (n for n in ours if n.startswith("generator_ema.")):
        np.testing.assert_array_equal(ours[name], ours[name.replace("generator_ema.", "generator.")])


def test_no_latent_is_drawn_twice():
    config = replace(BASE, {"n_dis": 2})
    steps = [draw_inputs(config, images(28, 1), step) for step in range(3)]
    latents = np.concatenate([np.asarray(a).reshape(-1, 8) for i in steps for a in (i.d_latents, i.g_latents)])
    assert len(np.unique(latents, axis=0)) == len(latents) == 3 * 3 * 4


def test_an_epoch_holds_each_image_once_with_its_label():
    config, whole = replace(BASE, {"model.num_classes": 10}), images(28, 1)
    few = types.SimpleNamespace(images=whole.images[:12], labels=whole.labels[:12])
    epochs = []
    for epoch in range(2):
        steps = [draw_inputs(config, few, 3 * epoch + i) for i in range(3)]
        pairs = [
            (np.asarray(x).tobytes(), int(y))
            for i in steps
            for x, y in zip(i.real_images[0], i.real_labels[0], strict=True)
        ]
        epochs.append(pairs)
        assert sorted(pairs) == sorted((x.tobytes(), int(y)) for x, y in zip(few.images, few.labels, strict=True))
    assert epochs[0] != epochs[1]


def test_a_flip_mirrors_left_to_right():
    plain, flipped = (
        np.asarray(draw_inputs(replace(BASE, {"flip": flip}), images(28, 1), 0).real_images[0])
        for flip in (False, True)
    )
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, plain, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert any(mirrored)


# That nothing is left out ---------------------------------------------------------------------------------------------


def choices(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted option, choice) of every option that has a list of choices."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from choices(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif get_origin(hint) is Literal:
            yield from ((prefix + name, value) for value in get_args(hint))


@pytest.mark.parametrize(("option", "choice"), list(choices(TrainConfig)))
def test_every_choice_is_in_some_case(option, choice):
    if (option, choice) in NO_TORCH_TWIN:
        with pytest.raises(NotImplementedError, match=option.rpartition(".")[2]):
            torch_ref.core.state.create_state(replace(BASE, {option: choice}))
    elif option in ("model.dtype", "model.compute_dtype"):
        assert choice in ("float32", "float64", "same", "bfloat16")  # each has its own test above
    elif option == "precision":
        assert BASE.precision == "highest"  # the others are for GPUs and TPUs: tests/test_precision.py
    else:
        assert any(flatten(replace(BASE, changes))[option] == choice for changes in CASES.values())
