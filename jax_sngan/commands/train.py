"""Trains an SN-GAN in JAX; without arguments the preset `fashion`, on images that ship with the package."""

import gc

from jax_sngan.commands import cli


def main() -> int:
    """The exit code: 0 done, 1 a number was not finite, 3 stopped by an alarm, 128 + signal when stopped early."""
    config, run, arguments = cli.training_arguments(__doc__)
    # jax takes a second to load: --help and a wrong option do without
    from jax_sngan.commands.own_gan import own_gan
    from jax_sngan.commands.own_loggers import own_loggers
    from jax_sngan.core.gan import as_gan
    from jax_sngan.training import trainer
    from jax_sngan.training.task import Task

    gc.freeze()  # what was loaded stays: to walk through it again and again takes a tenth of the tracing of a step
    gan = as_gan(config) if arguments.gan is None else own_gan(arguments.gan)(config)
    loggers = own_loggers(arguments.logger)
    return cli.run_training(
        config,
        run,
        arguments,
        lambda config: trainer.describe(config, gan),
        lambda config, run: trainer.train_in_workdir(Task(config, run, gan, arguments.gan), loggers=loggers),
    )
