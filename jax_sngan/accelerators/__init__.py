"""The training step compiled for TPUs and GPUs that are not here, and what that tells before one is rented."""
