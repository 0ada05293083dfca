"""`sngan report` from a checkout: one page that tells of a run, or of several side by side."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("report")
