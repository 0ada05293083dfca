"""`sngan accelerator-check` from a checkout: try everything on a GPU or TPU, in 10 minutes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this copy, installed or not

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("accelerator-check")
