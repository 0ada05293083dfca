"""Trains an SN-GAN in JAX; without arguments the preset `fashion`, on images that ship with the package."""

from jax_sngan.commands import cli


def main() -> int:
    """The exit code: 0 done, 1 a number was not finite, 128 + signal when stopped early."""
    config, run, arguments = cli.training_arguments(__doc__)
    from jax_sngan.training.trainer import (  # jax takes a second to load: --help and a wrong option do without
        describe,
        train,
    )

    return cli.run_training(config, run, arguments, describe, train)
