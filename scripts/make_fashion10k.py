"""`sngan make-fashion10k` from a checkout: choose the images of `fashion` again, or verify."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("make-fashion10k")
