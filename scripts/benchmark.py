"""`sngan benchmark` from a checkout: step time and memory beside PyTorch's."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("benchmark")
