"""`sngan plot-sample-size` from a checkout: how a score depends on the number of images."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("plot-sample-size")
