"""What scripts/accelerator_check.py runs on a machine with a GPU or TPU: ladder, benchmark, resuming, one report."""
