"""`sngan train` from a checkout: train a preset; without arguments `fashion`, on images that are here."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("train")
