"""`sngan plot-lag` from a checkout: how far one power iteration lags behind the singular value."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("plot-lag")
