"""`sngan export` from a checkout: a run's generator as StableHLO, ONNX or a web page."""

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("export")
