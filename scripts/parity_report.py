"""`sngan parity` from a checkout: measure JAX against PyTorch, from one operation to a whole training."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # this copy, installed or not

from jax_sngan.commands.sngan import run

if __name__ == "__main__":
    run("parity")
