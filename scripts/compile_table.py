"""`sngan compile-table` from a checkout: that for several presets and devices, as a table."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("compile-table")
