"""The ladder: tests that hold jax_sngan and torch_ref equal, from one operation to whole training runs."""
