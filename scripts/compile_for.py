"""`sngan compile` from a checkout: compile a step for a TPU or GPU that is not here: cost, fit."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("compile")
