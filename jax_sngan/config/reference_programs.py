"""The training protocols of two public SN-GAN programs, as changes of options: one trainer, no second code path."""

from typing import Any

from jax_sngan.config.schema import TrainConfig, replace

# Every option in which the two programs differ from each other or from a default is named in both. Learning rate,
# betas, n_dis, batch and widths are settings of a run, not of a program, and stay as they are.
PROTOCOLS: dict[str, dict[str, Any]] = {
    # The SN-GAN authors' Chainer code, pfnet-research/sngan_projection (updater.py, source/, resnet_32.py).
    "authors": {
        "update_order": "generator_first",
        "passes": "separate",
        "generator_batch_multiplier": 2,
        "ema_decay": 0.0,
        "model.upsampling": "nearest",
        "model.shortcut_input": "raw",
        "model.score_bias": False,  # at 32 pixels; their networks for 64 and 128 have one
        "model.batch_norm_eps": 2e-5,
        "model.batch_norm_momentum": 0.1,
        "model.spectral_norm.iterations": 1,
        "model.spectral_norm.order": "v_first",
        "model.spectral_norm.eps": 1e-12,
        "model.spectral_norm.eps_form": "add",
        "model.spectral_norm.init": "normal",
        "model.spectral_norm.warmup": 0,
        "model.spectral_norm.evaluation": "iterate",
        "generator_optimizer.eps": 1e-8,
        "generator_optimizer.eps_form": "epsilon_hat",
        "generator_optimizer.schedule": "linear",
        "discriminator_optimizer.eps": 1e-8,
        "discriminator_optimizer.eps_form": "epsilon_hat",
        "discriminator_optimizer.schedule": "linear",
    },
    # torch-mimicry 0.1.16 (training/trainer.py, nets/gan, nets/sngan, nets/cgan_pd, modules/resblocks.py).
    "mimicry": {
        "update_order": "discriminator_first",
        "passes": "separate",
        "generator_batch_multiplier": 1,
        "ema_decay": 0.0,
        "model.upsampling": "bilinear",
        "model.shortcut_input": "activated",
        "model.score_bias": True,
        "model.batch_norm_eps": 1e-5,
        "model.batch_norm_momentum": 0.1,
        "model.spectral_norm.iterations": 1,
        "model.spectral_norm.order": "v_first",
        "model.spectral_norm.eps": 1e-12,
        "model.spectral_norm.eps_form": "max",
        "model.spectral_norm.init": "unit",
        "model.spectral_norm.warmup": 0,
        "model.spectral_norm.evaluation": "stored",
        "generator_optimizer.eps": 1e-8,
        "generator_optimizer.eps_form": "standard",
        "generator_optimizer.schedule": "linear",
        "discriminator_optimizer.eps": 1e-8,
        "discriminator_optimizer.eps_form": "standard",
        "discriminator_optimizer.schedule": "linear",
    },
}


def with_protocol(config: TrainConfig, name: str) -> TrainConfig:
    """config with a program's update order, passes, forms and layers; name is a key of PROTOCOLS."""
    return replace(config, PROTOCOLS[name])
