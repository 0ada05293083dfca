"""`sngan search` from a checkout: better pictures at the same cost."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("search")
