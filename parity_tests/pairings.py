"""What rung 6 trains: every network with every loss and every regulariser. A new one is one line here."""

from itertools import cycle
from typing import Any

from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.losses import LOSSES
from parity_tests.configs import BASE, RESNET

# Width 2 and one channel: float64 convolutions are slow loops in XLA, and formulas have no width.
NETWORKS: dict[str, dict[str, Any]] = {
    "standard_cnn": {},
    "resnet": {**RESNET, "model.num_classes": 0, "model.channels": 1, "model.image_size": 28},
    "mlp": {"model.architecture": "mlp"},
}
_NONE = {"model.spectral_norm.networks": "none"}
REGULARISERS: dict[str, dict[str, Any]] = {
    "spectral_norm": {},
    "none": _NONE,
    "weight_clipping": {**_NONE, "weight_clip": 0.05},
    "gradient_penalty": {**_NONE, "penalty.kind": "gradient_penalty"},
    "one_sided": {**_NONE, "penalty.kind": "gradient_penalty", "penalty.sides": "one", "penalty.target": 0.1},
    "r1": {**_NONE, "penalty.kind": "r1", "penalty.weight": 5.0},
    "dragan": {**_NONE, "penalty.kind": "dragan"},
    "operator_norm": {"model.spectral_norm.form": "operator"},
    "spectral_norm_in_both": {"model.spectral_norm.networks": "both", "model.spectral_norm.target": 1.5},
}
# What every run of the tests has; all pairings are `pytest -m long`. The small network has every loss and every
# regulariser; the others, whose cases take five times as long, the paper's pairing and one with another bound on D.
_CONVOLUTIONAL = [
    ("standard_cnn", "hinge", "spectral_norm"),
    ("standard_cnn", "wasserstein", "gradient_penalty"),
    ("resnet", "hinge", "spectral_norm"),
    ("resnet", "non_saturating", "weight_clipping"),
]
# What else decides how steps follow one another, once each; of `pytest -m long` but for the small network's.
OTHERS: dict[str, dict[str, Any]] = {
    "conditional, joint passes, two D updates": {
        "model.num_classes": 10,
        "passes": "joint",
        "n_dis": 2,
        "generator_optimizer.schedule": "constant",
        "discriminator_optimizer.schedule": "constant",
    },
    "resnet as the authors train it": {
        **NETWORKS["resnet"],
        "update_order": "generator_first",
        "generator_batch_multiplier": 2,
        "model.score_bias": False,
        "generator_optimizer.eps_form": "epsilon_hat",
        "discriminator_optimizer.eps_form": "epsilon_hat",
        "model.num_classes": 10,
    },
    "mlp, noise everywhere, a batch in parts": {
        **NETWORKS["mlp"],
        "model.generator_dropout": 0.3,
        "model.discriminator_dropout": 0.2,
        "dequantize": True,
        "augment.colour": True,
        "augment.translation": 0.125,
        "augment.cutout": 0.5,
        "accumulate": 2,
        "batch_size": 16,  # BatchNorm of a part of two images is a sign, whose gradient is rounding
    },
    "mlp, batch norm in D alone, cosine, the average warmed up": {
        **NETWORKS["mlp"],
        **_NONE,
        "model.discriminator_norm": "batch",
        "model.generator_norm": "none",
        "generator_optimizer.schedule": "cosine",
        "discriminator_optimizer.schedule": "cosine",
        "ema_warmup": True,
        "batch_size": 16,
        "loss": "non_saturating",  # the hinge's kinks make rounding grow to 1e-7 here
    },
    "mlp, points of the plane, layer norm": {
        **NETWORKS["mlp"],
        **_NONE,
        "model.image_size": 1,
        "model.channels": 2,
        "model.output": "identity",
        "model.depth": 2,
        "model.discriminator_norm": "layer",
        "penalty.kind": "gradient_penalty",
        "loss": "wasserstein",
        "batch_size": 16,
    },
}
RUN: dict[str, Any] = {
    "model.generator_width": 2,
    "model.discriminator_width": 2,
    "ema_decay": 0.99,
    "generator_optimizer.schedule": "linear",
    "discriminator_optimizer.schedule": "linear",
}

# Options that no pairing turns, each with the rung that does, or the reason. An option that is neither here nor
# turned by a pairing fails test_6: a new regulariser cannot come without its trajectories.
_SPECTRAL = "rungs 2 and 5: how sigma is estimated"
_ADAM = "rungs 1 and 5: a number in Adam's formula"
_NETWORK = "rungs 2, 3 and 5: a part of the network"
_SIZE = "a size"
NOT_TURNED = {
    "class_names": "names",
    **{f"model.spectral_norm.{name}": _SPECTRAL for name in ("iterations", "order", "eps", "eps_form", "init")},
    **{f"model.spectral_norm.{name}": _SPECTRAL for name in ("warmup", "evaluation")},
    **{
        f"{network}_optimizer.{name}": _ADAM
        for network in ("generator", "discriminator")
        for name in ("learning_rate", "beta1", "beta2", "eps", "decay_start")
    },
    **{f"model.{name}": _NETWORK for name in ("upsampling", "shortcut_input", "batch_norm_eps", "batch_norm_momentum")},
    "model.generator_width": _SIZE,
    "model.discriminator_width": _SIZE,
    "model.latent_size": _SIZE,
    "steps": _SIZE,
    "model.dtype": "float64 here, float32 in the comparison at full width",
    "model.compute_dtype": "rung 5: a run in bfloat16 parts from every other within a few steps",
    "precision": "tests/test_precision.py: a CPU multiplies in full whatever it says",
    "ema_decay": "rung 5: 0 and another",
    "name": "computes nothing",
    "data": "tests/test_data.py: which images",
    "flip": "tests/test_inputs.py: inputs are drawn once for both frameworks",
    "seed": "tests/test_inputs.py: inputs are drawn once for both frameworks",
}


def config_of(network: str, loss: str, regulariser: str, steps: int) -> TrainConfig:
    """The narrow float64 training of one pairing."""
    # A relativistic loss gives D's last bias a true gradient of zero, and Adam would make steps of its rounding.
    unbiased = {"model.score_bias": False} if LOSSES[loss].g_sees_real else {}
    return replace(
        BASE, RUN | NETWORKS[network] | REGULARISERS[regulariser] | unbiased | {"loss": loss, "steps": steps}
    )


def every_pairing() -> list[tuple[str, str, str]]:
    """(network, loss, regulariser): all of them."""
    return [(n, loss, r) for n in NETWORKS for loss in LOSSES for r in REGULARISERS]


def covering() -> list[tuple[str, str, str]]:
    """Those that every run of the tests has: every network, every loss and every regulariser."""
    most = max(len(LOSSES), len(REGULARISERS))
    small = [("mlp", loss, r) for _, loss, r in zip(range(most), cycle(LOSSES), cycle(REGULARISERS), strict=False)]
    return _CONVOLUTIONAL + small
