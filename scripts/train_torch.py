"""`sngan torch` from a checkout: the same run by the PyTorch reference."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("torch")
