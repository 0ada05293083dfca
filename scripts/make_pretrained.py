"""`sngan make-pretrained` from a checkout: a run's generator as the package ships it."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("make-pretrained")
