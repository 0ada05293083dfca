"""`sngan replay` from a checkout: replay a recorded training trajectory of a public program."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("replay")
