"""`sngan parity` from a checkout: measure JAX against PyTorch, from one operation to a whole training."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this copy, installed or not

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("parity")
