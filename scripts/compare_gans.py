"""`sngan compare` from a checkout: train the GAN family side by side, on one page."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("compare")
