"""`sngan convert` from a checkout: checkpoints between JAX, PyTorch and public programs."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("convert")
