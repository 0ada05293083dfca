"""What `accelerator-check` runs on a machine with a GPU or TPU: ladder, benchmark, resuming, one report."""
