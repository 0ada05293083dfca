"""`sngan evaluate` from a checkout: score a run, a folder or a file of images; compare two."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("evaluate")
