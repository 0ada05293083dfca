"""`sngan certify` from a checkout: how steep a run's discriminator is, bounded from both sides."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("certify")
