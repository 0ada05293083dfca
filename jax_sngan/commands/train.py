"""Trains an SN-GAN in JAX; without arguments the preset `fashion`, on images that ship with the package."""

from jax_sngan.commands import cli


def main() -> int:
    """The exit code: 0 done, 1 a number was not finite, 128 + signal when stopped early."""
    config, run, arguments = cli.training_arguments(__doc__)
    from jax_sngan.training import trainer  # jax takes a second to load: --help and a wrong option do without

    if arguments.gan is None:
        return cli.run_training(config, run, arguments, trainer.describe, trainer.train)
    from jax_sngan.commands.own_gan import own_gan
    from jax_sngan.training.task import Task

    gan = own_gan(arguments.gan)(config)
    return cli.run_training(
        config,
        run,
        arguments,
        lambda config: trainer.describe(config, gan),
        lambda config, run: trainer.train_in_workdir(Task(config, run, gan, arguments.gan)),
    )
