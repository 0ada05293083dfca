"""`sngan sample` from a checkout: images from a run: a grid, an npz, an interpolation."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("sample")
